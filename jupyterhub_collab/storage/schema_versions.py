"""Tables that alembic brings to this version, from inside the process.

It must not: begin or end a transaction; whoever asks has one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from ..errors import PermanentError

_SCRIPTS: Final = Path(__file__).parent / "migrations"


def to_config(connection: Connection, folder: str) -> Config:
    """What alembic's commands take, for the scripts of a folder; they work in the connection's
    transaction."""
    config = Config()
    # A percent sign in a path is one for alembic's parser only if it is doubled.
    config.set_main_option("script_location", str(_SCRIPTS / folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def versions_of(connection: Connection, version_table: str) -> tuple[str, ...]:
    """What the database says of its tables' version; empty if it says nothing."""
    context = MigrationContext.configure(connection, opts={"version_table": version_table})
    return context.get_current_heads()


def refuse_newer(connection: Connection, config: Config, version_table: str, *, name: str) -> None:
    """Raises PermanentError for a database that a newer version made."""
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    unknown = [one for one in versions_of(connection, version_table) if one not in known]
    if unknown:
        raise PermanentError(
            f"{name}'s database is of a newer version ({', '.join(unknown)}) than this "
            f"program, which knows it up to {scripts.get_current_head()}. Nothing was changed. "
            "Start the newer version again, or put back a copy of the database from before it."
        )
