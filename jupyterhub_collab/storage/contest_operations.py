"""Writing plans: an action whole, or nothing of it. Operations and what they changed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, select, update

from ..models.contest_life import (
    ActionPlan,
    Operation,
    OperationState,
    TeamState,
    Transition,
)
from ..policy.contest_courses import may_undo
from . import contest_tables as tables
from .contest_changes import (
    DESTROYED,
    change_contest,
    change_teams,
    check_state,
    differing,
    insert_new,
    lock_contest,
    lock_teams,
    note_transitions,
)
from .contest_courses import leave_operations
from .contest_errors import StaleError
from .contest_records import PastTransition
from .contest_rows import (
    course_columns,
    from_us,
    in_chunks,
    operation_columns,
    to_contest_columns,
    to_course,
    to_operation,
    to_team_columns,
    to_us,
)

_ENDS: Final = {
    OperationState.DONE: OperationState.RUNNING,
    OperationState.UNDONE: OperationState.RUNNING,
    OperationState.DECLINED: OperationState.PROPOSED,
}
"""How an operation ends, and from where alone: who declines may come after who approved."""


DECLINED_BY: Final = "declinedBy"
"""In a declined operation's report: who said no."""


def commit(
    connection: Connection, plan: ActionPlan, operation: Operation, *, at: datetime
) -> tuple[Operation, bool]:
    """Write a plan with its operation, once for each contest and key. Whether this wrote it."""
    if operation.contest != plan.contest:
        raise ValueError(f"an operation of {operation.contest} with a plan of {plan.contest}")
    row = lock_contest(connection, plan.contest)
    there = operation_of(connection, operation.contest, operation.key)
    if there is not None and (
        there.state is not OperationState.PROPOSED or there.number != operation.number
    ):
        return there, False
    if there is None and operation.number:
        raise StaleError(f"There is no proposal {operation.number} in {plan.contest}.")
    if row.generation != plan.contest_generation:
        raise StaleError(
            f"The contest {plan.contest} was changed since this was planned. Look at the plan anew."
        )
    _write_values(connection, plan, row)
    replaced = _lock_replaced(connection, plan)
    number = _write_operation(connection, operation, len(plan.courses), at)
    _write_courses(connection, plan, number)
    leave_operations(connection, replaced, at=at, is_done=False)
    by = operation.asked_by
    note_transitions(connection, plan.transitions, by=by, operation=number, at=at)
    return _read_operation(connection, number), True


def _write_values(connection: Connection, plan: ActionPlan, row: Row[Any]) -> None:
    """New values of the contest's row and of its teams'. Raises StaleError."""
    values: dict[str, dict[str, Any]] = {u.team: dict(u.values) for u in plan.updates}
    of_contest = dict(plan.contest_values)
    for transition in plan.transitions:
        if transition.team:
            values.setdefault(transition.team, {})["state"] = TeamState(transition.after)
        else:
            of_contest["state"] = transition.after
    rows = lock_teams(connection, values)
    for team in values:
        if team not in rows or rows[team].contest != plan.contest:
            raise StaleError(f"There is no team {team} in the contest {plan.contest}.")
        if rows[team].state == DESTROYED:
            raise StaleError(f"{team} is destroyed by now. Look at the plan anew.")
    for transition in plan.transitions:
        check_state(rows[transition.team] if transition.team else row, transition)
    changes = {t: differing(rows[t], to_team_columns(new)) for t, new in values.items()}
    change_teams(connection, {team: changed for team, changed in changes.items() if changed})
    change_contest(connection, row, to_contest_columns(of_contest), is_counted=True)


def _lock_replaced(connection: Connection, plan: ActionPlan) -> Counter[int]:
    """How many courses of which operations this ends. Raises StaleError where it is too late."""
    c = tables.courses.c
    replaced: Counter[int] = Counter()
    for teams in in_chunks(sorted({*plan.ended_courses, *(c.team for c in plan.courses)})):
        wanted = select(tables.courses).where(c.contest == plan.contest, c.team.in_(teams))
        for row in connection.execute(wanted.order_by(c.team).with_for_update()):
            if not may_undo(to_course(row)):
                raise StaleError(
                    f"What is under way with {row.team or plan.contest} ({row.kind}) deletes by "
                    "now and cannot be turned back. Look at the plan anew."
                )
            replaced[row.operation] += 1
    return replaced


def _write_operation(
    connection: Connection, operation: Operation, courses: int, at: datetime
) -> int:
    """Its number. One without courses is done with this."""
    columns = operation_columns(operation)
    is_done = courses == 0
    columns["state"] = (OperationState.DONE if is_done else OperationState.RUNNING).value
    columns["ended_us"] = to_us(at) if is_done else None
    columns |= {"courses_left": courses, "courses_done": 0}
    o = tables.operations.c
    if operation.number:
        is_proposed = o.state == OperationState.PROPOSED.value
        mine = update(tables.operations).where(o.number == operation.number, is_proposed)
        for name in ("request", "asked_by", "asked_us"):
            del columns[name]  # whoever approves changes nothing of what was asked
        if connection.execute(mine.values(columns)).rowcount == 0:
            raise StaleError(f"Proposal {operation.number} was decided at the same moment.")
        return operation.number
    made = connection.execute(insert(tables.operations).returning(o.number), [columns])
    return int(made.scalar_one())


def _write_courses(connection: Connection, plan: ActionPlan, number: int) -> None:
    c = tables.courses.c
    for teams in in_chunks({*plan.ended_courses, *(c.team for c in plan.courses)}):
        gone = delete(tables.courses).where(c.contest == plan.contest, c.team.in_(teams))
        connection.execute(gone)
    rows = [
        {**course_columns(course), "contest": plan.contest, "operation": number}
        for course in plan.courses
    ]
    if rows:
        connection.execute(insert(tables.courses), rows)


def propose(connection: Connection, operation: Operation) -> tuple[Operation, bool]:
    """Keep it; the same key: the one that is there. Whether this wrote it."""
    lock_contest(connection, operation.contest)
    columns = operation_columns(operation)
    columns["state"] = OperationState.PROPOSED.value
    columns |= {"courses_left": 0, "courses_done": 0}
    is_new = bool(insert_new(connection, tables.operations, [columns]))
    found = operation_of(connection, operation.contest, operation.key)
    if found is None:
        raise AssertionError("neither new nor there")
    return found, is_new


def decline(
    connection: Connection, number: int, *, by: str, at: datetime
) -> tuple[Operation | None, bool]:
    """End a proposal, with who said no. Whether this did: of two who decide one is first."""
    o = tables.operations.c
    is_proposed = o.state == OperationState.PROPOSED.value
    mine = update(tables.operations).where(o.number == number, is_proposed)
    ended = {
        "state": OperationState.DECLINED.value,
        "ended_us": to_us(at),
        "report": json.dumps({DECLINED_BY: by}),
    }
    is_done = connection.execute(mine.values(ended)).rowcount > 0
    return find_operation(connection, number), is_done


def find_operation(connection: Connection, number: int) -> Operation | None:
    """One."""
    wanted = select(tables.operations).where(tables.operations.c.number == number)
    row = connection.execute(wanted).first()
    return None if row is None else to_operation(row)


def _read_operation(connection: Connection, number: int) -> Operation:
    found = find_operation(connection, number)
    if found is None:
        raise AssertionError(f"the row of operation {number} is gone")
    return found


def operation_of(connection: Connection, contest: str, key: str) -> Operation | None:
    """The one that was asked for with this key."""
    o = tables.operations.c
    wanted = select(tables.operations).where(o.contest == contest, o.key == key)
    row = connection.execute(wanted).first()
    return None if row is None else to_operation(row)


def list_operations(
    connection: Connection, contest: str, states: frozenset[OperationState], limit: int
) -> tuple[Operation, ...]:
    """The newest first."""
    o = tables.operations.c
    wanted = select(tables.operations).where(o.contest == contest)
    if states:
        wanted = wanted.where(o.state.in_(sorted(s.value for s in states)))
    ordered = wanted.order_by(o.number.desc()).limit(limit)
    return tuple(map(to_operation, connection.execute(ordered)))


def end_operation(
    connection: Connection,
    number: int,
    state: OperationState,
    *,
    at: datetime,
    report: Mapping[str, Any],
) -> None:
    """What became of it; once more: another report. Raises StaleError if it cannot end so."""
    if state not in _ENDS:
        raise ValueError(f"an operation does not end {state.value}")
    o = tables.operations.c
    before = (_ENDS[state].value, state.value)
    mine = update(tables.operations).where(o.number == number, o.state.in_(before))
    ended_us = func.coalesce(o.ended_us, to_us(at))
    ended = mine.values(state=state.value, ended_us=ended_us, report=json.dumps(dict(report)))
    if connection.execute(ended).rowcount:
        return
    found = find_operation(connection, number)
    if found is None:
        raise StaleError(f"There is no operation {number}.")
    raise StaleError(f"Operation {number} is {found.state.value} and cannot be {state.value} now.")


def list_transitions(
    connection: Connection, contest: str, team: str | None, after: int, limit: int
) -> tuple[PastTransition, ...]:
    """Those after that number, in order."""
    number = tables.transitions.c.number
    wanted = _transitions_of(contest, team).where(number > after)
    return tuple(map(_to_past, connection.execute(wanted.order_by(number).limit(limit))))


def newest_transitions(
    connection: Connection, contest: str, team: str | None, limit: int
) -> tuple[PastTransition, ...]:
    """The newest first."""
    number = tables.transitions.c.number
    newest = _transitions_of(contest, team).order_by(number.desc()).limit(limit)
    return tuple(map(_to_past, connection.execute(newest)))


def _transitions_of(contest: str, team: str | None) -> Select[Any]:
    t = tables.transitions.c
    wanted = select(tables.transitions).where(t.contest == contest)
    return wanted if team is None else wanted.where(t.team == team)


def list_untold(connection: Connection, limit: int) -> tuple[PastTransition, ...]:
    """Those that the audit log was not told of, in order."""
    t, o = tables.transitions.c, tables.outbox.c
    wanted = select(tables.transitions).join(tables.outbox, o.transition == t.number)
    return tuple(map(_to_past, connection.execute(wanted.order_by(t.number).limit(limit))))


def mark_told(connection: Connection, numbers: Iterable[int]) -> None:
    """The audit log was told of these, or will be."""
    for some in in_chunks(numbers):
        told = tables.outbox.c.transition.in_(some)
        connection.execute(delete(tables.outbox).where(told))


def _to_past(row: Row[Any]) -> PastTransition:
    return PastTransition(
        number=row.number,
        at=from_us(row.at_us),
        by=row.by,
        operation=row.operation,
        transition=Transition(row.contest, row.team, row.before, row.after, row.reason),
    )
