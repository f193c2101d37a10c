"""Which hub user a session at an identity provider is of.

A provider that ends a session may name nothing but the session, and may do so after the hub was
started anew. Only a hash of the session's id is kept, until no browser can still be logged in by
it. Losing the rows loses no log-out that names the person too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError

from .database import TIMEOUT_S, Database, hash_id

KEPT: Final = timedelta(days=90)  # longer than any log-in of the hub lasts (14 days by default)
PURGE_EVERY: Final = timedelta(hours=1)

_tables = MetaData()
_sessions = Table(
    "collab_provider_sessions",
    _tables,
    Column("issuer", String, primary_key=True),
    Column("id_hash", String(64), primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("begun", BigInteger, nullable=False, index=True),  # seconds since 1970
)


class ProviderSessions:
    """All sessions, in one database. Close it when done; the engine stays open.

    Parameters
    ----------
    now
        Aware UTC clock.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._database = Database(engine, _sessions.name, timeout_s=timeout_s)
        self._now = now
        self._purged_at: datetime | None = None

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def begin(self, issuer: str, session_id: str, name: str) -> None:
        """A hub user logged in by this session. Raises DatabaseError."""
        key, now = _key_of(issuer, session_id), self._now()
        is_due = self._purged_at is None or now - self._purged_at >= PURGE_EVERY
        row = {**key, "name": name, "begun": int(now.timestamp())}

        def work(connection: Connection) -> None:
            connection.execute(delete(_sessions).where(*_where(key)))
            connection.execute(insert(_sessions), [row])
            if is_due:
                before = int((now - KEPT).timestamp())
                connection.execute(delete(_sessions).where(_sessions.c.begun < before))

        with suppress(IntegrityError):  # the same log-in, twice in one moment
            await self._database.run(work)
        if is_due:
            self._purged_at = now

    async def name_of(self, issuer: str, session_id: str) -> str | None:
        """Whose session it is; None: none that is known, or one that is over. Raises
        DatabaseError."""
        wanted = select(_sessions.c.name).where(*_where(_key_of(issuer, session_id)))
        found = await self._database.run(lambda connection: connection.execute(wanted).scalar())
        return None if found is None else str(found)

    async def has_any(self, issuer: str, name: str) -> bool:
        """Whether a hub user has a session there that has an id. Raises DatabaseError."""
        where = (_sessions.c.issuer == issuer, _sessions.c.name == name)
        wanted = select(_sessions.c.name).where(*where).limit(1)
        found = await self._database.run(lambda connection: connection.execute(wanted).scalar())
        return found is not None

    async def end(self, issuer: str, session_id: str) -> None:
        """This one is over. Raises DatabaseError."""
        gone = delete(_sessions).where(*_where(_key_of(issuer, session_id)))
        await self._database.run(lambda connection: connection.execute(gone))

    async def end_all(self, issuer: str, name: str) -> None:
        """All of a hub user there are over. Raises DatabaseError."""
        where = (_sessions.c.issuer == issuer, _sessions.c.name == name)
        gone = delete(_sessions).where(*where)
        await self._database.run(lambda connection: connection.execute(gone))

    def close(self) -> None:
        """End the threads."""
        self._database.close()


def _key_of(issuer: str, session_id: str) -> dict[str, str]:
    return {"issuer": issuer, "id_hash": hash_id(session_id)}


def _where(key: dict[str, str]) -> tuple[Any, Any]:
    return (_sessions.c.issuer == key["issuer"], _sessions.c.id_hash == key["id_hash"])
