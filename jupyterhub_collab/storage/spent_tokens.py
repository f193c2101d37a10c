"""Tokens that let somebody in once, and never again.

Inserting a row is spending: the primary key lets one of all processes through, on SQLite as on
PostgreSQL, also when two ask in the same moment and after a restart. Only a hash of a token's id is
kept, until some time after the token has expired by itself.

When the database does not answer, nobody is let in: then nobody knows whether the token was spent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Final

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
)
from sqlalchemy.exc import IntegrityError

from .database import TIMEOUT_S, Database, DatabaseError, hash_id

KEPT: Final = timedelta(hours=1)  # past expiry: replicas' clocks may differ by less than this
PURGE_EVERY: Final = timedelta(minutes=5)
log = logging.getLogger(__name__)

_tables = MetaData()
_spent = Table(
    "collab_spent_tokens",
    _tables,
    Column("issuer", String, primary_key=True),
    Column("id_hash", String(64), primary_key=True),
    # Seconds since 1970: the same on every database, without a time zone to get wrong.
    Column("expires", BigInteger, nullable=False, index=True),
)


class SpentTokens:
    """Spent tokens in one database. Close it when done; the engine stays open.

    Parameters
    ----------
    engine
        As of `Database`.
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
        self._database = Database(engine, _spent.name, timeout_s=timeout_s)
        self._now = now
        self._purged_at: datetime | None = None

    def create_tables(self) -> None:
        """Make the table if it is not there. Raises DatabaseError."""
        self._database.create_tables(_tables)

    async def spend(self, issuer: str, token_id: str, expires: datetime) -> bool:
        """Whether this is the first time; True once in all processes, then False for ever.

        Parameters
        ----------
        expires
            When the token is refused by itself, leeway included. Must be aware.

        Raises
        ------
        DatabaseError
            Nobody knows. The token may be spent now: a new one is needed.
        """
        row = {
            "issuer": issuer,
            "id_hash": hash_id(token_id),
            "expires": int(expires.timestamp()) + 1,
        }
        try:
            await self._database.run(lambda connection: connection.execute(insert(_spent), [row]))
        except IntegrityError:
            return False
        await self._purge_now_and_then()
        return True

    async def purge(self) -> int:
        """Delete what expired more than `KEPT` ago. How many. Raises DatabaseError."""
        before = int((self._now() - KEPT).timestamp())

        def work(connection: Connection) -> int:
            return connection.execute(delete(_spent).where(_spent.c.expires < before)).rowcount

        return await self._database.run(work)

    def close(self) -> None:
        """End the threads."""
        self._database.close()

    async def _purge_now_and_then(self) -> None:
        now = self._now()
        if self._purged_at is not None and now - self._purged_at < PURGE_EVERY:
            return
        self._purged_at = now
        try:
            await self.purge()
        except DatabaseError as e:
            log.warning("Expired rows stay for now: %s", e)  # the token is spent all the same
