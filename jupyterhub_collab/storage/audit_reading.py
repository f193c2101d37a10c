"""Finding events: each way goes along one index, newest or oldest first, and stops when full.

A query becomes several narrow ones, each along a table that has the order of the log already: a
team's, a person's, a data set's. What is left of filters and scope is looked up event by event. If
the scope is less than everything, ways begin there: SQLite then reads nothing that the reader may
not see, except where they may see a whole contest and ask for a part of it. PostgreSQL may go
another way round when it thinks that shorter; the answer is the same.

The newest events, a few thousand at most, stand in no such table yet (`audit_index`). There each
event is looked at whether any of the same ways leads to it. The mark between the two is known
before anything is read and only moves on, so each event is in one of the two, whatever is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    true,
    union,
)
from sqlalchemy import Table as SqlTable

from ..models.audit import Outcome, StoredEvent, Verb
from ..models.audit_query import OWN_VERBS, EventQuery
from .audit_index import Key, is_found
from .audit_tables import contests, datasets, events, people, teams, to_stored, verbs

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
    """Along a table: what is searched for in it, and what is looked up of each event.

    `table` None: along all events. `done`: filters that the key has seen to.
    """

    table: SqlTable | None = None
    key: Key = ()
    of_row: _Conditions = ()
    done: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class _Page:
    """Places that the answer lies between, both left out, and how it is ordered."""

    low: int
    high: int
    limit: int
    is_newest_first: bool


def find(
    connection: Connection,
    query: EventQuery,
    *,
    indexed: int,
    before: int | None = None,
    after: int | None = None,
    limit: int = 100,
) -> tuple[StoredEvent, ...]:
    """Events that a query means: newest first, or with `after` alone oldest first.

    Parameters
    ----------
    indexed
        Up to this event all rows that searches go along are written.

    Raises
    ------
    ValueError
        A limit below 1 or above `LIMIT_MAX`; no verb or outcome is called so.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"a limit of 1 to {LIMIT_MAX}, not {limit}")
    is_newest_first = after is None or before is not None
    filters = _Filters.from_query(query)
    ways = list(_ways(query, filters))
    low, high = _span(connection, query, before, after)
    found: list[int] = []
    parts = [(low, min(high, indexed + 1), _find_indexed), (max(low, indexed), high, _find_newest)]
    for start, end, find_part in parts[::-1] if is_newest_first else parts:
        if start + 1 < end and len(found) < limit and ways:
            page = _Page(start, end, limit - len(found), is_newest_first)
            found += find_part(connection, ways, filters, page)
    columns = select(events.c.sequence, events.c.body, events.c.people)
    answer = connection.execute(columns.where(events.c.sequence.in_(found))).all()
    return tuple(sorted(map(to_stored, answer), key=_sequence_of, reverse=is_newest_first))


def _find_indexed(
    connection: Connection, ways: list[_Way], filters: _Filters, page: _Page
) -> list[int]:
    """The first sequences of a page, each way along its table."""
    parts = [_along(way, filters, page) for way in ways]
    found: set[int] = set()
    for start in range(0, len(parts), _WAYS_AT_ONCE):
        some = parts[start : start + _WAYS_AT_ONCE]
        rows = connection.execute(some[0] if len(some) == 1 else union(*some))
        found.update(row[0] for row in rows)
    return sorted(found, reverse=page.is_newest_first)[: page.limit]


def _find_newest(
    connection: Connection, ways: list[_Way], filters: _Filters, page: _Page
) -> list[int]:
    """The same, each event looked at whether one of the ways leads to it."""
    dialect = connection.dialect.name
    together: dict[tuple[SqlTable | None, _Conditions, frozenset[str]], list[Key]] = {}
    for way in ways:
        together.setdefault((way.table, way.of_row, way.done), []).append(way.key)
    any_way = []
    for (table, of_row, done), keys in together.items():
        leads = [] if table is None else [is_found(table, _row, keys, dialect)]
        leads += [*of_row, *_of_row(filters, done)]
        if filters.people and "people" not in done:
            names = [(name,) for name in sorted(filters.people)]
            leads.append(is_found(people, _row, names, dialect))
        if filters.datasets and "datasets" not in done:
            leads.append(is_found(datasets, _row, sorted(filters.datasets), dialect))
        any_way.append(and_(true(), *leads))
    sequence = _row.c.sequence
    order = sequence.desc() if page.is_newest_first else sequence.asc()
    found = select(sequence).where(sequence > page.low, sequence < page.high, or_(*any_way))
    return list(connection.execute(found.order_by(order).limit(page.limit)).scalars())


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
    wanted = sorted(scope.contests & filters.contests if filters.contests else scope.contests)
    if wanted and (filters.people or filters.datasets or filters.teams):
        # A contest is large: within all of them, along what is asked for.
        within = (
            _row.c.contest.in_(wanted),
        )  # one for all ways, which `_find_newest` puts together
        for way in _ways_of_filters(filters):
            yield _Way(way.table, way.key, within, way.done | {"contests"})
    else:
        for contest in wanted:
            yield _Way(contests, (contest,), (), frozenset({"contests"}))
    not_own = (_row.c.verb.not_in(sorted(OWN_VERBS)),)
    for team in sorted(scope.teams):
        yield _Way(teams, (team,), not_own)
    for pair in sorted(scope.datasets):
        yield _Way(datasets, pair, not_own)
    if scope.person:
        yield _Way(people, (scope.person,), not_own)


def _ways_of_filters(filters: _Filters) -> Iterator[_Way]:
    """Along the filter that lets least through, as a rule."""
    if filters.people:
        for name in sorted(filters.people):
            yield _Way(people, (name,), (), frozenset({"people"}))
    elif filters.datasets:
        for pair in sorted(filters.datasets):
            yield _Way(datasets, pair, (), frozenset({"datasets"}))
    elif filters.teams:
        for team in sorted(filters.teams):
            yield _Way(teams, (team,), (), frozenset({"teams"}))
    elif filters.contests:
        for contest in sorted(filters.contests):
            yield _Way(contests, (contest,), (), frozenset({"contests"}))
    elif filters.verbs or filters.outcomes:
        wanted = sorted(filters.verbs) or [verb.value for verb in Verb]
        outcomes = sorted(filters.outcomes) or [outcome.value for outcome in Outcome]
        for pair in itertools.product(wanted, outcomes):
            yield _Way(verbs, pair, (), frozenset({"verbs", "outcomes"}))
    else:
        yield _Way()


def _along(way: _Way, filters: _Filters, page: _Page) -> Select[Any]:
    """The first sequences along a way. Look-ups are EXISTS: a join could go another way round."""
    table = events if way.table is None else way.table
    sequence = table.c.sequence
    where = [column == value for column, value in zip(table.columns, way.key, strict=False)]
    where += [sequence > page.low, sequence < page.high]
    of_row = [*way.of_row, *_of_row(filters, way.done)]
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
    order = sequence.desc() if page.is_newest_first else sequence.asc()
    part = select(sequence).where(*where).order_by(order).limit(page.limit).subquery()
    return select(part.c.sequence)


def _of_row(filters: _Filters, done: frozenset[str]) -> list[ColumnElement[bool]]:
    """What filters ask of an event's own columns."""
    wanted = (
        ("contests", _row.c.contest),
        ("teams", _row.c.team),
        ("verbs", _row.c.verb),
        ("outcomes", _row.c.outcome),
    )
    return [
        column.in_(sorted(values))
        for name, column in wanted
        if (values := getattr(filters, name)) and name not in done
    ]


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
