"""A row that one process holds: who it is, in which term, and how often it has shown to be alive.

No moment is written here, so nobody's clock is compared with another's: who waits for the row sees
whether it changes, for as long as its holder said. Every change is a compare-and-swap.

Whoever writes under the lease looks at the term before it writes, and last of all in a way that
keeps the row as it is until its transaction has ended (`hold_term`): who takes the lease waits for
that, so nothing of an earlier term is ever committed in a later one. On SQLite the transaction has
had the whole database since it began.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from .contest_errors import NotHolderError
from .contest_tables import leases
from .database import Database, DatabaseError

WORK: Final = "work"  # the lease of whoever does the contests' work
_TIMEOUT_S: Final = 2.0  # an answer that comes later is of no use


@dataclass(frozen=True)
class Held:
    """The row, as it was at one moment.

    Attributes
    ----------
    holder
        Empty: it was given back.
    term
        One more for each holder. What was decided in an earlier one is not written any more.
    beat
        One more for each sign of life.
    duration_s
        How long the row may stay as it is before another may take it.
    """

    holder: str
    term: int
    beat: int
    duration_s: float


class LeaseStore:
    """The row in one database, over threads of its own. Close it when done; the engine stays."""

    def __init__(self, engine: Engine) -> None:
        self._database = Database(engine, "The contests' lease", timeout_s=_TIMEOUT_S, threads=2)

    def close(self) -> None:
        """End the threads."""
        self._database.close()

    async def read(self) -> Held | None:
        """As it is; None: nobody ever held it. Raises DatabaseError."""
        return await self._database.run(_read)

    async def take(self, holder: str, seen: Held | None, *, duration_s: float) -> Held | None:
        """Become the holder, if the row is as it was seen; None: it is not. Raises DatabaseError"""
        term = 1 if seen is None else seen.term + 1
        new = Held(holder, term, beat=0, duration_s=duration_s)
        if seen is not None:
            return new if await self._database.run(lambda c: _take(c, seen, new)) else None
        row = {"name": WORK, **_columns(new)}
        try:
            await self._database.run(lambda connection: connection.execute(insert(leases), [row]))
        except IntegrityError:
            return None  # somebody was faster
        return new

    async def renew(self, held: Held) -> Held | None:
        """Show to be alive; None: another holds it. Raises DatabaseError."""
        new = replace(held, beat=held.beat + 1)
        if await self._swap(held, new):
            return new
        found = await self.read()
        if found is None or (found.holder, found.term) != (held.holder, held.term):
            return None
        new = replace(found, beat=found.beat + 1)  # the answer to an earlier one was lost
        if await self._swap(found, new):
            return new
        raise DatabaseError("The contests' lease was written at the same moment")

    async def give_back(self, held: Held) -> None:
        """The next one need not wait. Raises DatabaseError."""
        # Whatever the beat: a sign of life may still be under way, and fails then.
        c = leases.c
        mine = (c.name == WORK, c.holder == held.holder, c.term == held.term)
        freed = update(leases).where(*mine).values(holder="")
        await self._database.run(lambda connection: connection.execute(freed))

    async def _swap(self, old: Held, new: Held) -> bool:
        """Whether the row was the one."""
        return await self._database.run(lambda connection: _swap(connection, old, new))


_TERM: Final = select(leases.c.term).where(leases.c.name == WORK)


def check_term(connection: Connection, term: int) -> None:
    """Raise NotHolderError unless this is the term."""
    if connection.execute(_TERM).scalar() != term:
        raise NotHolderError


def hold_term(connection: Connection, term: int) -> None:
    """The same, and nobody begins another one before this transaction has ended.

    The holder's own signs of life go on: they and this hold the row in ways that do not exclude
    each other (PostgreSQL's FOR KEY SHARE).
    """
    if connection.execute(_TERM.with_for_update(read=True, key_share=True)).scalar() != term:
        raise NotHolderError


def _take(connection: Connection, old: Held, new: Held) -> bool:
    """Whether the row was the one; after whoever is just writing under it."""
    connection.execute(_TERM.with_for_update())
    return _swap(connection, old, new)


def _swap(connection: Connection, old: Held, new: Held) -> bool:
    changed = update(leases).where(*_is(old)).values(_columns(new))
    return connection.execute(changed).rowcount > 0


def _read(connection: Connection) -> Held | None:
    row = connection.execute(select(leases).where(leases.c.name == WORK)).first()
    return None if row is None else Held(row.holder, row.term, row.beat, row.duration_ms / 1000)


def _is(held: Held) -> tuple[ColumnElement[bool], ...]:
    c = leases.c
    return (
        c.name == WORK,
        c.holder == held.holder,
        c.term == held.term,
        c.beat == held.beat,
    )


def _columns(held: Held) -> dict[str, Any]:
    return {
        "holder": held.holder,
        "term": held.term,
        "beat": held.beat,
        "duration_ms": round(held.duration_s * 1000),
    }
