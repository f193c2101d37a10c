"""Records as the API gives them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from ...managers.contest_archives import archive_of
from ...managers.contest_registry import ContestProgress
from ...models import RosterEntry
from ...models.contest_life import (
    ActionPlan,
    Archive,
    ContestRecord,
    Course,
    MemberRecord,
    Operation,
    TeamRecord,
)
from ...policy.contest_actions import hash_plan
from ...policy.contest_calendar import deadlines
from ...policy.contest_courses import may_undo, next_step
from ...policy.contest_projection import gate_of, to_acceptance
from ...storage.contests import Merger, TeamInvitation

Json = dict[str, Any]
_ENTRY: TypeAdapter[RosterEntry] = TypeAdapter(RosterEntry)
_STUCK_MAX = 200  # courses that an answer names


def to_text(at: datetime | None) -> str | None:
    """A moment, in UTC."""
    return None if at is None else at.isoformat().replace("+00:00", "Z")


def contest_summary(contest: ContestRecord) -> Json:
    """What everybody who sees a contest is told of it."""
    said = contest.manifest
    return {
        "id": contest.id,
        "title": said.contest.title,
        "state": contest.state.value,
        "round": contest.round,
        "rounds": [{"title": r.title, "opens": r.opens, "closes": r.closes} for r in said.rounds],
        "frozen": contest.is_frozen,
        "ends": to_text(said.contest.ends),
        "timeZone": said.contest.time_zone,
        "generation": contest.generation,
    }


def registration(contest: ContestRecord) -> Json | None:
    """How teams come together; None: its host lists them."""
    rules = contest.manifest.registration
    if rules is None:
        return None
    agreement = rules.agreement
    return {
        "teamSizeMax": rules.team_size_max,
        "teamsMax": rules.teams_max,
        "opens": rules.opens,
        "closes": rules.closes,
        "mergeUntil": rules.merge_until,
        "needsApproval": rules.needs_approval,
        "agreement": None
        if agreement is None
        else {"version": agreement.version, "text": agreement.text},
    }


def team_summary(team: TeamRecord, contest: ContestRecord) -> Json:
    """A team in a list."""
    return {
        "id": team.id,
        "contest": team.contest,
        "title": team.title,
        "state": team.state.value,
        "captain": team.captain or None,
        "round": team.round,
        "gate": gate_of(contest, team).value,
        "tier": team.tier,
        "generation": team.generation,
        "projected": team.generation == team.projected,
    }


def entry_wire(entry: RosterEntry) -> Any:
    """Somebody, as a roster names them."""
    return _ENTRY.dump_python(entry, mode="json", by_alias=True)


def members_wire(members: Iterable[MemberRecord], accepted: Collection[str] | None) -> list[Json]:
    """A roster. `accepted`: who accepted the agreement; None: there is none."""
    return [
        {
            "entry": entry_wire(member.entry),
            "joinedAt": to_text(member.joined_at),
            "captain": member.is_captain,
            "agreed": None if accepted is None else to_acceptance(member.entry) in accepted,
        }
        for member in members
    ]


def invitation_wire(invitation: TeamInvitation) -> Json:
    """An invitation, without its token."""
    return {
        "id": invitation.id,
        "madeBy": invitation.made_by,
        "expiresAt": to_text(invitation.expires_at),
    }


def merger_wire(merger: Merger) -> Json:
    """Two teams that are, or would be, one."""
    return {
        "team": merger.into,
        "gone": merger.source,
        "moving": merger.moving,
        "members": merger.together,
        "membersMax": merger.size_max,
    }


def course_wire(course: Course) -> Json:
    """What is under way with a team (null: with the contest)."""
    step = next_step(course)
    return {
        "team": course.team or None,
        "kind": course.kind.value,
        "step": None if step is None else step.value,
        "dueAt": to_text(course.due_at),
        "operation": course.operation,
        "attempts": course.attempts,
        "why": course.error or None,
        "canBeUndone": may_undo(course),
        "times": {name.value: to_text(at) for name, at in course.times.items()},
    }


def archive_wire(row: Archive) -> Json:
    """A copy of a volume, as the registry remembers it."""
    return {
        "archive": archive_of(row),
        "team": row.team,
        "volume": row.volume,
        "place": row.place,
        "bytes": row.bytes,
        "sha256": row.sha256,
        "at": to_text(row.at),
        "keepUntil": to_text(row.keep_until),
    }


def operation_wire(operation: Operation) -> Json:
    """Something that somebody asked for."""
    return {
        "number": operation.number,
        "contest": operation.contest,
        "state": operation.state.value,
        "request": operation.request.to_wire(),
        "askedBy": operation.asked_by,
        "askedAt": to_text(operation.asked_at),
        "approvedBy": operation.approved_by or None,
        "endedAt": to_text(operation.ended_at),
        "planHash": operation.plan_hash,
        "report": dict(operation.report),
    }


def plan_wire(plan: ActionPlan) -> Json:
    """What an action would change."""
    return {
        "contest": plan.contest,
        "request": plan.request.to_wire(),
        "planHash": hash_plan(plan),
        "needsSecond": plan.needs_second,
        "transitions": [
            {"team": t.team or None, "before": t.before, "after": t.after} for t in plan.transitions
        ],
        "changes": [
            {"team": update.team, "values": {k: _plain(v) for k, v in update.values.items()}}
            for update in plan.updates
        ],
        "contestChanges": {k: _plain(v) for k, v in plan.contest_values.items()},
        "courses": [course_wire(course) for course in plan.courses],
        "endedCourses": [team or None for team in plan.ended_courses],
        "irreversible": list(plan.irreversible),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (str, int, bool)) or value is None:
        return getattr(value, "value", value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    to_wire = getattr(value, "to_wire", None)
    return to_wire() if to_wire is not None else str(getattr(value, "value", value))


def progress_wire(progress: ContestProgress, now: datetime) -> Json:
    """Where a contest is: counts, what is stuck and why, what comes when."""
    steps: dict[tuple[str, str], int] = {}
    for course in progress.courses.values():
        step = next_step(course)
        key = (course.kind.value, "" if step is None else step.value)
        steps[key] = steps.get(key, 0) + 1
    stuck = [course for course in progress.courses.values() if course.error]
    stuck.sort(key=lambda course: (-course.attempts, course.team))
    return {
        "contest": contest_summary(progress.contest),
        "teams": {state.value: count for state, count in sorted(progress.teams.items())},
        "courses": [
            {"kind": kind, "step": step, "count": count}
            for (kind, step), count in sorted(steps.items())
        ],
        "stuck": [course_wire(course) for course in stuck[:_STUCK_MAX]],
        "stuckCount": len(stuck),
        "calendar": [
            {"at": to_text(entry.at), "what": entry.words}
            for entry in deadlines(progress.contest, now)
        ],
        "deadlines": _deadlines(progress.courses),
        "behind": list(progress.behind[:_STUCK_MAX]),
        "behindCount": len(progress.behind),
    }


def _deadlines(courses: Mapping[str, Course]) -> list[Json]:
    """What comes when: the next moments, each with how many teams it is for."""
    found: dict[tuple[datetime, str, str], int] = {}
    for course in courses.values():
        for step, at in course.times.items():
            key = (at, course.kind.value, step.value)
            found[key] = found.get(key, 0) + 1
    return [
        {"at": to_text(at), "kind": kind, "step": step, "teams": count}
        for (at, kind, step), count in sorted(found.items())[:100]
    ]
