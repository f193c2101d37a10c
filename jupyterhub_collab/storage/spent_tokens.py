"""Tokens that let somebody in once, and never again.

Inserting a row is spending: the primary key lets one of all processes through, on SQLite as on
PostgreSQL, also when two ask in the same moment and after a restart. Only a hash of a token's id is
kept, until some time after the token has expired by itself.

When the database does not answer, nobody is let in: then nobody knows whether the token was spent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Final

from sqlalchemy import BigInteger, Column, Engine, MetaData, String, Table, delete, insert
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from ..errors import RetryableError
from ..timeouts import TIMED_OUT, timeout

TIMEOUT_S: Final = 10.0  # a person waits; SQLite waits up to 5 s for another writer
KEPT: Final = timedelta(hours=1)  # past expiry: replicas' clocks may differ by less than this
PURGE_EVERY: Final = timedelta(minutes=5)
_THREADS: Final = 4
log = logging.getLogger(__name__)

_spent = Table(
    "spent_tokens",
    MetaData(),
    Column("issuer", String, primary_key=True),
    Column("id_hash", String(64), primary_key=True),
    # Seconds since 1970: the same on every database, without a time zone to get wrong.
    Column("expires", BigInteger, nullable=False, index=True),
)


class SpentTokensError(RetryableError):
    """The database does not say whether a token was spent."""


class SpentTokens:
    """Spent tokens in one database. Close it when done; the engine stays open.

    Parameters
    ----------
    engine
        Of the hub's own database, or another. Not SQLite in memory: it is not shared.
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
        self._engine = engine
        self._now = now
        self._timeout_s = timeout_s
        self._purged_at: datetime | None = None
        # Its own threads: a database that hangs must not take those of others.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="spent-tokens")

    def create_table(self) -> None:
        """Make the table if it is not there. Processes may do so at the same time.

        Raises
        ------
        SpentTokensError
            The database does not answer, or this user may not.
        """
        for last in (False, True):
            try:
                with self._engine.begin() as connection:
                    connection.execute(CreateTable(_spent, if_not_exists=True))
                    for index in _spent.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
            except (IntegrityError, ProgrammingError) as e:
                # PostgreSQL: of two that make it at once, one may be told that it exists.
                if last:
                    raise SpentTokensError(f"spent_tokens cannot be made ({_name(e)})") from e
            except SQLAlchemyError as e:
                raise SpentTokensError(f"spent_tokens cannot be made ({_name(e)})") from e
            else:
                return

    async def spend(self, issuer: str, token_id: str, expires: datetime) -> bool:
        """Whether this is the first time; True once in all processes, then False for ever.

        Parameters
        ----------
        expires
            When the token is refused by itself, leeway included. Must be aware.

        Raises
        ------
        SpentTokensError
            Nobody knows. The token may be spent now: a new one is needed.
        """
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._pool, self._spend, issuer, token_id, expires)
        try:
            async with timeout(self._timeout_s):
                return await asyncio.shield(work)
        except TIMED_OUT as e:
            raise SpentTokensError(f"spent_tokens: no answer in {self._timeout_s:g} s") from e
        finally:
            if not work.done():
                work.add_done_callback(_take_outcome)

    def purge(self) -> int:
        """Delete what expired more than `KEPT` ago. How many.

        Raises
        ------
        SpentTokensError
            The database does not answer.
        """
        before = int((self._now() - KEPT).timestamp())
        try:
            with self._engine.begin() as connection:
                return connection.execute(delete(_spent).where(_spent.c.expires < before)).rowcount
        except SQLAlchemyError as e:
            raise SpentTokensError(f"spent_tokens cannot be purged ({_name(e)})") from e

    def close(self) -> None:
        """End the threads; one that waits for the database is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _spend(self, issuer: str, token_id: str, expires: datetime) -> bool:
        row = {
            "issuer": issuer,
            "id_hash": hashlib.sha256(token_id.encode("utf-8", "surrogatepass")).hexdigest(),
            "expires": int(expires.timestamp()) + 1,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_spent).values(row))
        except IntegrityError:
            return False
        except SQLAlchemyError as e:
            raise SpentTokensError(f"spent_tokens does not answer ({_name(e)})") from e
        self._purge_now_and_then()
        return True

    def _purge_now_and_then(self) -> None:
        now = self._now()
        if self._purged_at is not None and now - self._purged_at < PURGE_EVERY:
            return
        self._purged_at = now
        try:
            self.purge()
        except SpentTokensError as e:
            log.warning("Expired rows stay for now: %s", e)  # the token is spent all the same


def _take_outcome(work: asyncio.Future[bool]) -> None:
    """Look at what nobody waits for any more, else asyncio complains of it."""
    if not work.cancelled() and work.exception() is not None:
        log.warning("A late answer about a spent token: %s", work.exception())


def _name(error: SQLAlchemyError) -> str:
    """Kind of an error: its text repeats the statement and its values."""
    original = getattr(error, "orig", None)
    return type(error if original is None else original).__name__
