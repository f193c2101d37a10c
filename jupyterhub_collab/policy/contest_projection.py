"""Between the registry's records and a contest's manifest, both ways. Pure.

To the hub: a contest, its teams and rosters are a manifest again, with the gate and the rounds that
its life has reached; `managers.contest.ContestManager` writes that. From a host: a manifest says
what of the records changes, and what is not a manifest's to say stays: states, rounds, teams that
registered themselves.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ..errors import Problem, SpecError
from ..models import (
    ContestManifest,
    ContestProperties,
    HubDecider,
    HubGroup,
    Retention,
    RosterEntry,
    TeamEntry,
)
from ..models.contest_life import (
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    MemberRecord,
    TeamRecord,
    TeamState,
)
from ..models.team import Gate
from .contest_life import CONTEST_GATES, strictest
from .contest_manifest import (
    ContestPlan,
    Reached,
    plan_groups,
    to_contest_properties,
    to_groups,
    to_team_properties,
)
from .problems import FieldProblem, one_of, to_field, to_found
from .roster import to_key, united
from .spec import check_team

_WITHOUT_GROUP: Final = frozenset({TeamState.INVITED, TeamState.DESTROYED})
_HOST_S: Final = frozenset({TeamState.INVITED, TeamState.PROVISIONING, TeamState.ACTIVE})
_UP: Final = frozenset({CourseKind.ADMIT, CourseKind.ADVANCE})
_ROSTERS: Final = HubDecider(frozenset())  # groups with rosters; whose sources is not asked


@dataclass(frozen=True)
class Projected:
    """What the hub's groups of a contest should say."""

    manifest: ContestManifest
    reached: Reached


@dataclass(frozen=True)
class ManifestPlan:
    """What a manifest changes of a contest in the registry.

    First `ContestStore.put_contest` with `contest`, `teams` and `rosters`; then the teams of
    `admitted` get their courses by `ContestStore.commit` of `contest_actions.plan_admission`. Who
    is killed in between plans anew and finds them there.

    Attributes
    ----------
    contest
        As it should be.
    teams, rosters
        Of the manifest's teams, as they should be: new ones are INVITED. Others are not touched.
    admitted
        Teams that are INVITED and that the manifest has.
    difference
        The same for people: what would change in the hub's groups.
    """

    contest: ContestRecord
    teams: tuple[TeamRecord, ...]
    rosters: Mapping[str, tuple[RosterEntry, ...]]
    admitted: tuple[str, ...]
    difference: ContestPlan


@dataclass(frozen=True)
class Registered:
    """A contest as the registry has it; `contest` is None for one that is not there yet."""

    contest: ContestRecord | None = None
    teams: Mapping[str, TeamRecord] = field(default_factory=dict)
    rosters: Mapping[str, tuple[RosterEntry, ...]] = field(default_factory=dict)
    courses: Mapping[str, Course] = field(default_factory=dict)


def gate_of_contest(contest: ContestRecord) -> Gate:
    """The widest gate that any of its teams has."""
    frozen = Gate.FROZEN if contest.is_frozen else Gate.OPEN
    return strictest(CONTEST_GATES[contest.state], frozen)


def gate_of(contest: ContestRecord, team: TeamRecord) -> Gate:
    """May this team start servers: the strictest of all that says something about it."""
    own = Gate.CLOSED if team.retention is Retention.DESTROY else team.gate
    return strictest(gate_of_contest(contest), own)


def has_group(team: TeamRecord) -> bool:
    """Whether the hub has a group for it: not before it is admitted, not after its end."""
    return team.state not in _WITHOUT_GROUP


def to_acceptance(entry: RosterEntry) -> str:
    """Under what the registry keeps that this member accepted the agreement.

    A user name is itself. Who is known by an identity or an address only, whose portal accepts for
    them, is a slash, which no user name has, and a hash.
    """
    if isinstance(entry, str):
        return entry
    return "/" + hashlib.sha256(json.dumps(to_key(entry)).encode()).hexdigest()


def to_manifest(
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    rosters: Mapping[str, Iterable[MemberRecord]],
    accepted: Collection[str] = (),
) -> Projected:
    """What the hub's groups of a contest, or of some of its teams, should say.

    Parameters
    ----------
    accepted
        Who accepted the agreement's present version, as `to_acceptance` names them. Where the
        contest has an agreement nobody else comes into a projected roster.
    """
    registration = contest.manifest.registration
    has_agreement = registration is not None and registration.agreement is not None
    named = {
        team: tuple(
            member.entry
            for member in members
            if not has_agreement or to_acceptance(member.entry) in accepted
        )
        for team, members in rosters.items()
    }
    return _project(contest, teams, named)


def from_manifest(
    manifest: ContestManifest,
) -> tuple[ContestRecord, tuple[TeamRecord, ...], dict[str, tuple[RosterEntry, ...]]]:
    """A contest that is not in the registry yet, its teams (INVITED) and their rosters.

    Without rounds and registration there is nothing to wait for: it is running.
    """
    is_simple = not manifest.rounds and manifest.registration is None
    contest = ContestRecord(
        id=manifest.contest.id,
        manifest=manifest.model_copy(update={"teams": {}}),
        state=ContestState.RUNNING if is_simple else ContestState.DRAFT,
    )
    teams = tuple(
        TeamRecord(id=team, contest=contest.id, **_values_of(entry, manifest))
        for team, entry in manifest.teams.items()
    )
    return contest, teams, {team: entry.members for team, entry in manifest.teams.items()}


def plan_manifest(current: Registered, manifest: ContestManifest) -> ManifestPlan:
    """What a host's manifest changes of what the registry has.

    Teams that it does not list stay as they are. A listed team that is INVITED, or new, is in. The
    gate and the retention of a team that is frozen, on its way out or gone are not the manifest's.
    Members of a listed team are those whom it names, where the contest has no registration; where
    it has one, people join and leave by themselves, and the manifest only adds.

    Raises
    ------
    SpecError
        It lists a destroyed team, or one of another contest; it lacks what a team has that it does
        not list; the contest is being archived or destroyed, or has come further than the manifest
        has rounds.
    """
    new_contest, new_teams, named = from_manifest(manifest)
    problems = [*_contest_problems(current, manifest), *_team_problems(current, manifest)]
    if problems:
        raise SpecError(problems)
    contest = new_contest
    if current.contest is not None:
        contest = replace(current.contest, manifest=new_contest.manifest)
    teams: list[TeamRecord] = []
    rosters: dict[str, tuple[RosterEntry, ...]] = {}
    for new in new_teams:
        before = current.teams.get(new.id)
        roster = named[new.id]
        if before is not None and manifest.registration is not None:
            roster = united(current.rosters.get(new.id, ()), roster)
        rosters[new.id] = roster
        after = new if before is None else _changed(before, new, current.courses.get(new.id))
        if after.captain in current.rosters.get(new.id, ()) and after.captain not in roster:
            after = replace(after, captain="")
        teams.append(after)
    admitted = tuple(team.id for team in teams if team.state is TeamState.INVITED)
    difference = _difference(current, contest, teams, rosters)
    return ManifestPlan(contest, tuple(teams), rosters, admitted, difference)


def _to_entry(
    team: TeamRecord, members: tuple[RosterEntry, ...], manifest: ContestManifest
) -> TeamEntry:
    tier = team.tier
    if not tier and manifest.registration is not None:
        tier = manifest.registration.tier
    return TeamEntry.model_construct(
        title=team.title,
        tier=tier,
        overrides=team.overrides,
        datasets=team.datasets,
        gate=team.gate,
        retention=team.retention,
        members=members,
    )


def _values_of(entry: TeamEntry, manifest: ContestManifest) -> dict[str, Any]:
    """What a manifest says of a team, by field name of `TeamRecord`."""
    return {
        "title": entry.title,
        "tier": entry.tier,
        "overrides": entry.overrides,
        "datasets": entry.datasets,
        "gate": entry.gate,
        "retention": entry.retention or manifest.contest.retention,
    }


def _changed(before: TeamRecord, new: TeamRecord, course: Course | None) -> TeamRecord:
    is_host_s = before.state in _HOST_S and (course is None or course.kind in _UP)
    return replace(
        before,
        title=new.title,
        tier=new.tier,
        overrides=new.overrides,
        datasets=new.datasets,
        gate=new.gate if is_host_s else before.gate,
        retention=new.retention if is_host_s else before.retention,
    )


def _contest_problems(current: Registered, manifest: ContestManifest) -> list[Problem]:
    contest, course = current.contest, current.courses.get("")
    if contest is None:
        return []
    ending = {CourseKind.END: "destroyed", CourseKind.SHELVE: "archived"}
    if contest.state is ContestState.DESTROYED:
        found = f"{to_found(contest.id)}, a contest that is destroyed"
        return [Problem("contest.id", found, "an id that no contest has, now or before")]
    if course is not None and course.kind in ending:
        found = f"{to_found(contest.id)}, a contest that is being {ending[course.kind]}"
        return [Problem("contest.id", found, "a contest that is not on its way out")]
    if len(manifest.rounds) < contest.round:
        found = f"{len(manifest.rounds)}, and the contest is in round {contest.round}"
        return [Problem("rounds", found, f"at least {contest.round}")]
    return []


def _team_problems(current: Registered, manifest: ContestManifest) -> list[Problem]:
    """What listed teams are already, and what the others need that the manifest lacks."""
    problems: list[Problem] = []
    shared = to_contest_properties(manifest, generation=0)
    for team in current.teams.values():
        if team.id not in manifest.teams:
            if has_group(team) and team.contest == manifest.contest.id:
                problems += _unlisted_problems(team, manifest, shared)
            continue
        if team.contest != manifest.contest.id:
            found = "a team of another contest"  # which one is not for everybody
        elif team.state is TeamState.DESTROYED:
            found = "a team that is destroyed"
        else:
            continue
        expected = "an id that no team of any contest has, now or before"
        problems.append(Problem(f"teams.{team.id}", found, expected))
    return problems


def _unlisted_problems(
    team: TeamRecord, manifest: ContestManifest, shared: ContestProperties
) -> list[Problem]:
    entry = _to_entry(team, (), manifest)
    if entry.tier not in manifest.tiers:
        wrong = [FieldProblem(("tier",), to_found(entry.tier), one_of(entry.tier, manifest.tiers))]
    else:
        properties = to_team_properties(manifest.contest, entry, generation=0, in_round=team.round)
        wrong = check_team(properties, shared)
    why = "the team is not in the file, so it keeps what it has"
    return [
        Problem(f"teams.{team.id}.{to_field(p.path)}", f"{p.found} ({why})", p.expected)
        for p in wrong
    ]


def _difference(
    current: Registered,
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    rosters: Mapping[str, tuple[RosterEntry, ...]],
) -> ContestPlan:
    """What changes in the hub's groups, by what they will be once all are brought after it.

    Teams that are not listed are in it too: what they share may change, and nothing of their own.
    """
    before: dict[str, HubGroup] = {}
    if current.contest is not None:
        before = _groups(current.contest, current.teams.values(), current.rosters)
    listed = {team.id: team for team in teams}
    wanted = _groups(
        contest,
        (
            # One that comes in has the round that the contest is in.
            replace(team, state=TeamState.PROVISIONING, round=contest.round)
            if team.state is TeamState.INVITED
            else team
            for team in listed.values()
        ),
        rosters,
    )
    gone: list[str] = []
    if contest.manifest.registration is None:
        gone = [t.id for t in current.teams.values() if has_group(t) and t.id not in listed]
    changes = plan_groups(wanted, before, has_rosters=True)
    return ContestPlan(contest.id, changes, tuple(sorted(gone)))


def _groups(
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    rosters: Mapping[str, tuple[RosterEntry, ...]],
) -> dict[str, HubGroup]:
    projected = _project(contest, teams, rosters)
    return to_groups(projected.manifest, _ROSTERS, projected.reached)


def _project(
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    rosters: Mapping[str, tuple[RosterEntry, ...]],
) -> Projected:
    entries: dict[str, TeamEntry] = {}
    rounds: dict[str, int] = {}
    for team in teams:
        if has_group(team):
            entries[team.id] = _to_entry(team, rosters.get(team.id, ()), contest.manifest)
            rounds[team.id] = team.round
    manifest = contest.manifest.model_copy(update={"teams": entries})
    return Projected(manifest, Reached(gate_of_contest(contest), rounds))
