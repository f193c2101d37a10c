"""Contests, teams, plans and people of the registry's tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from jupyterhub_collab.models import ContestManifest, RosterEntry
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionPlan,
    ActionRequest,
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    MemberRecord,
    Operation,
    OperationState,
    TeamRecord,
    TeamState,
    TeamUpdate,
    Transition,
)
from jupyterhub_collab.policy.problems import to_document
from jupyterhub_collab.storage.contests import ContestStore, TeamInvitation

AT = datetime(2027, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
LATER = AT + timedelta(hours=1)
HOSTILE = "\x01'; DROP TABLE contest_teams; --\x00\u2028\ud83d%s:b_id\U0001f600"
"""NUL, half a surrogate pair, what looks like SQL and like a parameter."""


def manifest(contest: str = "sea", **more: Any) -> ContestManifest:
    """A small one. The order of images is not that of the alphabet, and counts."""
    tier = {"cpu": "2", "memory": "4Gi", "storage": "10Gi", "ephemeralStorage": "5Gi", "pods": 4}
    wire = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": contest, "title": "Sea"},
        "tiers": {"small": tier},
        "images": {
            "b": {"title": "B", "image": "registry.example.org/b:1"},
            "a": {"title": "A", "image": "registry.example.org/a:1"},
        },
        "profiles": {"all": {"title": "All", "cpu": "1", "memory": "1Gi"}},
        "registration": rules(),
        **more,
    }
    return to_document(ContestManifest, {k: v for k, v in wire.items() if v is not None})


def rules(**more: Any) -> dict[str, Any]:
    """Of registration."""
    return {"tier": "small", "teamSizeMax": 9, **more}


def with_agreement(version: str) -> ContestManifest:
    """One whose members accept something first."""
    agreement = {"version": version, "text": "Be kind."}
    return manifest(registration={"tier": "small", "agreement": agreement})


async def put(
    registry: ContestStore,
    contest: str = "sea",
    *,
    teams: Iterable[str] = (),
    members: Mapping[str, tuple[RosterEntry, ...]] | None = None,
    state: ContestState = ContestState.REGISTRATION,
    team_state: TeamState = TeamState.INVITED,
    **more: Any,
) -> ContestRecord:
    """A new contest with teams, and with this in its manifest."""
    records = [TeamRecord(t, contest, tier="small", state=team_state) for t in teams]
    return await registry.put_contest(
        ContestRecord(id=contest, manifest=manifest(contest, **more), state=state),
        records,
        members or {},
        expected_generation=None,
        by="host",
        at=AT,
    )


async def change(
    registry: ContestStore,
    contest: ContestRecord,
    teams: Iterable[TeamRecord] = (),
    rosters: Mapping[str, tuple[RosterEntry, ...]] | None = None,
) -> ContestRecord:
    """Apply a manifest that was made from this record."""
    return await registry.put_contest(
        contest, teams, rosters or {}, expected_generation=contest.generation, by="host", at=LATER
    )


async def register(
    registry: ContestStore,
    team: str,
    *people: RosterEntry,
    contest: str = "sea",
    key: str = "",
    wish: str = "",
    at: datetime = AT,
) -> TeamRecord:
    """A team whose first member leads it."""
    captain = people[0] if people and isinstance(people[0], str) else ""
    members = [MemberRecord(team, p, AT, is_captain=not i) for i, p in enumerate(people)]
    record = TeamRecord(team, contest, tier="small", captain=captain)
    made, _ = await registry.register_team(record, members, key=key, wish=wish, by=captain, at=at)
    return made


def join(team: str, person: RosterEntry) -> MemberRecord:
    """One who comes later."""
    return MemberRecord(team, person, LATER)


def invitation(number: int, team: str = "ocean") -> TeamInvitation:
    """Of which the token's hash is the number."""
    return TeamInvitation(
        id=f"i{number}",
        team=team,
        token_sha256=f"{number:064x}",
        made_by="ada",
        expires_at=LATER,
    )


async def take(
    registry: ContestStore,
    number: int,
    person: RosterEntry,
    *,
    at: datetime = AT,
) -> TeamRecord:
    """Use that invitation."""
    member = MemberRecord("", person, at)
    return await registry.take_invitation(f"{number:064x}", member, by=str(person), at=at)


def course(
    team: str,
    kind: CourseKind = CourseKind.FREEZE,
    *,
    contest: str = "sea",
    step: int = 0,
    due_at: datetime = AT,
) -> Course:
    """Its operation is put in when it is written."""
    return Course(contest, team, kind, step, due_at, operation=0)


def plan(
    generation: int,
    *courses: Course,
    contest: str = "sea",
    action: Action = Action.FREEZE,
    moves: Mapping[str, tuple[str, str]] | None = None,
    updates: Mapping[str, Mapping[str, Any]] | None = None,
    values: Mapping[str, Any] | None = None,
    ended: Iterable[str] = (),
) -> ActionPlan:
    """Of a contest at that generation."""
    return ActionPlan(
        contest=contest,
        contest_generation=generation,
        request=ActionRequest(action=action),
        contest_values=values or {},
        transitions=tuple(
            Transition(contest, team, before, after, "because")
            for team, (before, after) in (moves or {}).items()
        ),
        updates=tuple(TeamUpdate(team, new) for team, new in (updates or {}).items()),
        courses=courses,
        ended_courses=tuple(ended),
    )


def operation(key: str = "k", *, number: int = 0, contest: str = "sea", **more: Any) -> Operation:
    """Asked for by a host."""
    given = {
        "number": number,
        "contest": contest,
        "request": ActionRequest(action=Action.FREEZE, reason="why"),
        "state": OperationState.RUNNING,
        "key": key,
        "asked_by": "host",
        "asked_at": AT,
        "plan_hash": "f" * 64,
        **more,
    }
    return Operation(**given)
