"""In which order a plan's groups are written, so that no team is without valid settings meanwhile.

Teams name what their contest has (tiers, data sets), and each group is written by a call of its
own: whoever reads in between sees some groups as they were and some as they will be. Where a tier
goes, its teams have to go first; where one is new, it has to be there first; where one is renamed,
both have to stand for a while. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from .. import names
from ..constants import PROPERTIES_KEY
from ..errors import SpecError
from ..models import ContestProperties, HubGroup, TeamProperties
from .contest_manifest import ContestPlan, GroupChange
from .spec import (
    SPEC_MAX_BYTES,
    check_contest,
    check_team,
    is_team_group,
    to_contest_properties,
    to_team_properties,
)

NAMED_BY_TEAMS: Final = ("tiers", "datasets", "rounds")
"""What of a contest's properties its teams name (`spec.check_team`), rounds by their number: taken
away first, it leaves teams without a valid spec. Images are named by rounds and profiles alone."""
_TEAM_SHARE_BYTES: Final = 8 * 1024  # of a spec, what does not come from the contest

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class WriteOrder:
    """Writes in steps; those of one step may come in any order.

    `is_seamless`: each team that has a valid spec before and after has one all the time. False
    where no order does that; then the contest comes first.
    """

    steps: tuple[tuple[GroupChange, ...], ...]
    is_seamless: bool


@dataclass(frozen=True)
class _Team:
    """A team as it is and as it will be; None: it has no valid properties (yet)."""

    before: TeamProperties | None
    after: TeamProperties | None
    change: GroupChange | None

    def latest_step(self, path: Sequence[ContestProperties | None]) -> int | None:
        """While which of the contest's states it may be written at the latest; None: never."""
        fits_before = [_fits(self.before, contest) for contest in path]
        fits_after = [_fits(self.after, contest) for contest in path]
        if not fits_before[0]:  # broken already: it can only be put right
            fits_before = [True] * len(path)
        for at in reversed(range(len(path))):
            if all(fits_before[: at + 1]) and all(fits_after[at:]):
                return at
        return None


def order_writes(plan: ContestPlan, current: Mapping[str, HubGroup]) -> WriteOrder:
    """Put a plan's changes in order.

    Parameters
    ----------
    current
        The groups that the plan was made from.
    """
    group = names.contest_group(plan.contest)
    shared = next((change for change in plan.changes if change.group == group), None)
    changes = tuple(change for change in plan.changes if change is not shared)
    if shared is None or shared.properties is None:
        steps = (() if shared is None else (shared,), changes)
        return WriteOrder(tuple(step for step in steps if step), is_seamless=True)
    teams = _teams(plan, changes, current)
    before = current[group].properties if group in current else {}
    for middle in (None, *_unions(before, shared.properties)):
        writes = [shared] if middle is None else _by_way_of(middle, shared)
        path = [_contest(plan.contest, before)]
        path += [_contest(plan.contest, write.properties or {}) for write in writes]
        steps_ = _steps(teams, path, writes)
        if steps_ is not None:
            return WriteOrder(steps_, is_seamless=True)
    return WriteOrder(((shared,), changes), is_seamless=False)


def _teams(
    plan: ContestPlan, changes: Sequence[GroupChange], current: Mapping[str, HubGroup]
) -> list[_Team]:
    found: list[_Team] = []
    changed = {change.group: change for change in changes}
    for name in sorted({*changed, *current}):
        before = current[name].properties if name in current else {}
        change = changed.get(name)
        after = before if change is None or change.properties is None else change.properties
        if not is_team_group(name, after):
            continue
        team = _Team(_team(name, before), _team(name, after), change)
        if team.change is not None or _names(team.after, plan.contest):
            found.append(team)
    return found


def _names(team: TeamProperties | None, contest: str) -> bool:
    return team is not None and team.contest == contest


def _steps(
    teams: Sequence[_Team],
    path: Sequence[ContestProperties | None],
    writes: Sequence[GroupChange],
) -> tuple[tuple[GroupChange, ...], ...] | None:
    """Teams between the contest's writes; None: some team finds no place."""
    places: list[list[GroupChange]] = [[] for _ in path]
    for team in teams:
        at = team.latest_step(path)
        if team.change is None:
            # One that the manifest has no more may end without a valid spec: nobody waits for it.
            if at is None and _fits(team.after, path[-1]):
                return None
            continue
        if at is None:
            return None
        places[at].append(team.change)
    steps: list[tuple[GroupChange, ...]] = [tuple(places[0])]
    for write, place in zip(writes, places[1:], strict=True):
        steps += [(write,), tuple(place)]
    return tuple(step for step in steps if step)


def _unions(before: Properties, after: Properties) -> Iterator[dict[str, Any]]:
    """The contest's properties with what teams name of both: the new values first, then the old."""
    old, new = before.get(PROPERTIES_KEY), after.get(PROPERTIES_KEY)
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return
    generation = {"generation": new["generation"]}
    for less, more in ((old, new), (new, old)):
        both = {
            key: {**_mapping(less.get(key)), **_mapping(more.get(key))}
            for key in NAMED_BY_TEAMS
            # Not rounds, a list: `more` has its own, and no team is in one that goes.
            if isinstance(less.get(key), Mapping) or isinstance(more.get(key), Mapping)
        }
        yield {**after, PROPERTIES_KEY: {**more, **both, **generation}}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _by_way_of(middle: Properties, shared: GroupChange) -> list[GroupChange]:
    """The contest written twice; each time with a generation of its own."""
    assert shared.properties is not None
    corner = dict(shared.properties[PROPERTIES_KEY])
    corner["generation"] += 1
    last = {**shared.properties, PROPERTIES_KEY: corner}
    first = replace(shared, properties=middle, add=(), remove=())
    return [first, replace(shared, exists=True, properties=last)]


def _team(name: str, properties: Properties) -> TeamProperties | None:
    if not is_team_group(name, properties):
        return None
    try:
        return to_team_properties(name, properties)
    except SpecError:
        return None


def _contest(contest: str, properties: Properties) -> ContestProperties | None:
    """None: not valid, so no team of it is."""
    try:
        found = to_contest_properties(contest, properties)
    except SpecError:
        return None
    size = len(found.to_canonical_json().encode())
    is_valid = not check_contest(found) and size <= SPEC_MAX_BYTES - _TEAM_SHARE_BYTES
    return found if is_valid else None


def _fits(team: TeamProperties | None, contest: ContestProperties | None) -> bool:
    """Whether the two merge to a spec; what is no team (yet) is in nobody's way."""
    return team is None or (contest is not None and not check_team(team, contest))
