"""The same world with its registry on PostgreSQL: a schema each."""

from __future__ import annotations

from typing import ClassVar

from sqlalchemy import Engine, create_engine, text

from jupyterhub_collab.storage.contest_migration import VERSION_TABLE
from jupyterhub_collab.storage.contest_tables import tables
from tests.managers.contest_world import World


class PostgresWorld(World):
    """Its folder's name is its schema's.

    Attributes
    ----------
    url
        Of the server; set it before the first is made.
    """

    url: ClassVar[str]

    @property
    def schema(self) -> str:
        return f"world_{self.file.parent.name}"

    def open_database(self) -> tuple[Engine, bool]:
        engine = create_engine(self.url, connect_args={"options": f"-csearch_path={self.schema}"})
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {self.schema}"))
        return engine, True

    def copy_database(self, other: World) -> None:
        assert isinstance(other, PostgresWorld)
        # Whoever was killed left transactions behind, as a server finds them: broken off.
        self.engine.dispose()
        with self.engine.begin() as connection:
            for table in (*tables.tables, VERSION_TABLE):
                mine, theirs = f"{self.schema}.{table}", f"{other.schema}.{table}"
                connection.execute(text(f"DELETE FROM {mine}"))
                connection.execute(text(f"INSERT INTO {mine} SELECT * FROM {theirs}"))
            for sequence in connection.execute(
                text("SELECT sequencename FROM pg_sequences WHERE schemaname = :schema"),
                {"schema": self.schema},
            ).scalars():
                mine, theirs = f"{self.schema}.{sequence}", f"{other.schema}.{sequence}"
                moved = f"SELECT setval('{mine}', last_value, is_called) FROM {theirs}"
                connection.execute(text(moved))
