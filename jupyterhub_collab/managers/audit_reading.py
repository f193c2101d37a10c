"""Reading the audit log: who asks, what they may see, and the record of it, in this order.

Nothing is answered before the record of the question is on disk: whoever gets events has left one.
A reader's standing is asked of the hub each time. Where the hub does not say, nobody reads.

It must not: judge by itself who may see what (`policy.audit_access` does), or keep a standing.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from ..errors import PermanentError, RetryableError
from ..models.audit import AuditEvent, Detail, Outcome, StoredEvent, Verb
from ..models.audit_query import EventQuery
from ..models.standing import PersonStanding
from ..policy.audit_access import NOWHERE, Place, own_scope, scope_of
from ..policy.audit_reading import (
    Counts,
    Reader,
    ShownEvent,
    count,
    make_records,
    places_of_event,
    show,
)
from ..policy.checkpoint import LogVerifier
from ..policy.merkle import make_inclusion_proof
from ..policy.tiles import TileHashes

PAGE_MAX: Final = 1000
_EXPORT_PAGE: Final = 500  # events in memory; parsing them holds the loop for some milliseconds
_SURVEY_PAGE: Final = 1000
HOURS_MAX: Final = 5_000  # events that a time line counts
SURVEY_MAX: Final = 20_000  # accesses that are summed up
_LIVE_S: Final = 0.5  # between two looks at whether the log has grown
_STORED: Final = b'"stored":"'


class ReadableLog(Protocol):
    """What of `storage.audit_log.AuditLog` reading needs."""

    @property
    def size(self) -> int:
        """Number of events."""

    async def read(
        self,
        query: EventQuery,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> tuple[StoredEvent, ...]:
        """Between the two: newest first, or with `after` alone oldest first."""

    def at(self, size: int) -> TileHashes:
        """The tree as it was with so many leaves. What is asked of it blocks."""

    async def checkpoints(self) -> tuple[tuple[int, str], ...]:
        """Sizes and notes, smallest first."""

    async def last_checkpoint(self) -> tuple[int, str] | None:
        """The newest."""


class NobodyError(PermanentError):
    """The hub knows no such user (any more)."""


class NotYetError(RetryableError):
    """No checkpoint covers so far what is to be proved; `event` is that, if it is one."""

    def __init__(self, message: str, event: ShownEvent | None = None) -> None:
        super().__init__(message, retry_after_s=5)
        self.event = event


@dataclass(frozen=True)
class Page:
    """Some events.

    Attributes
    ----------
    following
        Where to go on, in the same direction: number of the last event here; None: that is all.
    """

    events: tuple[ShownEvent, ...]
    following: int | None
    hours: Hours | None = None


@dataclass(frozen=True)
class Hours:
    """Number of events by hour of the log's clock, ``2027-03-01T10``, where there were any.

    Attributes
    ----------
    is_cut
        There are more than `HOURS_MAX`; only the newest were counted.
    """

    counts: Mapping[str, int]
    is_cut: bool


@dataclass(frozen=True)
class Access:
    """How somebody accessed a data set.

    Attributes
    ----------
    name
        Hub user; empty: erased, or nobody is named.
    count, refused
        How often it was tried; how often of these it was refused or failed.
    first, last
        When, by the log's clock.
    """

    name: str
    team: str
    count: int
    refused: int
    first: str
    last: str

    @classmethod
    def of(cls, event: ShownEvent) -> Access:
        """Of one event. Whoever really did it counts."""
        who = event.people.get("actor") or event.people.get("subject") or {}
        at = event.document["stored"]
        is_refused = event.document["outcome"] in (Outcome.REFUSED.value, Outcome.FAILED.value)
        team = event.document.get("team", "")
        return cls(who.get("name", ""), team, 1, int(is_refused), at, at)

    def __add__(self, other: Access) -> Access:
        return Access(
            self.name,
            self.team,
            self.count + other.count,
            self.refused + other.refused,
            min(self.first, other.first),
            max(self.last, other.last),
        )


@dataclass(frozen=True)
class Accesses:
    """Who accessed a data set, latest first. `is_cut`: of the newest `SURVEY_MAX` accesses."""

    rows: tuple[Access, ...]
    is_cut: bool


@dataclass(frozen=True)
class Inclusion:
    """That an event is in the log.

    Attributes
    ----------
    path
        Hashes from the leaf to the head.
    size, note
        Of the checkpoint whose head it is.
    """

    event: ShownEvent
    path: tuple[bytes, ...]
    size: int
    note: str


class AuditReading:
    """Answers readers, and records that it did.

    Parameters
    ----------
    record
        Stores an event; done when it is on disk. Raises DatabaseError.
    ask_standing
        The hub's word on a user; None: nobody of that name.
    """

    def __init__(
        self,
        log: ReadableLog,
        *,
        record: Callable[[AuditEvent], Awaitable[Any]],
        ask_standing: Callable[[str], Awaitable[PersonStanding | None]],
        verifier: LogVerifier,
        now: Callable[[], datetime],
    ) -> None:
        self.log = log
        self.verifier = verifier
        self.now = now
        self._store = record
        self._ask_standing = ask_standing

    async def reader(
        self,
        name: str,
        *,
        is_full: bool,
        address: str = "",
        agent: str = "",
        correlation: str | None = None,
    ) -> Reader:
        """Somebody as they stand now.

        Parameters
        ----------
        is_full
            Whether they may read by their roles too, or only what they stand in themselves.

        Raises
        ------
        NobodyError
            The hub knows them no more.
        RetryableError, PermanentError
            The hub does not say.
        """
        standing = await self._ask_standing(name)
        if standing is None:
            raise NobodyError(f"The hub knows no user {name!r}.")
        if standing.name != name:
            raise PermanentError("The hub answered about another person than was asked for.")
        scope = scope_of(standing) if is_full else own_scope(name)
        return Reader(standing, scope, address, agent, correlation)

    async def search(
        self,
        reader: Reader,
        query: EventQuery,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 100,
        with_hours: bool = False,
    ) -> Page:
        """A page of events, recorded.

        Parameters
        ----------
        with_hours
            Count all events of the query by hour, too.

        Raises
        ------
        DatabaseError
        """
        query = replace(query, scope=reader.scope)
        found = await self.log.read(query, before=before, after=after, limit=limit + 1)
        events = tuple(show(reader.scope, event) for event in found[:limit])
        following = events[-1].sequence if len(found) > limit else None
        hours = await self._count_hours(query) if with_hours else None
        await self._record(reader, query, given=count(events))
        return Page(events, following, hours)

    async def find(self, reader: Reader, sequence: int) -> ShownEvent | None:
        """One event, recorded; None: there is none that this reader may see.

        The way is the same whether there is no such event or it is not theirs.
        """
        query = EventQuery(scope=reader.scope)
        found = await self.log.read(query, before=sequence + 1, after=sequence - 1, limit=1)
        events = [show(reader.scope, event) for event in found if event.sequence == sequence]
        places = places_of_event(reader.scope, events[0]) if events else (NOWHERE,)
        await self._record(reader, query, given=count(events), places=places, thing=str(sequence))
        return events[0] if events else None

    async def prove(self, reader: Reader, sequence: int) -> Inclusion | None:
        """That an event which the reader may see is in the log.

        Raises
        ------
        NotYetError
            No checkpoint covers it yet.
        """
        event = await self.find(reader, sequence)
        if event is None:
            return None
        covered = await self.covered()
        if covered is None or sequence > covered[0]:
            raise NotYetError(
                f"Event {sequence} is not under a signed checkpoint yet. The next one is made soon:"
                " ask again.",
                event,
            )
        size, note = covered
        [path] = await self.prove_many([sequence], size)
        return Inclusion(event, path, size, note)

    async def covered(self) -> tuple[int, str] | None:
        """Size and note of the newest checkpoint. Raises DatabaseError."""
        return await self.log.last_checkpoint()

    async def prove_many(self, sequences: Sequence[int], size: int) -> list[tuple[bytes, ...]]:
        """For each event the hashes that lead to the head of so many. Raises RetryableError."""
        # Neighbours share most of their hashes.
        range_hash = lru_cache(maxsize=4096)(self.log.at(size).range_hash)

        def work() -> list[tuple[bytes, ...]]:
            return [tuple(make_inclusion_proof(s - 1, size, range_hash)) for s in sequences]

        try:
            return await asyncio.to_thread(work)
        except ValueError as e:
            raise RetryableError(f"The log's tree cannot be read just now: {e}") from e

    async def accesses(self, reader: Reader, contest: str, dataset: str) -> Accesses:
        """Who accessed a data set, as far as the reader may see, recorded.

        Raises
        ------
        DatabaseError
        """
        query = EventQuery(
            scope=reader.scope,
            datasets=frozenset({(contest, dataset)}),
            verbs=frozenset({Verb.DATASET_READ.value, Verb.SERVER_START.value}),
        )
        rows: dict[tuple[str, str], Access] = {}
        ended: set[str] = set()  # starts whose end was met: that they were allowed is told before
        given: Counter[Place] = Counter()
        looked_at = 0
        async for events in self._newest(query, SURVEY_MAX):
            looked_at += len(events)
            shown = [show(reader.scope, event) for event in events]
            given += count(shown)
            for event in shown:
                access = Access.of(event)
                key = (access.name, access.team)
                if event.document["verb"] == Verb.SERVER_START.value:
                    server = event.document.get("thing", "")
                    if server in ended:
                        access = replace(access, count=0)
                    elif server:
                        ended.add(server)
                rows[key] = access if key not in rows else rows[key] + access
        await self._record(reader, query, given=given)
        ordered = sorted(rows.values(), key=lambda row: row.last, reverse=True)
        return Accesses(tuple(ordered), is_cut=looked_at >= SURVEY_MAX)

    async def export(
        self, reader: Reader, query: EventQuery, *, form: str, until: int | None = None
    ) -> AsyncGenerator[Sequence[ShownEvent], None]:
        """All events of a query as the log is now, oldest first, some at a time.

        That it begins is recorded before the first event, how it ended after the last. Close the
        iterator when the reader has gone away.

        Parameters
        ----------
        form
            ``csv``, ``jsonl``, ``parquet`` or ``bundle``, for the record.
        until
            Only the first `until` events of the log.

        Raises
        ------
        DatabaseError
            It could not be recorded; nothing was given away.
        """
        query = replace(query, scope=reader.scope)
        last = self.log.size if until is None else until
        more: dict[str, Detail] = {"format": form}
        await self._record(reader, query, Verb.AUDIT_EXPORT, Outcome.ALLOWED, more=more)
        return self._export(reader, query, last, more)

    async def _export(
        self, reader: Reader, query: EventQuery, last: int, more: Mapping[str, Detail]
    ) -> AsyncGenerator[Sequence[ShownEvent], None]:
        given: Counter[Place] = Counter()
        after, outcome = 0, Outcome.FAILED
        try:
            while after < last:
                found = await self.log.read(query, after=after, limit=_EXPORT_PAGE)
                events = [show(reader.scope, event) for event in found if event.sequence <= last]
                given += count(events)
                if events:
                    yield events
                after = events[-1].sequence if len(events) == _EXPORT_PAGE else last
            outcome = Outcome.SUCCEEDED
        finally:
            await self._record(reader, query, Verb.AUDIT_EXPORT, outcome, given=given, more=more)

    async def follow(
        self, reader: Reader, query: EventQuery, *, after: int | None, is_live: Callable[[], bool]
    ) -> AsyncGenerator[Sequence[ShownEvent], None]:
        """Events of a query as they come, from after `after` on (None: now), recorded.

        Yields nothing at all where nothing came for a while, so that whoever asked can see to other
        things. Ends when `is_live` says no.
        """
        query = replace(query, scope=reader.scope)
        last = self.log.size if after is None else after
        more: dict[str, Detail] = {"live": True}
        await self._record(reader, query, outcome=Outcome.ALLOWED, more=more)
        return self._follow(reader, query, last, more, is_live)

    async def _follow(
        self,
        reader: Reader,
        query: EventQuery,
        last: int,
        more: Mapping[str, Detail],
        is_live: Callable[[], bool],
    ) -> AsyncGenerator[Sequence[ShownEvent], None]:
        given: Counter[Place] = Counter()
        try:
            while is_live():
                size = self.log.size
                if size <= last:
                    yield ()
                    await asyncio.sleep(_LIVE_S)
                    continue
                found = await self.log.read(query, after=last, limit=_EXPORT_PAGE)
                # What came since the size was asked for is in the next page.
                events = [show(reader.scope, event) for event in found if event.sequence <= size]
                given += count(events)
                yield events
                last = events[-1].sequence if len(events) == _EXPORT_PAGE else size
        finally:
            await self._record(reader, query, given=given, more=more)

    async def _count_hours(self, query: EventQuery) -> Hours:
        counts: Counter[str] = Counter()
        looked_at = 0
        async for events in self._newest(query, HOURS_MAX):
            looked_at += len(events)
            counts.update(_hour_of(event.body) for event in events)
        return Hours(dict(sorted(counts.items())), is_cut=looked_at >= HOURS_MAX)

    async def _newest(
        self, query: EventQuery, most: int
    ) -> AsyncGenerator[Sequence[StoredEvent], None]:
        """The newest events of a query, at most `most`, some at a time."""
        before: int | None = None
        for _ in range(most // _SURVEY_PAGE):
            found = await self.log.read(query, before=before, limit=_SURVEY_PAGE)
            if found:
                yield found
                before = found[-1].sequence
            if len(found) < _SURVEY_PAGE:
                return
            await asyncio.sleep(0)

    async def _record(
        self,
        reader: Reader,
        query: EventQuery,
        verb: Verb = Verb.AUDIT_READ,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        given: Counts | None = None,
        places: Sequence[Place] | None = None,
        thing: str | None = None,
        more: Mapping[str, Detail] | None = None,
    ) -> None:
        """Record what was asked; done when it is on disk. Raises DatabaseError."""
        records = make_records(
            reader,
            query,
            at=self.now(),
            verb=verb,
            outcome=outcome,
            given=given,
            places=places,
            thing=thing,
            more=more,
        )
        done = await asyncio.gather(
            *(self._store(record) for record in records), return_exceptions=True
        )
        for result in done:
            if isinstance(result, BaseException):
                raise result


def _hour_of(body: bytes) -> str:
    """Hour of the log's clock: ``2027-03-01T10``. A detail that is called so stands before it."""
    start = body.rindex(_STORED) + len(_STORED)
    return body[start : start + 13].decode()
