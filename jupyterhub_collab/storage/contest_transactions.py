"""How the registry's transactions run: each on a thread, none for a process that lost the lease.

SQLite has one writer at a time; here they queue. Whoever works under the lease is fenced: what it
writes is committed in its own term of it, or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from .contest_errors import StaleError
from .contest_lease import check_term, hold_term
from .database import Database

_NAME: Final = "The team registry"
_WHOLE_S: Final = 120.0  # what concerns all of a contest: a second or two of 5,000 teams at rest
# Between two statements under the lease, which are of a few rows each. A process that was stopped
# there holds them, and the lease's, no longer: the server ends its transaction.
_IDLE_MS: Final = 15_000

T = TypeVar("T")
P = ParamSpec("P")


class ContestTransactions:
    """One database's. Close it when done; the engine stays open.

    Every method that asks the database raises DatabaseError where it does not answer.
    """

    def __init__(self, engine: Engine, *, timeout_s: float) -> None:
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._reading = Database(engine, _NAME, timeout_s=timeout_s)
        # SQLite has one writer at a time: here they queue, and there they would wait in rounds of
        # 0.1 s, each for as long as others are luckier.
        threads = 1 if self._is_sqlite else None
        self._writing = Database(engine, _NAME, timeout_s=timeout_s, threads=threads)
        self._term: Callable[[], int] | None = None

    def fenced(self, term: Callable[[], int]) -> ContestTransactions:
        """The same; those that write raise NotHolderError unless this is the lease's term."""
        other = copy.copy(self)
        other._term = term
        return other

    def unfenced(self) -> ContestTransactions:
        """The same, whoever has the lease."""
        other = copy.copy(self)
        other._term = None
        return other

    def close(self) -> None:
        """End the threads."""
        self._reading.close()
        self._writing.close()

    async def read(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What `work` finds."""
        return await self._reading.run(lambda connection: work(connection, *args, **kwargs))

    async def write(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """What `work` returns, in a transaction; on SQLite the only one from its first statement.

        Raises
        ------
        StaleError
            Somebody else wrote the same at the same moment.
        NotHolderError
            Fenced, and another has, or had, the lease.
        """
        return await self._write_within(None, lambda c: work(c, *args, **kwargs))

    async def write_whole(
        self,
        work: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As `write`, of all of a contest: it may take longer."""
        return await self._write_within(_WHOLE_S, lambda c: work(c, *args, **kwargs))

    async def _write_within(self, timeout_s: float | None, work: Callable[[Connection], T]) -> T:
        def whole(connection: Connection) -> T:
            if self._is_sqlite:
                # Else it would begin with the first change, after what was looked at.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            if self._term is None:
                return work(connection)
            term = self._term()
            self._end_where_left_open(connection)
            check_term(connection, term)
            done = work(connection)
            hold_term(connection, term)
            return done

        try:
            return await self._writing.run(whole, timeout_s=timeout_s)
        except IntegrityError as e:
            raise StaleError(
                "Somebody else wrote the same at the same moment. Nothing was written; look again."
            ) from e

    def _end_where_left_open(self, connection: Connection) -> None:
        """Whoever is stopped within a transaction must not keep others from the lease for ever."""
        if not self._is_sqlite:
            limit = f"SET LOCAL idle_in_transaction_session_timeout = {_IDLE_MS}"
            connection.exec_driver_sql(limit)
