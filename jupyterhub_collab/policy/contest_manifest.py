"""The contest manifest: from text to a checked document, to hub groups, to a plan.

All pure. A mistake is told with file, line, field, what was found and what would be right, and all
mistakes are told at once. The plan is a difference between groups; it deletes no group: a team that
is gone from the manifest is reported, since its volumes are somebody's work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from ipaddress import ip_network
from typing import Any, Final

from .. import names
from ..constants import PROPERTIES_KEY, ROSTER_KEY, TEAM_PROPERTIES_MAX_BYTES
from ..errors import Problem, SpecError
from ..models import (
    Contest,
    ContestManifest,
    ContestProperties,
    Gate,
    HubDecider,
    HubGroup,
    Platform,
    RosterEntry,
    RoundProperties,
    TeamEntry,
    TeamProperties,
)
from . import egress
from .contest_calendar import check_calendar
from .document_file import read_document
from .node_pool import check_tolerations
from .problems import FieldProblem, Path, one_of, to_field, to_found
from .roster import check_decider, check_roster, read_roster, to_key, to_stored
from .spec import (
    SPEC_MAX_BYTES,
    check_contest,
    check_datasets,
    check_domain,
    check_namespace,
    check_pods,
    check_protected,
    check_team,
    effective_tier,
)

KIND: Final = "Contest"
SCHEMA_ID: Final = "https://jupyterhub-collab.org/schema/contest-v1alpha1.schema.json"
_TEAM_SHARE_BYTES: Final = 8 * 1024  # of a merged spec, what does not come from the contest


def parse_contest_manifest(
    text: str | bytes, *, file: str, platform: Platform | None = None
) -> ContestManifest:
    """Read and check a manifest.

    Parameters
    ----------
    file
        Name for error messages.
    platform
        Where it will be used, when that is known: its data-set drivers and private networks are
        checked then. Not known: no private network is accepted.

    Raises
    ------
    SpecError
        With all problems, in the order of the file.
    """
    return read_document(
        ContestManifest,
        text,
        file=file,
        kind=KIND,
        check=lambda manifest: _check_references(manifest, platform),
    )


def check_contest_manifest(
    manifest: ContestManifest, platform: Platform | None = None
) -> list[FieldProblem]:
    """What is wrong between the parts of a manifest that did not come from a file."""
    return _check_references(manifest, platform)


def contest_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the manifest, for editors.

    It knows no cross references: `parse_contest_manifest` is what decides.
    """
    schema = ContestManifest.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        **schema,
    }


@dataclass(frozen=True)
class Reached:
    """How far a contest's life has come, as its groups say it.

    Attributes
    ----------
    gate
        The widest for all its teams.
    rounds
        The round that each team is in; 0 for one that is not named.
    until
        By team, when servers that run are stopped after its gate closed or froze; the contest's
        under "".
    """

    gate: Gate = Gate.OPEN
    rounds: Mapping[str, int] = field(default_factory=dict)
    until: Mapping[str, datetime] = field(default_factory=dict)


OPEN: Final = Reached()
"""A contest without rounds whose teams work."""


def to_contest_properties(
    manifest: ContestManifest,
    *,
    generation: int,
    gate: Gate = Gate.OPEN,
    until: datetime | None = None,
) -> ContestProperties:
    """What goes into the contest's group."""
    return ContestProperties(
        generation=generation,
        title=manifest.contest.title,
        ends=manifest.contest.ends,
        domain=manifest.contest.domain,
        node_pool=manifest.contest.node_pool,
        tiers=manifest.tiers,
        images=manifest.images,
        profiles=manifest.profiles,
        volumes=manifest.volumes,
        egress=manifest.egress,
        datasets=manifest.datasets,
        gate=gate,
        servers_until=until,
        rounds=tuple(
            RoundProperties(tier=part.tier, images=part.images, datasets=part.datasets)
            for part in manifest.rounds
        ),
    )


def to_team_properties(
    contest: Contest,
    entry: TeamEntry,
    *,
    generation: int,
    with_roster: bool = False,
    in_round: int = 0,
    until: datetime | None = None,
) -> TeamProperties:
    """What goes into a team's group.

    Parameters
    ----------
    with_roster
        The hub makes members of it; without, they are the group's users.
    """
    return TeamProperties(
        generation=generation,
        contest=contest.id,
        tier=entry.tier,
        title=entry.title,
        overrides=entry.overrides,
        datasets=entry.datasets,
        gate=entry.gate,
        retention=entry.retention or contest.retention,
        servers_until=until,
        round=in_round,
        members=to_stored(entry.members) if with_roster else (),
    )


def to_groups(
    manifest: ContestManifest, decider: HubDecider | None = None, reached: Reached = OPEN
) -> dict[str, HubGroup]:
    """The groups that the manifest wants, by name, the contest's first; generation 0 in each.

    Where the hub decides, groups have rosters and no users: those are the hub's own to write.
    """
    shared = to_contest_properties(
        manifest, generation=0, gate=reached.gate, until=reached.until.get("")
    )
    groups = [_to_group(names.contest_group(manifest.contest.id), shared.to_wire(), ())]
    groups += [to_group_of_team(manifest, team, decider, reached) for team in manifest.teams]
    return {group.name: group for group in groups}


def to_group_of_team(
    manifest: ContestManifest, team: str, decider: HubDecider | None = None, reached: Reached = OPEN
) -> HubGroup:
    """One of `to_groups`."""
    entry = manifest.teams[team]
    has_roster = decider is not None
    properties = to_team_properties(
        manifest.contest,
        entry,
        generation=0,
        with_roster=has_roster,
        in_round=reached.rounds.get(team, 0),
        until=reached.until.get(team),
    )
    users = () if has_roster else tuple(m for m in entry.members if isinstance(m, str))
    return _to_group(team, properties.to_wire(), users)


class Action(str, Enum):
    """What is to happen with a group."""

    CREATE = "create"
    CHANGE = "change"


@dataclass(frozen=True)
class FieldChange:
    """One field of a group's properties; None: absent. Values are JSON."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class GroupChange:
    """What makes one group as it should be.

    Attributes
    ----------
    properties
        All properties to write, ours and what others keep there; None: they are right.
    exists
        The group is there; otherwise it has to be made first.
    add, remove
        The group's users, where `apply` writes them.
    joining, leaving
        Entries that come into and go out of the roster, where the hub makes members of it.
    """

    group: str
    action: Action
    exists: bool
    properties: Mapping[str, Any] | None
    fields: tuple[FieldChange, ...]
    add: tuple[str, ...]
    remove: tuple[str, ...]
    joining: tuple[RosterEntry, ...] = ()
    leaving: tuple[RosterEntry, ...] = ()


@dataclass(frozen=True)
class ContestPlan:
    """The difference between a manifest and the hub's groups.

    `gone` are teams of the contest that the manifest has no more. They are reported, not deleted.
    """

    contest: str
    changes: tuple[GroupChange, ...]
    gone: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether the hub is as the manifest says."""
        return not self.changes


def plan_contest(
    manifest: ContestManifest,
    current: Mapping[str, HubGroup],
    decider: HubDecider | None = None,
    reached: Reached = OPEN,
) -> ContestPlan:
    """What has to change. Applying it and planning again gives an empty plan.

    Parameters
    ----------
    decider
        The hub's own authenticator makes members; None: `apply` does, of names alone.

    Raises
    ------
    SpecError
        A group of a team's name is another contest's, or nobody of ours made it; or members by
        whom nobody could ever get in on that hub.
    """
    contest = manifest.contest.id
    wanted = to_groups(manifest, decider, reached)
    problems = [p for team in manifest.teams for p in _nobody_s(manifest, team, decider)]
    problems += [
        problem
        for name in wanted
        if name in current and (problem := _conflict(name, contest, current[name])) is not None
    ]
    if problems:
        raise SpecError(problems)
    gone = [
        name
        for name, group in current.items()
        if name not in wanted
        and names.is_team_id(name)
        and _corner(group).get("contest") == contest
    ]
    changes = plan_groups(wanted, current, has_rosters=decider is not None)
    return ContestPlan(contest, changes, tuple(sorted(gone)))


def plan_team(
    manifest: ContestManifest,
    team: str,
    current: HubGroup | None,
    decider: HubDecider | None = None,
    reached: Reached = OPEN,
) -> GroupChange | None:
    """What of `plan_contest` is one team's. Raises likewise."""
    problems = _nobody_s(manifest, team, decider)
    conflict = None if current is None else _conflict(team, manifest.contest.id, current)
    if conflict is not None:
        problems.append(conflict)
    if problems:
        raise SpecError(problems)
    wanted = to_group_of_team(manifest, team, decider, reached)
    return _plan_group(wanted, current, has_rosters=decider is not None)


def _nobody_s(manifest: ContestManifest, team: str, decider: HubDecider | None) -> list[Problem]:
    """Members of a team by whom nobody could ever get in on that hub."""
    return [
        Problem(to_field(("teams", team, "members", *p.path)), p.found, p.expected)
        for p in check_decider(manifest.teams[team].members, decider)
    ]


def plan_groups(
    wanted: Mapping[str, HubGroup], current: Mapping[str, HubGroup], *, has_rosters: bool
) -> tuple[GroupChange, ...]:
    """What makes of these groups those; whose they are is not asked.

    Parameters
    ----------
    has_rosters
        Members are in rosters; else they are the groups' users.
    """
    changes = [
        _plan_group(group, current.get(name), has_rosters=has_rosters)
        for name, group in wanted.items()
    ]
    return tuple(change for change in changes if change is not None)


def _to_group(name: str, corner: dict[str, Any], users: tuple[str, ...]) -> HubGroup:
    return HubGroup(name, {PROPERTIES_KEY: corner}, users)


def _corner(group: HubGroup) -> Mapping[str, Any]:
    corner = group.properties.get(PROPERTIES_KEY)
    return corner if isinstance(corner, Mapping) else {}


def _conflict(name: str, contest: str, group: HubGroup) -> Problem | None:
    """Why the group is not ours to write. One without anything in it is nobody's."""
    is_contest = names.contest_of_group(name) is not None
    if not group.properties and not group.users:
        return None
    if PROPERTIES_KEY not in group.properties:
        found = "a hub group of that name that this project did not make"
        expected = "another id, or that group deleted on the hub"
    elif not is_contest and _corner(group).get("contest") != contest:
        found = f"a team of the contest {to_found(_corner(group).get('contest'))}"
        expected = "an id that no team of any contest has, now or before"
    else:
        return None
    return Problem("contest.id" if is_contest else f"teams.{name}", found, expected)


def _plan_group(
    wanted: HubGroup, current: HubGroup | None, *, has_rosters: bool
) -> GroupChange | None:
    before = dict(_corner(current)) if current else {}
    after = dict(_corner(wanted))
    generation = before.pop("generation", 0)
    after.pop("generation")
    properties: dict[str, Any] | None = None
    # As text: the order of images and profiles counts, the first is the default.
    if json.dumps(before) != json.dumps(after):
        after["generation"] = generation + 1 if isinstance(generation, int) else 1
        properties = {**(current.properties if current else {}), PROPERTIES_KEY: after}
    users = current.users if current and not has_rosters else ()
    add = tuple(user for user in wanted.users if user not in set(users))
    remove = tuple(user for user in users if user not in set(wanted.users))
    if properties is None and not add and not remove:
        return None
    return GroupChange(
        group=wanted.name,
        action=Action.CHANGE if before else Action.CREATE,
        exists=current is not None,
        properties=properties,
        fields=_diff(before, dict(_corner(wanted))),
        add=add,
        remove=remove,
        joining=_entries_besides(wanted, current) if has_rosters else (),
        leaving=_entries_besides(current, wanted) if has_rosters else (),
    )


def _entries_besides(group: HubGroup | None, other: HubGroup | None) -> tuple[RosterEntry, ...]:
    """Entries of a group's roster that the other's does not have."""
    entries = read_roster(group.properties) if group else ()
    known = {to_key(entry) for entry in read_roster(other.properties)} if other else set()
    return tuple(entry for entry in entries if to_key(entry) not in known)


def _diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[FieldChange, ...]:
    same = {
        key for key in before.keys() & after.keys() if _to_json(before[key]) == _to_json(after[key])
    }
    old, new = (
        _flatten({k: v for k, v in x.items() if k not in same}, ()) for x in (before, after)
    )
    changed = [
        FieldChange(to_field(path), old.get(path), new.get(path))
        for path in {**new, **old}
        if old.get(path) != new.get(path) and path[0] not in ("generation", "schema", ROSTER_KEY)
    ]
    for key in ("images", "profiles"):
        orders = [list(x.get(key, {})) for x in (before, after)]
        if orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]):
            changed.append(FieldChange(key, ", ".join(orders[0]), ", ".join(orders[1])))
    return tuple(changed)


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _flatten(value: object, path: Path) -> dict[Path, str]:
    """Leaves of a JSON value by path. Lists of plain values are leaves."""
    if isinstance(value, Mapping) and value:
        parts = [_flatten(item, (*path, str(key))) for key, item in value.items()]
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        parts = [_flatten(item, (*path, i)) for i, item in enumerate(value)]
    else:
        empty = isinstance(value, (Mapping, list)) and not value
        return {} if empty or not path else {path: _to_json(value)}
    return {key: leaf for part in parts for key, leaf in part.items()}


def _check_references(manifest: ContestManifest, platform: Platform | None) -> list[FieldProblem]:
    """What is wrong between the parts, each of them valid by itself."""
    contest = to_contest_properties(manifest, generation=0)
    problems = [*check_contest(contest), *_check_profiles(manifest, contest)]
    problems += check_protected(manifest.datasets, platform)
    problems += _check_egress(manifest, platform)
    problems += _check_life(manifest)
    if platform is not None:
        problems += check_datasets(manifest.datasets, platform)
        problems += check_pods(manifest.images, manifest.profiles, platform)
        problems += check_domain(manifest.contest.domain, platform)
        pool = manifest.contest.node_pool
        problems += check_tolerations(
            () if pool is None else pool.tolerations,
            platform,
            where=("contest", "nodePool", "tolerations"),
        )
    size = len(contest.to_canonical_json().encode())
    if size > SPEC_MAX_BYTES - _TEAM_SHARE_BYTES:
        found = f"{size} bytes that all teams share"
        expected = f"at most {SPEC_MAX_BYTES - _TEAM_SHARE_BYTES}: each namespace holds a copy"
        problems.append(FieldProblem(("contest",), found, expected))
    for team, entry in manifest.teams.items():
        where: Path = ("teams", team)
        properties = to_team_properties(manifest.contest, entry, generation=0)
        for p in check_team(properties, contest):
            problems.append(FieldProblem((*where, *p.path), p.found, p.expected))
        last = properties.model_copy(update={"round": len(manifest.rounds)})
        size = len(last.to_canonical_json().encode()) + 20  # room for a long generation
        if size > TEAM_PROPERTIES_MAX_BYTES:
            expected = f"at most {TEAM_PROPERTIES_MAX_BYTES} bytes besides its members"
            problems.append(FieldProblem(where, f"{size} bytes", expected))
        if platform is not None:
            for p in check_namespace(team, platform):
                problems.append(FieldProblem(where, p.found, p.expected))
        problems += [
            FieldProblem((*where, ROSTER_KEY, *p.path), p.found, p.expected)
            for p in check_roster(entry.members)
        ]
    return problems


def _check_life(manifest: ContestManifest) -> list[FieldProblem]:
    """Times, and what registration names. What rounds name is `check_contest`'s."""
    problems = check_calendar(manifest)
    rules = manifest.registration
    if rules is not None and rules.tier not in manifest.tiers:
        expected = one_of(rules.tier, manifest.tiers)
        problems.append(FieldProblem(("registration", "tier"), to_found(rules.tier), expected))
    seen: set[str] = set()
    for i, part in enumerate(manifest.rounds):
        if part.title in seen:
            found = f"{to_found(part.title)} again"
            problems.append(FieldProblem(("rounds", i, "title"), found, "each round's own"))
        seen.add(part.title)
    return problems


def _check_egress(manifest: ContestManifest, platform: Platform | None) -> list[FieldProblem]:
    """Rules for networks that this platform, or an unknown one, does not open."""
    problems: list[FieldProblem] = []
    for i, rule in enumerate(manifest.egress):
        path = ("egress", i, "cidr")
        if platform is not None:
            reason = egress.refusal(rule, platform)
            if reason is not None:
                problems.append(FieldProblem(path, reason, "a public network"))
            continue
        special = egress.special_range_of(ip_network(str(rule.cidr)))
        if special is not None and special.nameable:
            found = f"{rule.cidr}, which is {special.what} ({special.network})"
            expected = "a public network, or the settings of a platform that allows this one"
            problems.append(FieldProblem(path, found, expected))
    return problems


def _check_profiles(manifest: ContestManifest, contest: ContestProperties) -> list[FieldProblem]:
    """Profiles that no team could ever start: larger than every tier."""
    tiers = list(contest.tiers.values()) + [
        effective_tier(to_team_properties(manifest.contest, entry, generation=0), contest)
        for entry in manifest.teams.values()
        if entry.tier in contest.tiers
    ]
    problems: list[FieldProblem] = []
    for key, profile in contest.profiles.items():
        fits = any(
            profile.cpu_millicores <= tier.cpu_millicores
            and profile.memory_bytes <= tier.memory_bytes
            and profile.gpu_count <= tier.gpu_count
            and profile.ephemeral_storage_bytes <= tier.ephemeral_storage_bytes
            for tier in tiers
        )
        if not fits:
            size = profile.to_wire()
            found = ", ".join(
                f"{k} {size[k]}" for k in ("cpu", "memory", "gpu", "ephemeralStorage")
            )
            expected = f"a size that fits into one of the tiers ({', '.join(contest.tiers)})"
            problems.append(FieldProblem(("profiles", key), found, expected))
    return problems
