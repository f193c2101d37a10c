"""The audit log in SQL: events get their place, for good, in groups.

One thread writes. It takes all that waits, gives each event its place, writes everything in one
transaction and then answers all at once: a hundred who wait pay for one flush to disk. Whoever is
answered is on disk. What goes wrong is told as `DatabaseError`, also where nobody knows whether it
was stored: sent again, it is stored once.

The same thread writes what searches go along, in a transaction of its own, once so many events or
so much time have gathered. A search finds events once they are answered, with or without.

It must not: check who may send or see what, sign, or decide how long events are kept.
"""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import DataError, IntegrityError

from ..models.audit import AuditEvent, Outcome, SentBatch, SentEvent, StoredEvent, Verb
from ..models.audit_query import EventQuery, Scope
from ..policy.merkle import Frontier
from ..policy.tiles import Tile, TileHashes, tile_at
from . import audit_tables as tables
from .audit_behind import Behind
from .audit_erasure import Erased, Retired, check_authorised, erase_some, retire_some
from .audit_reading import find, read_range
from .audit_writer import OWN_EMITTER, EmitterKey, Transaction, Writer, load_tile
from .database import TIMEOUT_S, Database, DatabaseError

__all__ = ["Appended", "AuditLog", "Erased", "EventQuery", "Retired", "Scope", "StoredEvent"]

GROUP_MAX: Final = 1000  # events in one transaction, the last batch beyond it included
WAITING_MAX: Final = 5000  # events; at 32 KiB, the largest, 160 MB
INDEX_EVENTS: Final = 1000  # a search looks at so many one by one, in some milliseconds
INDEX_AFTER_S: Final = 0.2
_LEAVES_AT_ONCE: Final = 500
_CLEARINGS: Final = 20
_BETWEEN_CLEARINGS_S: Final = 0.1
_TILES_KEPT: Final = 256  # 2 MiB
log = logging.getLogger(__name__)

T = TypeVar("T")


class Appended(NamedTuple):
    """What became of a batch.

    Attributes
    ----------
    first, last
        Places in the log of what was new; None: nothing was. An `audit.gap` may stand between.
    acknowledged
        The newest of the emitter's numbers that is on disk. What comes after it is to be sent
        again: after a second gap in one batch nothing is taken.
    missing
        Numbers that never came, which the log has recorded itself (`audit.gap`).
    """

    first: int | None
    last: int | None
    acknowledged: int
    missing: range | None = None


_Request = tuple[Callable[["Transaction"], Any], int, "asyncio.Future[Any]"]
"""Work that waits for the thread, how many events it is, and who waits for it."""


class _Failed(NamedTuple):
    """In place of what the work returns."""

    error: BaseException


class _Waiters:
    """Tells those who waited too long, with one timer for all: a time-out each costs much more."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._is_watched = False

    def add(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any]) -> None:
        """In the loop's thread."""
        if loop is not self._loop:
            self._loop, self._waiting, self._is_watched = loop, deque(), False
        now = loop.time()
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((now + self._timeout_s, future))
        if not self._is_watched:
            self._is_watched = True
            loop.call_at(now + self._timeout_s, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        waiting = self._waiting
        while waiting and (waiting[0][1].done() or waiting[0][0] <= loop.time()):
            future = waiting.popleft()[1]
            if not future.done():
                words = f"The audit log: no answer in {self._timeout_s:g} s."
                future.set_exception(DatabaseError(words))
        self._is_watched = bool(waiting)
        if waiting:
            loop.call_at(waiting[0][0], self._look, loop)


class AuditLog:
    """One log in one database. `open` it before all else; the engine stays open when it is closed.

    Parameters
    ----------
    engine
        A database of its own: SQLite in a file, or PostgreSQL.
    now
        Aware UTC clock.
    draw
        Random bytes for salts.
    timeout_s
        Longest wait for the database, in seconds. What was asked may be done later all the same.
    index_events, index_after_s
        What searches go along is written for so many events together, or after so many seconds.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        now: Callable[[], datetime],
        draw: Callable[[int], bytes] = os.urandom,
        timeout_s: float = TIMEOUT_S,
        index_events: int = INDEX_EVENTS,
        index_after_s: float = INDEX_AFTER_S,
    ) -> None:
        self._engine, self._now, self._timeout_s = engine, now, timeout_s
        self._writer = Writer(engine, now=now, draw=draw)
        self._behind = Behind(self._writer, index_events, index_after_s)
        self._database = Database(engine, "audit", timeout_s=timeout_s)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting = 0
        self._waiters = _Waiters(timeout_s)
        self._lock = threading.Lock()  # of the count and of `_is_open`
        self._is_open = self._is_failing = False
        self._thread: threading.Thread | None = None
        self._tiles: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._tiles_lock = threading.Lock()

    def open(self) -> None:
        """Take the lock, make the tables, find the log's end, write what searches lack. Blocks.

        Raises
        ------
        PermanentError
            Another process writes this log; or it does not fit its newest checkpoint.
        DatabaseError
            The database does not answer.
        """
        self._writer.open()
        self._behind.write_all()  # what the last one left
        if not self._writer.is_ready:
            self._writer.open()  # or the database does not answer at all
        self._is_open = True
        self._thread = threading.Thread(target=self._write, name="audit-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, and give the lock back. Blocks."""
        with self._lock:
            self._is_open = False
        if self._thread is not None:
            self._requests.put(None)
            self._thread.join()
            self._thread = None
        self._writer.close()
        self._database.close()

    @property
    def size(self) -> int:
        """Number of events that were ever stored."""
        return self._writer.known.tree.size

    @property
    def indexed(self) -> int:
        """Up to this event all that searches go along is written."""
        return self._writer.known.indexed

    def frontier(self) -> Frontier:
        """The tree's end. A copy."""
        return self._writer.known.tree.frontier()

    async def append(self, emitter: str, batch: SentBatch) -> Appended:
        """Store what is new of a batch. It is on disk when this returns.

        Raises
        ------
        DatabaseError
            Too many wait, or the database does not take it, or not in time. It may be stored.
        ValueError
            The emitter is called as the log itself.
        """
        if emitter == OWN_EMITTER:
            raise ValueError(f"no emitter may be called {OWN_EMITTER}")
        appended: Appended = await self._ask(partial(_append, emitter, batch), len(batch.events))
        return appended

    async def append_own(self, event: AuditEvent) -> int:
        """Store an event of the service itself. Returns its place. Raises DatabaseError."""
        return await self._run(lambda transaction: transaction.add_own(event), 1)

    async def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed head; one of the same size stays. Raises DatabaseError."""

        def work(transaction: Transaction) -> None:
            columns = tables.checkpoints.c
            there = select(columns.size).where(columns.size == size)
            if transaction.connection.execute(there).first() is None:
                row = {"size": size, "note": note}
                transaction.connection.execute(insert(tables.checkpoints), [row])

        await self._run(work, 1)

    async def checkpoints(self) -> tuple[tuple[int, str], ...]:
        """Size and note of all, smallest first. Raises DatabaseError."""
        wanted = select(tables.checkpoints).order_by(tables.checkpoints.c.size)
        rows = await self._database.run(lambda connection: connection.execute(wanted).all())
        return tuple((row.size, row.note) for row in rows)

    async def last_checkpoint(self) -> tuple[int, str] | None:
        """Size and note of the newest. Raises DatabaseError."""
        wanted = select(tables.checkpoints).order_by(tables.checkpoints.c.size.desc()).limit(1)
        row = await self._database.run(lambda connection: connection.execute(wanted).first())
        return None if row is None else (row.size, row.note)

    async def read(
        self,
        query: EventQuery,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> tuple[StoredEvent, ...]:
        """Events that a query means: newest first, or with `after` alone oldest first.

        Parameters
        ----------
        before, after
            Sequences that the answer lies between, both left out.

        Raises
        ------
        DatabaseError
            The database does not answer.
        ValueError
            A limit that is none; no verb or outcome is called so.
        """
        indexed = self.indexed  # before anything is read: it only moves on
        return await self._database.run(
            lambda connection: find(
                connection, query, indexed=indexed, before=before, after=after, limit=limit
            )
        )

    async def erase(self, name: str, *, authorised: AuditEvent) -> Erased:
        """Erase all that is kept of a person, in whichever part of an event they stand.

        Parameters
        ----------
        authorised
            Who decided so and why; stored as `audit.erase` with ``sequences``, the events and
            parts that were erased (``12:subject``). A part of it that bears the name is left out.

        Raises
        ------
        DatabaseError
            Not all is erased: ask again. What is erased has its event.
        ValueError
            No name; or the event is too large.
        """
        if not name:
            raise ValueError("no name to erase")
        check_authorised(authorised)
        done = await self._repeat(partial(erase_some, name=name, authorised=authorised))
        if done:
            await self._clear_journal()
        return Erased(
            sum(events for events, _, _ in done),
            sum(parts for _, parts, _ in done),
            tuple(record for _, _, record in done),
            is_overwritten=self._engine.dialect.name == "sqlite"
            and not self._writer.has_journal_to_clear,
        )

    async def retire(
        self, until: int, *, authorised: AuditEvent, hold: frozenset[str] = frozenset()
    ) -> Retired:
        """Delete the oldest events up to a place, whole tiles only; their hashes stay.

        Parameters
        ----------
        authorised
            Who decided so, or which rule; stored as `audit.retire` with ``first`` and ``until``.
        hold
            Contests of which no event is deleted, nor any after it.

        Raises
        ------
        DatabaseError
            Not all is deleted: ask again. What is deleted has its event.
        ValueError
            The event is too large.
        """
        check_authorised(authorised)
        work = partial(retire_some, until=until, authorised=authorised, hold=hold)
        done = await self._repeat(work)
        return Retired(
            sum(events for events, _, _ in done),
            done[-1][1] if done else 0,
            tuple(record for _, _, record in done),
        )

    async def _repeat(
        self, work: Callable[[Transaction], tuple[int, int, int] | None]
    ) -> list[tuple[int, int, int]]:
        """Each time in a transaction, until nothing is left; events are stored in between."""
        done = []
        while (some := await self._run(work, 1)) is not None:
            done.append(some)
        return done

    async def _clear_journal(self) -> None:
        """Each transaction tries; readers that are in the way are waited for a little."""
        for _ in range(_CLEARINGS):
            if not self._writer.has_journal_to_clear:
                return
            await asyncio.sleep(_BETWEEN_CLEARINGS_S)
            await self._run(lambda transaction: None, 1)

    def leaves(self, start: int, end: int) -> Iterator[StoredEvent]:
        """Leaves start..end-1 (from 0) that are not retired, in order. Blocks.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        for at in range(start, end, _LEAVES_AT_ONCE):
            upto = min(at + _LEAVES_AT_ONCE, end)
            yield from self._database.run_now(partial(read_range, start=at, end=upto))

    def tile(self, level: int, number: int) -> bytes | None:
        """Hashes of a tile as far as it goes now; None: the tree has none there. Blocks.

        Raises
        ------
        DatabaseError
            The database does not answer.
        """
        tree = self._writer.known.tree
        tile = tile_at(level, number, tree.size)
        return None if tile is None else tree.fetch(tile, self._load_tile)

    def fetch(self, tile: Tile) -> bytes | None:
        """Bytes of a tile that the tree has or had, as wide as asked. Blocks, raises as `tile`."""
        return self._writer.known.tree.fetch(tile, self._load_tile)

    def range_hash(self, start: int, end: int) -> bytes:
        """Head of an aligned range, as `policy.merkle` asks for it. Blocks.

        Raises
        ------
        DatabaseError
            The database does not answer.
        MissingTileError
            The tree is not so large, or a tile was taken out.
        """
        return self.at(self.size).range_hash(start, end)

    def at(self, size: int) -> TileHashes:
        """The tree as it was with so many leaves; what is asked of it blocks and raises as here."""
        return TileHashes(size, self.fetch)

    def _load_tile(self, level: int, number: int) -> bytes | None:
        """A full tile never changes."""
        key = (level, number)
        with self._tiles_lock:
            found = self._tiles.get(key)
            if found is not None:
                self._tiles.move_to_end(key)
                return found
        loaded = self._database.run_now(partial(load_tile, level=level, number=number))
        if loaded is not None:
            with self._tiles_lock:
                self._tiles[key] = loaded
                if len(self._tiles) > _TILES_KEPT:
                    self._tiles.popitem(last=False)
        return loaded

    async def _run(self, work: Callable[[Transaction], T], weight: int) -> T:
        """What `work` returns, once it is on disk."""
        result: T = await self._ask(work, weight)
        return result

    def _ask(self, work: Callable[[Transaction], T], weight: int) -> asyncio.Future[T]:
        """The same to be awaited, without another coroutine for each event."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if not self._is_open:
                raise DatabaseError("The audit log is closed.")
            if self._waiting and self._waiting + weight > WAITING_MAX:
                raise DatabaseError("Too many events wait for the audit log.")
            self._waiting += weight
            self._requests.put((work, weight, future))
        self._waiters.add(loop, future)
        return future

    def _write(self) -> None:
        """The thread."""
        is_last = False
        while not is_last:
            group, is_last = self._take()
            if group:
                results = self._store(group)
                with self._lock:
                    self._waiting -= sum(weight for _, weight, _ in group)
                _answer(group, results)
            self._behind.write()
        self._behind.write_all()

    def _take(self) -> tuple[list[_Request], bool]:
        """What waits, and whether nothing will come after it. Nothing: rows are due."""
        try:
            request = self._requests.get(timeout=self._behind.wait_s())
        except queue.Empty:
            return [], False
        group: list[_Request] = []
        weight = 0
        while request is not None:
            group.append(request)
            weight += request[1]
            if weight >= GROUP_MAX:
                return group, False
            try:
                request = self._requests.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _store(self, group: list[_Request]) -> list[Any]:
        """Do a group in one transaction. One that cannot be stored does not take the others."""
        try:
            results = self._writer.run(
                lambda transaction: [work(transaction) for work, _, _ in group]
            )
        except Exception as e:
            away = isinstance(e, DatabaseError) and not isinstance(
                e.__cause__, DataError | IntegrityError
            )
            if away or len(group) == 1:
                self._tell_failure(e)
                return [_Failed(e)] * len(group)
            return [result for request in group for result in self._store([request])]
        if self._is_failing:
            log.warning("Events are stored again")
        self._is_failing = False
        return results

    def _tell_failure(self, error: Exception) -> None:
        """Once, until it goes well again: each event would be a line."""
        if not self._is_failing:
            log.error("Events are not stored: %s", type(error.__cause__ or error).__name__)
        self._is_failing = True


def _append(emitter: str, batch: SentBatch, transaction: Transaction) -> Appended:
    """One batch in a transaction."""
    key = (emitter, batch.incarnation)
    last = transaction.last_sent(key)
    events = batch.events
    if len(events) == 1 and events[0].sequence == last + 1:
        place = transaction.add(key, events[0])
        return Appended(place, place, last + 1)
    places: list[int] = []
    missing: range | None = None
    for sent in sorted(events, key=_number_of):
        number = sent.sequence
        if number <= last:
            continue
        if number > last + 1:
            if missing is not None:
                break
            missing = range(last + 1, number)
            places.append(transaction.add_own(_make_gap(key, missing, transaction.stored_at)))
        places.append(transaction.add(key, sent))
        last = number
    if not places:
        return Appended(None, None, last)
    return Appended(places[0], places[-1], last, missing)


def _number_of(sent: SentEvent) -> int:
    return sent.sequence


def _make_gap(key: EmitterKey, missing: range, at: datetime) -> AuditEvent:
    details = {"emitter": key[0], "incarnation": key[1]}
    return AuditEvent(
        time=at,
        verb=Verb.AUDIT_GAP,
        outcome=Outcome.FAILED,
        reason="missing",
        details={**details, "first": missing.start, "last": missing.stop - 1},
    )


def _answer(group: list[_Request], results: list[Any]) -> None:
    """Wake each loop once for all who wait in it."""
    for loop in {future.get_loop() for _, _, future in group}:
        with suppress(RuntimeError):  # the loop was closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, loop, group, results)


def _resolve(loop: asyncio.AbstractEventLoop, group: list[_Request], results: list[Any]) -> None:
    for (_, _, future), result in zip(group, results, strict=True):
        if future.get_loop() is not loop or future.done():
            continue  # of another loop, or given up
        if type(result) is _Failed:
            future.set_exception(result.error)
        else:
            future.set_result(result)
