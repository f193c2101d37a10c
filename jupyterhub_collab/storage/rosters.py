"""Which roster of each team the hub was last brought after.

Rosters are in the hub's groups, and who writes them tells the hub. When that word is lost, or the
hub was killed half way, the difference between the two stands here, and is found by looking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, delete, insert, select
from sqlalchemy.exc import IntegrityError

from .database import TIMEOUT_S, Database

_CHUNK: Final = 500  # names in one statement, as in `memberships`

_tables: Final = MetaData()
_rosters = Table(
    "collab_rosters",
    _tables,
    Column("team", String, primary_key=True),
    Column("hash", String(64), nullable=False),
)


class Rosters:
    """Hashes of rosters, by team, in one database. Close it when done; the engine stays open."""

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._database = Database(engine, _rosters.name, timeout_s=timeout_s)

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def read(self) -> dict[str, str]:
        """All of them. Raises DatabaseError."""
        wanted = select(_rosters.c.team, _rosters.c.hash)
        rows = await self._database.run(lambda connection: connection.execute(wanted).all())
        return {row.team: row.hash for row in rows}

    async def write(self, hashes: Mapping[str, str]) -> None:
        """The hub is as these rosters say. Raises DatabaseError."""
        rows = [{"team": team, "hash": value} for team, value in sorted(hashes.items())]

        def work(connection: Connection) -> None:
            _delete(connection, hashes)
            if rows:
                connection.execute(insert(_rosters), rows)

        # Another process may do so at the same moment; what is wrong then is found again.
        with suppress(IntegrityError):
            await self._database.run(work)

    async def forget(self, teams: Iterable[str]) -> None:
        """There are no such teams any more. Raises DatabaseError."""
        gone = list(teams)
        await self._database.run(lambda connection: _delete(connection, gone))

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def _delete(connection: Connection, teams: Iterable[str]) -> None:
    listed = list(teams)
    for start in range(0, len(listed), _CHUNK):
        some = _rosters.c.team.in_(listed[start : start + _CHUNK])
        connection.execute(delete(_rosters).where(some))
