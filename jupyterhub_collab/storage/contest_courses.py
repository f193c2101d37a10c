"""What is under way: rows that say which step of which way a team, or a contest, is on.

A step is done by a compare-and-swap on the row, so what was undone meanwhile is not gone on with,
and two workers that did the same step write it once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import chain, zip_longest
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, exists, func, select, update

from ..models.contest_life import (
    Course,
    CourseKind,
    OperationState,
    Step,
    TeamState,
    Transition,
)
from ..policy.contest_courses import steps_of
from . import contest_tables as tables
from .contest_changes import (
    change_contest,
    change_teams,
    check_state,
    differing,
    lock_contest,
    lock_teams,
    note_transitions,
)
from .contest_errors import StaleError
from .contest_records import UnreadableTeam
from .contest_rows import (
    first_readable,
    from_us,
    in_chunks,
    readable,
    times_column,
    to_contest_columns,
    to_course,
    to_team_columns,
    to_us,
)


class NotAnyMoreError(Exception):
    """The course is not what it was: all is rolled back."""


def due_courses(
    connection: Connection, now: datetime, limit: int
) -> tuple[tuple[Course, ...], tuple[UnreadableTeam, ...]]:
    """Those that are due, and those of which that cannot be read: they stand still.

    One of each contest in turn, each contest's longest due first.

    A query for each contest that has any: along an index, so what is not due costs nothing, and
    the thousands of one contest do not hide the one of another.
    """
    c = tables.courses.c
    is_due = c.due_us <= to_us(now)
    with_any = select(tables.contests.c.id).where(
        exists().where(c.contest == tables.contests.c.id, is_due)
    )
    by_contest = []
    unreadable: list[UnreadableTeam] = []
    for contest in connection.execute(with_any).scalars().all():
        wanted = select(tables.courses).where(c.contest == contest, is_due)
        ordered = wanted.order_by(c.due_us, c.team)
        courses, others = first_readable(connection, ordered, to_course, limit)
        unreadable += [UnreadableTeam(contest, row.team, why) for row, why in others]
        if courses:  # else the worker took it on between the two queries
            by_contest.append(courses)
    # Whose first has waited longest comes first in each turn.
    by_contest.sort(key=lambda courses: (courses[0].due_at, courses[0].contest))
    turns = chain.from_iterable(zip_longest(*by_contest))
    found = [course for course in turns if course is not None]
    return tuple(found[:limit]), tuple(unreadable)


def next_due(connection: Connection) -> datetime | None:
    """When the next one is due."""
    us = connection.execute(select(func.min(tables.courses.c.due_us))).scalar()
    return None if us is None else from_us(us)


def list_courses(
    connection: Connection, contest: str, teams: Iterable[str] | None
) -> dict[str, Course]:
    """By team; of these alone if any are named."""
    c = tables.courses.c
    all_ = select(tables.courses).where(c.contest == contest).order_by(c.team)
    parts = [all_] if teams is None else [all_.where(c.team.in_(some)) for some in in_chunks(teams)]
    rows = (row for wanted in parts for row in connection.execute(wanted))
    return {course.team: course for course in readable(rows, to_course)[0]}


def find_course(connection: Connection, contest: str, team: str) -> Course | None:
    """One; the contest's own where `team` is empty."""
    c = tables.courses.c
    wanted = select(tables.courses).where(c.contest == contest, c.team == team)
    row = connection.execute(wanted).first()
    return None if row is None else to_course(row)


def count_courses(connection: Connection, contest: str) -> dict[tuple[CourseKind, Step], int]:
    """By what is next."""
    c = tables.courses.c
    wanted = select(c.kind, c.step, func.count()).where(c.contest == contest)
    counts: Counter[tuple[CourseKind, Step]] = Counter()
    for kind, step, count in connection.execute(wanted.group_by(c.kind, c.step)):
        steps = steps_of(CourseKind(kind))
        if step < len(steps):
            counts[CourseKind(kind), steps[step]] += count
    return dict(counts)


def step_done(
    connection: Connection,
    course: Course,
    *,
    due_at: datetime | None,
    at: datetime,
    transition: Transition | None,
    team_values: Mapping[str, Any] | None,
    contest_values: Mapping[str, Any] | None,
) -> None:
    """Go on to the next step, or end the course; write with it what the step changed.

    Raises
    ------
    NotAnyMoreError
        The course is not what it was.
    """
    of_team, of_contest = dict(team_values or {}), dict(contest_values or {})
    if transition is not None and transition.team:
        of_team["state"] = TeamState(transition.after)
    elif transition is not None:
        of_contest["state"] = transition.after
    # All locks in their order, then whether the course is still there, then what else it needs.
    needs_contest = transition is not None or bool(of_contest)
    contest = lock_contest(connection, course.contest) if needs_contest else None
    team = lock_teams(connection, [course.team]).get(course.team) if of_team else None
    _move_on(connection, course, due_at)
    if of_team:
        if team is None or (transition is not None and transition.team != team.id):
            raise StaleError(f"There is no team {course.team} of which this could be written.")
        changed = differing(team, to_team_columns(of_team))
        if changed:
            change_teams(connection, {team.id: changed})
    if contest is not None:
        change_contest(connection, contest, to_contest_columns(of_contest))
    if transition is not None:
        row = team if transition.team else contest
        if row is not None:
            check_state(row, transition)
        by = _asked_by(connection, course.operation)
        note_transitions(connection, [transition], by=by, operation=course.operation, at=at)
    if due_at is None:
        leave_operations(connection, {course.operation: 1}, at=at, is_done=True)


def _move_on(connection: Connection, course: Course, due_at: datetime | None) -> None:
    """The next step, or the end. Raises NotAnyMoreError."""
    mine = _is(course)
    if due_at is None:
        done = connection.execute(delete(tables.courses).where(*mine))
    else:
        ahead = {
            "step": course.step + 1,
            "due_us": to_us(due_at),
            "times": times_column(course.times),
            "attempts": 0,
            "error": "",
        }
        done = connection.execute(update(tables.courses).where(*mine).values(ahead))
    if done.rowcount == 0:
        raise NotAnyMoreError


def step_failed(connection: Connection, course: Course, error: str, *, due_at: datetime) -> None:
    """Try again then, if it is still the same."""
    failed = {
        "due_us": to_us(due_at),
        "times": times_column(course.times),
        "attempts": tables.courses.c.attempts + 1,
        "error": error,
    }
    connection.execute(update(tables.courses).where(*_is(course)).values(failed))


def _is(course: Course) -> tuple[ColumnElement[bool], ...]:
    """That the row is still what this is."""
    c = tables.courses.c
    return (
        c.contest == course.contest,
        c.team == course.team,
        c.kind == course.kind.value,
        c.step == course.step,
        c.operation == course.operation,
    )


def _asked_by(connection: Connection, operation: int) -> str:
    o = tables.operations.c
    found = connection.execute(select(o.asked_by).where(o.number == operation)).scalar()
    return "" if found is None else str(found)


def leave_operations(
    connection: Connection, courses: Mapping[int, int], *, at: datetime, is_done: bool
) -> None:
    """So many courses of these operations ended: the operation ends with its last one.

    Counted in the operation's row: two that end at once would each see the other one there. Undone
    is an operation whose courses all ended before their last step.
    """
    o = tables.operations.c
    for number, count in sorted(courses.items()):
        mine = update(tables.operations).where(o.number == number)
        done = count if is_done else 0
        connection.execute(
            mine.values(courses_left=o.courses_left - count, courses_done=o.courses_done + done)
        )
        state = case(
            (o.courses_done > 0, OperationState.DONE.value), else_=OperationState.UNDONE.value
        )
        ended = mine.where(o.courses_left <= 0, o.state == OperationState.RUNNING.value)
        connection.execute(ended.values(state=state, ended_us=to_us(at)))
