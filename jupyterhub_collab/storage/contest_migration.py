"""Bringing the registry's tables to this version: alembic, from inside the process.

One process at a time, and all in one transaction: whoever comes second waits and finds it done;
whoever is killed leaves the tables as they were.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from . import schema_versions
from .database import DatabaseError, kind_of

VERSION_TABLE: Final = "contest_schema_version"  # the hub's own alembic has another
_LOCK_KEY: Final = 0x636F6E74  # "cont"; the audit log's is another
_WAIT_MS: Final = 60_000  # for another process that migrates


def upgrade(engine: Engine) -> None:
    """Bring the tables to this version.

    Raises
    ------
    PermanentError
        The database was made by a newer version.
    DatabaseError
        It does not answer, or this user may not.
    """
    try:
        with engine.connect() as connection:
            _begin_alone(connection)
            config = to_config(connection)
            schema_versions.refuse_newer(
                connection, config, VERSION_TABLE, name="The team registry"
            )
            command.upgrade(config, "head")
            connection.commit()
    except SQLAlchemyError as e:
        raise DatabaseError(f"The team registry's tables cannot be made ({kind_of(e)}).") from e


def to_config(connection: Connection) -> Config:
    """What alembic's commands take; they work in the connection's transaction."""
    return schema_versions.to_config(connection, "contests")


def _begin_alone(connection: Connection) -> None:
    """A transaction in which no other process migrates."""
    if connection.dialect.name == "postgresql":
        schema = func.hashtext(func.current_schema())
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY, schema)))
        return
    connection.detach()  # closed at the end, so nobody gets it with this long a wait
    driver = connection.connection.dbapi_connection
    assert driver is not None
    cursor = driver.cursor()
    # Readers do not wait for the writer then. In use it may not be possible now: next time.
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute(f"PRAGMA busy_timeout={_WAIT_MS}")
    cursor.close()
    connection.exec_driver_sql("BEGIN EXCLUSIVE")
