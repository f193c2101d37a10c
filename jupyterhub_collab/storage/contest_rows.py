"""From the registry's records to rows, and back. Rows never leave `storage/`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, Select

from ..models import ContestManifest, Gate, Retention, RosterEntry, TierOverrides
from ..models.contest_life import (
    ActionRequest,
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    MemberRecord,
    Operation,
    OperationState,
    Step,
    TeamRecord,
    TeamState,
)
from ..policy.problems import to_document
from ..policy.roster import to_key, to_stored
from .contest_errors import UnreadableError
from .database import hash_id

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND: Final = timedelta(microseconds=1)
_ENTRY: Final[TypeAdapter[RosterEntry]] = TypeAdapter(RosterEntry)
_CHUNK: Final = 500  # values in one statement; SQLite takes 32,766, older ones 999

T = TypeVar("T")


def in_chunks(values: Iterable[T]) -> Iterator[Sequence[T]]:
    """So many at once as one statement takes."""
    everything = list(values)
    for start in range(0, len(everything), _CHUNK):
        yield everything[start : start + _CHUNK]


def to_us(at: datetime) -> int:
    """Microseconds since 1970. Raises ValueError for a moment without its zone."""
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone")
    return (at - _EPOCH) // _MICROSECOND


def to_us_or_none(at: datetime | None) -> int | None:
    """The same; None stays None."""
    return None if at is None else to_us(at)


def from_us(us: int) -> datetime:
    """In UTC."""
    return _EPOCH + us * _MICROSECOND


def from_us_or_none(us: int | None) -> datetime | None:
    """In UTC; None stays None."""
    return None if us is None else from_us(us)


# Contests and teams. A column that needs more than its value is named here, with both ways.

_CONTEST_TO: Final[Mapping[str, Callable[[Any], Any]]] = {
    "manifest": lambda m: json.dumps(_without_teams(m)),
    "state": lambda s: ContestState(s).value,
    "ranking": json.dumps,
}
_TEAM_TO: Final[Mapping[str, Callable[[Any], Any]]] = {
    "state": lambda s: TeamState(s).value,
    "state_before": lambda s: None if s is None else TeamState(s).value,
    "overrides": lambda o: json.dumps(o.to_wire()),
    "datasets": json.dumps,
    "gate": lambda g: Gate(g).value,
    "retention": lambda r: Retention(r).value,
}
_KEPT: Final = frozenset({"id", "contest", "generation", "projected"})  # the store's own affair
_CONTEST_FIELDS: Final = frozenset(f.name for f in fields(ContestRecord)) - _KEPT
_TEAM_FIELDS: Final = frozenset(f.name for f in fields(TeamRecord)) - _KEPT


def to_contest_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of new values by field name of `ContestRecord`. Raises ValueError for others."""
    return _to_columns(values, _CONTEST_FIELDS, _CONTEST_TO)


def to_team_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of new values by field name of `TeamRecord`. Raises ValueError for others."""
    return _to_columns(values, _TEAM_FIELDS, _TEAM_TO)


def contest_columns(record: ContestRecord) -> dict[str, Any]:
    """All but what the store counts itself."""
    return to_contest_columns({name: getattr(record, name) for name in _CONTEST_FIELDS})


def team_columns(record: TeamRecord) -> dict[str, Any]:
    """All but what the store counts itself."""
    return to_team_columns({name: getattr(record, name) for name in _TEAM_FIELDS})


def _to_columns(
    values: Mapping[str, Any], known: frozenset[str], to: Mapping[str, Callable[[Any], Any]]
) -> dict[str, Any]:
    unknown = sorted(values.keys() - known)
    if unknown:
        raise ValueError(f"no values that can be set: {', '.join(unknown)}")
    return {name: to[name](v) if name in to else v for name, v in values.items()}


def _without_teams(manifest: ContestManifest) -> dict[str, Any]:
    wire = manifest.to_wire()
    wire.pop("teams", None)
    return wire


def to_contest(row: Row[Any]) -> ContestRecord:
    """Raises UnreadableError."""
    try:
        return ContestRecord(
            id=row.id,
            manifest=to_document(ContestManifest, json.loads(row.manifest)),
            state=ContestState(row.state),
            round=row.round,
            is_frozen=row.is_frozen,
            ranking=tuple(json.loads(row.ranking)),
            generation=row.generation,
            projected=row.projected,
        )
    except _BROKEN as e:
        raise _unreadable(f"the contest {row.id}", "Other contests", e, row.id) from e


# What somebody wrote there by hand can be anything: all of these are the row's fault.
_BROKEN: Final = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def _unreadable(what: str, others: str, why: Exception, contest: str) -> UnreadableError:
    return UnreadableError(
        f"The row of {what} in the registry cannot be read: {str(why)[:500]}. It was written by"
        " another version, or changed by hand; run the version that wrote it, or put back a copy"
        f" of the database. {others} are not touched by it.",
        contest=contest,
    )


def readable(
    rows: Iterable[Row[Any]], read: Callable[[Row[Any]], T]
) -> tuple[list[T], list[tuple[Row[Any], str]]]:
    """Those that can be read; the others, and why. One that cannot costs no other its place."""
    found: list[T] = []
    others: list[tuple[Row[Any], str]] = []
    for row in rows:
        try:
            found.append(read(row))
        except UnreadableError as e:
            others.append((row, str(e)))
    return found, others


def first_readable(
    connection: Connection, wanted: Select[Any], read: Callable[[Row[Any]], T], limit: int | None
) -> tuple[list[T], list[tuple[Row[Any], str]]]:
    """The first so many in their order that can be read, and the others that were come by."""
    found: list[T] = []
    others: list[tuple[Row[Any], str]] = []
    offset = 0
    while True:
        left = None if limit is None else limit - len(found)
        rows = connection.execute(wanted.limit(left).offset(offset or None)).all()
        some, bad = readable(rows, read)
        found += some
        others += bad
        if not bad or limit is None:
            return found, others
        offset += len(rows)


_NO_OVERRIDES: Final = TierOverrides()


def to_team(row: Row[Any]) -> TeamRecord:
    """Of a whole row. Raises UnreadableError."""
    try:
        return _to_team(row)
    except _BROKEN as e:
        raise _unreadable(f"the team {row.id}", "Other teams", e, row.contest) from e


def _to_team(row: Row[Any]) -> TeamRecord:
    overrides = json.loads(row.overrides)
    return TeamRecord(
        id=row.id,
        contest=row.contest,
        state=TeamState(row.state),
        state_before=None if row.state_before is None else TeamState(row.state_before),
        title=row.title,
        tier=row.tier,
        overrides=to_document(TierOverrides, overrides) if overrides else _NO_OVERRIDES,
        datasets=tuple(json.loads(row.datasets)),
        gate=Gate(row.gate),
        retention=Retention(row.retention),
        captain=row.captain,
        round=row.round,
        generation=row.generation,
        projected=row.projected,
    )


# Members.


def hash_entry(entry: RosterEntry) -> str:
    """Whom an entry names, 64 hex digits: keys are as long as sources make them."""
    return hash_id(json.dumps(to_key(entry)))


def member_columns(member: MemberRecord) -> dict[str, Any]:
    """All but where it stands."""
    (entry,) = to_stored([member.entry])
    return {
        "entry": json.dumps(_ENTRY.dump_python(entry, mode="json")),
        "entry_key": hash_entry(entry),
        "joined_us": to_us(member.joined_at),
        "is_captain": member.is_captain,
    }


def to_member(row: Row[Any]) -> MemberRecord:
    """Of a whole row."""
    entry = json.loads(row.entry)
    return MemberRecord(
        team=row.team,
        # A name was checked when it came in; the check takes most of the time of 25,000 members.
        entry=entry if isinstance(entry, str) else _ENTRY.validate_python(entry),
        joined_at=from_us(row.joined_us),
        is_captain=row.is_captain,
    )


# Operations and courses.


def operation_columns(operation: Operation) -> dict[str, Any]:
    """All but its number."""
    return {
        "contest": operation.contest,
        "key": operation.key,
        "request": json.dumps(operation.request.to_wire()),
        "state": operation.state.value,
        "asked_by": operation.asked_by,
        "asked_us": to_us(operation.asked_at),
        "plan_hash": operation.plan_hash,
        "approved_by": operation.approved_by,
        "ended_us": to_us_or_none(operation.ended_at),
        "report": json.dumps(dict(operation.report)),
    }


def to_operation(row: Row[Any]) -> Operation:
    """Of a whole row."""
    return Operation(
        number=row.number,
        contest=row.contest,
        request=to_document(ActionRequest, json.loads(row.request)),
        state=OperationState(row.state),
        key=row.key,
        asked_by=row.asked_by,
        asked_at=from_us(row.asked_us),
        plan_hash=row.plan_hash,
        approved_by=row.approved_by,
        ended_at=from_us_or_none(row.ended_us),
        report=json.loads(row.report),
    )


def times_column(times: Mapping[Step, datetime]) -> str:
    """JSON."""
    return json.dumps({step.value: to_us(at) for step, at in times.items()})


def course_columns(course: Course) -> dict[str, Any]:
    """The whole row."""
    return {
        "contest": course.contest,
        "team": course.team,
        "kind": course.kind.value,
        "step": course.step,
        "due_us": to_us(course.due_at),
        "operation": course.operation,
        "times": times_column(course.times),
        "attempts": course.attempts,
        "error": course.error,
    }


def to_course(row: Row[Any]) -> Course:
    """Of a whole row. Raises UnreadableError."""
    try:
        return _to_course(row)
    except _BROKEN as e:
        whose = f"team {row.team}" if row.team else f"contest {row.contest}"
        what = f"what is under way with the {whose}"
        raise _unreadable(what, "Other teams", e, row.contest) from e


def _to_course(row: Row[Any]) -> Course:
    times = json.loads(row.times)
    return Course(
        contest=row.contest,
        team=row.team,
        kind=CourseKind(row.kind),
        step=row.step,
        due_at=from_us(row.due_us),
        operation=row.operation,
        times={Step(step): from_us(us) for step, us in times.items()},
        attempts=row.attempts,
        error=row.error,
    )
