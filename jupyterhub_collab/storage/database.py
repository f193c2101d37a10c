"""Short transactions from an event loop, on SQLite as on PostgreSQL.

Each store has threads of its own, so a database that hangs takes no other's; whoever waits is told
after some time, and what is late is looked at and dropped. Errors of the database become
`DatabaseError`, without the statement and its values.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from ..errors import RetryableError
from ..timeouts import TIMED_OUT, timeout

TIMEOUT_S: Final = 10.0  # a person waits; SQLite waits up to 5 s for another writer
_THREADS: Final = 4
log = logging.getLogger(__name__)

T = TypeVar("T")


class DatabaseError(RetryableError):
    """The database does not answer, or not as it should. What was asked may be done or not."""


class Database:
    """One store's way to a database. Close it when done; the engine stays open.

    Parameters
    ----------
    engine
        Of the hub's own database, or another. Not SQLite in memory: it is not shared.
    name
        Of the store, for errors and threads.
    timeout_s
        Longest wait of `run`, in seconds, for a thread and for the database.
    threads
        How many transactions at once; one: they queue.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        *,
        timeout_s: float = TIMEOUT_S,
        threads: int | None = None,
    ) -> None:
        self._engine, self._name, self._timeout_s = engine, name, timeout_s
        self._pool = ThreadPoolExecutor(threads or _THREADS, thread_name_prefix=name)

    def create_tables(self, tables: MetaData) -> None:
        """Make what is not there. Processes may do so at the same time.

        Raises
        ------
        DatabaseError
            It does not answer, or this user may not.
        """
        for is_last in (False, True):
            try:
                with self._engine.begin() as connection:
                    for table in tables.sorted_tables:
                        connection.execute(CreateTable(table, if_not_exists=True))
                        for index in table.indexes:
                            connection.execute(CreateIndex(index, if_not_exists=True))
            except (IntegrityError, ProgrammingError) as e:
                # PostgreSQL: of two that make it at once, one may be told that it exists.
                if is_last:
                    raise DatabaseError(f"{self._name} cannot be made ({kind_of(e)})") from e
            except SQLAlchemyError as e:
                raise DatabaseError(f"{self._name} cannot be made ({kind_of(e)})") from e
            else:
                return

    async def run(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        """What `work` returns, in one transaction; another longest wait than of all. Raises as
        `run_now` does."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        loop = asyncio.get_running_loop()
        under_way = loop.run_in_executor(self._pool, self.run_now, work)
        try:
            async with timeout(limit_s):
                return await asyncio.shield(under_way)
        except TIMED_OUT as e:
            raise DatabaseError(f"{self._name}: no answer in {limit_s:g} s") from e
        finally:
            if not under_way.done():
                under_way.add_done_callback(self._take_late)

    def run_now(self, work: Callable[[Connection], T]) -> T:
        """The same in this thread.

        Raises
        ------
        IntegrityError
            A key is taken: nothing was done.
        DatabaseError
            It does not answer, or not in time.
        """
        try:
            with self._engine.begin() as connection:
                return work(connection)
        except IntegrityError:
            raise
        except SQLAlchemyError as e:
            raise DatabaseError(f"{self._name} does not answer ({kind_of(e)})") from e

    def close(self) -> None:
        """End the threads; one that waits for the database is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _take_late(self, work: asyncio.Future[Any]) -> None:
        """Look at what nobody waits for any more, else asyncio complains of it."""
        error = None if work.cancelled() else work.exception()
        if error is not None:
            log.warning("%s: a late answer: %s", self._name, type(error).__name__)


def hash_id(text: str) -> str:
    """SHA-256 of what is kept only to be known again, 64 hex digits. Takes any text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def kind_of(error: SQLAlchemyError) -> str:
    """Kind of an error: its text repeats the statement and its values."""
    original = getattr(error, "orig", None)
    return type(error if original is None else original).__name__
