"""Bringing the audit log's tables to this version, by the one who writes it, before anything else.

All in one transaction: whoever is killed leaves them as they were. A log of a million events takes
some ten seconds, once.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from .audit_tables import VERSION_TABLE
from .schema_versions import refuse_newer, to_config, versions_of

log = logging.getLogger(__name__)
_FIRST: Final = "0001"  # what was made before versions were written down


def upgrade(connection: Connection) -> None:
    """Bring the tables to this version, in a transaction of this connection, then commit it.

    Raises
    ------
    PermanentError
        The database was made by a newer version.
    SQLAlchemyError
        It does not answer, or this user may not.
    """
    if connection.dialect.name == "sqlite":
        # Its driver would begin a transaction at the first row, and tables would come before it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    config = to_config(connection, "audit")
    refuse_newer(connection, config, VERSION_TABLE, name="The audit log")
    is_old = inspect(connection).has_table("audit_events")
    if is_old and not versions_of(connection, VERSION_TABLE):
        command.stamp(config, _FIRST)
    before = versions_of(connection, VERSION_TABLE)
    head = ScriptDirectory.from_config(config).get_current_head()
    is_due = is_old and before != (head,)
    if is_due:
        log.warning(
            "The audit log is brought from version %s to %s: some ten seconds for a million events",
            ", ".join(before),
            head,
        )
    command.upgrade(config, "head")
    connection.commit()
    if is_due and connection.dialect.name == "sqlite":
        # Else the journal would stay as large as all that was written.
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
