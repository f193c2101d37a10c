"""Finding events: each way goes along one index, newest or oldest first, and stops when full.

A query becomes several narrow ones, each along an index that has the order of the log already: a
team's, a person's, a data set's. What is left of filters and scope is looked up event by event. If
the scope is less than everything, ways begin there: SQLite then reads nothing that the reader may
not see, except where they may see a whole contest and ask for a part of it. PostgreSQL may go
another way round when it thinks that shorter; the answer is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, union
from sqlalchemy import Table as SqlTable

from ..models.audit import Outcome, StoredEvent, Verb
from ..models.audit_query import OWN_VERBS, EventQuery
from .audit_tables import datasets, events, people, to_stored

LIMIT_MAX: Final = 1001  # a page of 1000, and whether there is more
_WAYS_AT_ONCE: Final = 100  # SQLite takes 500 parts of one UNION
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_row = events.alias("looked_up")

_Conditions = tuple[ColumnElement[bool], ...]


@dataclass(frozen=True)
class _Filters:
    """A query's filters: columns of events, and the two tables beside them."""

    contests: frozenset[str]
    teams: frozenset[str]
    verbs: frozenset[str]
    outcomes: frozenset[str]
    people: frozenset[str]
    datasets: frozenset[tuple[str, str]]

    @classmethod
    def from_query(cls, query: EventQuery) -> _Filters:
        return cls(
            query.contests,
            query.teams,
            _expand_verbs(query.verbs),
            _check_outcomes(query.outcomes),
            query.people,
            query.datasets,
        )


@dataclass(frozen=True)
class _Way:
    """Along an index: what is the same all along it, and what is looked up of each event."""

    table: SqlTable
    fixed: _Conditions = ()
    of_row: _Conditions = ()
    done: frozenset[str] = field(default_factory=frozenset)  # filters that `fixed` has seen to


def find(
    connection: Connection,
    query: EventQuery,
    *,
    before: int | None = None,
    after: int | None = None,
    limit: int = 100,
) -> tuple[StoredEvent, ...]:
    """Events that a query means: newest first, or with `after` alone oldest first.

    Raises
    ------
    ValueError
        A limit below 1 or above `LIMIT_MAX`; no verb or outcome is called so.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"a limit of 1 to {LIMIT_MAX}, not {limit}")
    is_newest_first = after is None or before is not None
    filters = _Filters.from_query(query)
    span = _span(connection, query, before, after)
    parts = [
        _along(way, filters, span, limit, is_newest_first=is_newest_first)
        for way in _ways(query, filters)
    ]
    found: set[int] = set()
    for start in range(0, len(parts), _WAYS_AT_ONCE):
        some = parts[start : start + _WAYS_AT_ONCE]
        rows = connection.execute(some[0] if len(some) == 1 else union(*some))
        found.update(row[0] for row in rows)
    wanted = sorted(found, reverse=is_newest_first)[:limit]
    columns = select(events.c.sequence, events.c.body, events.c.people)
    answer = connection.execute(columns.where(events.c.sequence.in_(wanted))).all()
    return tuple(sorted(map(to_stored, answer), key=_sequence_of, reverse=is_newest_first))


def read_range(connection: Connection, start: int, end: int) -> list[StoredEvent]:
    """Leaves start..end-1 (from 0) as far as they are there."""
    columns = select(events.c.sequence, events.c.body, events.c.people)
    wanted = columns.where(events.c.sequence > start, events.c.sequence <= end)
    return list(map(to_stored, connection.execute(wanted.order_by(events.c.sequence))))


def _sequence_of(event: StoredEvent) -> int:
    return event.sequence


def _ways(query: EventQuery, filters: _Filters) -> Iterator[_Way]:
    """Ways that together lead to each event in the scope."""
    scope = query.scope
    if scope.everything:
        yield from _ways_of_filters(filters)
        return
    for contest in sorted(scope.contests):
        if filters.contests and contest not in filters.contests:
            continue
        # A contest is large: within it, along what is asked for.
        if filters.people or filters.datasets or filters.teams:
            for way in _ways_of_filters(filters):
                yield _Way(way.table, way.fixed, (_row.c.contest == contest,), way.done)
        else:
            yield _Way(events, (events.c.contest == contest,), (), frozenset({"contests"}))
    not_own = (_row.c.verb.not_in(sorted(OWN_VERBS)),)
    for team in sorted(scope.teams):
        yield _Way(events, (events.c.team == team,), not_own)
    for pair in sorted(scope.datasets):
        yield _Way(datasets, _is_dataset(pair), not_own)
    if scope.person:
        yield _Way(people, (people.c.name == scope.person,), not_own)


def _ways_of_filters(filters: _Filters) -> Iterator[_Way]:
    """Along the filter that lets least through, as a rule."""
    if filters.people:
        for name in sorted(filters.people):
            yield _Way(people, (people.c.name == name,), (), frozenset({"people"}))
    elif filters.datasets:
        for pair in sorted(filters.datasets):
            yield _Way(datasets, _is_dataset(pair), (), frozenset({"datasets"}))
    elif filters.teams:
        for team in sorted(filters.teams):
            yield _Way(events, (events.c.team == team,), (), frozenset({"teams"}))
    elif filters.contests:
        for contest in sorted(filters.contests):
            yield _Way(events, (events.c.contest == contest,), (), frozenset({"contests"}))
    elif filters.verbs or filters.outcomes:
        verbs = sorted(filters.verbs) or [verb.value for verb in Verb]
        outcomes = sorted(filters.outcomes) or [outcome.value for outcome in Outcome]
        for verb, outcome in itertools.product(verbs, outcomes):
            fixed = (events.c.verb == verb, events.c.outcome == outcome)
            yield _Way(events, fixed, (), frozenset({"verbs", "outcomes"}))
    else:
        yield _Way(events)


def _along(
    way: _Way, filters: _Filters, span: tuple[int, int], limit: int, *, is_newest_first: bool
) -> Select[Any]:
    """The first sequences along a way. Look-ups are EXISTS: a join could go another way round."""
    sequence = way.table.c.sequence
    where = [*way.fixed, sequence > span[0], sequence < span[1]]
    of_row = list(way.of_row)
    for name, column in (
        ("contests", _row.c.contest),
        ("teams", _row.c.team),
        ("verbs", _row.c.verb),
        ("outcomes", _row.c.outcome),
    ):
        values = getattr(filters, name)
        if values and name not in way.done:
            of_row.append(column.in_(sorted(values)))
    if of_row:
        where.append(exists().where(_row.c.sequence == sequence, *of_row))
    if filters.people and "people" not in way.done:
        who = people.alias("looked_up_people")
        where.append(
            exists().where(who.c.name.in_(sorted(filters.people)), who.c.sequence == sequence)
        )
    if filters.datasets and "datasets" not in way.done:
        what = datasets.alias("looked_up_datasets")
        any_of = or_(
            *(
                and_(what.c.contest == contest, what.c.dataset == dataset)
                for contest, dataset in sorted(filters.datasets)
            )
        )
        where.append(exists().where(any_of, what.c.sequence == sequence))
    order = sequence.desc() if is_newest_first else sequence.asc()
    part = select(sequence).where(*where).order_by(order).limit(limit).subquery()
    return select(part.c.sequence)


def _is_dataset(pair: tuple[str, str]) -> _Conditions:
    return (datasets.c.contest == pair[0], datasets.c.dataset == pair[1])


def _span(
    connection: Connection, query: EventQuery, before: int | None, after: int | None
) -> tuple[int, int]:
    """Sequences that the answer lies between, both left out."""
    low = 0 if after is None else after
    last = connection.execute(select(func.max(events.c.sequence))).scalar() or 0
    high = last + 1 if before is None else min(before, last + 1)
    if query.since is not None:
        low = max(low, _first_stored(connection, query.since, last) - 1)
    if query.until is not None:
        high = min(high, _first_stored(connection, query.until, last))
    return low, high


def _first_stored(connection: Connection, moment: datetime, last: int) -> int:
    """Sequence of the first event stored at a moment or later; one after the last if none is.

    Stored times never go back, so halving the log finds it without an index to write.
    """
    wanted = to_microseconds(moment)
    low = connection.execute(select(func.min(events.c.sequence))).scalar() or 1
    high = last + 1
    while low < high:
        middle = (low + high) // 2
        at = select(events.c.stored_us).where(events.c.sequence == middle)
        stored = connection.execute(at).scalar()
        # Nothing is there when it was retired meanwhile: then what is wanted comes later.
        if stored is None or stored < wanted:
            low = middle + 1
        else:
            high = middle
    return low


def to_microseconds(moment: datetime) -> int:
    """Since 1970, whole. Raises ValueError for a moment without a zone."""
    if moment.utcoffset() is None:
        raise ValueError(f"the moment {moment.isoformat()} has no zone")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(count: int) -> datetime:
    """UTC, of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=count)


def _expand_verbs(wanted: Iterable[str]) -> frozenset[str]:
    """Verbs, also of ``server.*``."""
    found: set[str] = set()
    for word in wanted:
        prefix = word[:-1] if word.endswith(".*") else None
        meant = {
            verb.value
            for verb in Verb
            if verb.value == word or (prefix is not None and verb.value.startswith(prefix))
        }
        if not meant:
            raise ValueError(f"no event has the verb {word[:60]!r}")
        found |= meant
    return frozenset(found)


def _check_outcomes(wanted: Iterable[str]) -> frozenset[str]:
    known = {outcome.value for outcome in Outcome}
    found = frozenset(wanted)
    if found - known:
        raise ValueError(f"no event has the outcome {min(found - known)[:60]!r}")
    return found
