"""Which teams there should be, and what each should have: the hub's groups, remembered raw.

Only raw properties are kept, and no rosters: who is in a team changes nothing here. A spec is
merged when it is needed (a contest's images and profiles stand once in memory, not once a team),
and contests as they were read. It does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .. import names
from ..constants import PROPERTIES_KEY
from ..errors import SpecError
from ..models import HubGroup, Retention, TeamSpec
from ..policy.spec import (
    ReadContest,
    is_team_group,
    merge_read,
    merge_team_spec,
    read_contest,
    to_team_properties,
    without_roster,
)

Properties = Mapping[str, Any]


class DesiredTeams:
    """Teams and contests as the hub's groups hold them.

    Times are seconds of one monotonic clock: an answer to a question that was asked before a newer
    one was answered does not count.
    """

    def __init__(self) -> None:
        self._teams: dict[str, Properties] = {}
        self._contests: dict[str, Properties] = {}
        self._read_contests: dict[str, ReadContest] = {}  # those that are valid, when asked for
        self._read_at: dict[str, float] = {}
        self._listed_at = -math.inf  # the last complete list was asked for
        self._missing: set[str] = set()  # not in the last list; believed when it happens again

    def __len__(self) -> int:
        return len(self._teams)

    def __contains__(self, team: str) -> bool:
        return team in self._teams

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._teams))

    def contest_of(self, team: str) -> str:
        """The team's contest, empty when its properties name none."""
        return contest_of(self._teams.get(team, {}))

    def spec_of(self, team: str) -> TeamSpec:
        """The merged spec. Raises SpecError when it is not valid, KeyError for no such team."""
        return self.merge(team, self._teams[team])

    def merge(
        self, team: str, properties: Properties, contest_properties: Properties | None = None
    ) -> TeamSpec:
        """Spec of a team with such properties, in its contest as known, or in another."""
        contest = contest_of(properties)
        if contest_properties is not None or contest not in self._contests:
            return merge_team_spec(team, properties, contest_properties)
        return merge_read(team, to_team_properties(team, properties), self._read(contest))

    def _read(self, contest: str) -> ReadContest:
        """A contest's group, read once for all its teams. Raises SpecError."""
        if contest not in self._read_contests:
            self._read_contests[contest] = read_contest(contest, self._contests[contest])
        return self._read_contests[contest]

    def source_of(self, team: str) -> tuple[Properties | None, ...]:
        """All that a team's spec is made of. What has not changed is the very same object."""
        properties = self._teams[team]
        return properties, self._contests.get(contest_of(properties))

    def is_doomed(self, team: str) -> bool:
        """Whether its group says, and says validly, that the team is to be destroyed."""
        properties = self._teams.get(team)
        return properties is not None and says_destroy(team, properties)

    def replace_all(
        self, groups: Iterable[HubGroup], *, asked_at: float
    ) -> tuple[set[str], set[str]]:
        """Take in a complete list of groups.

        Returns
        -------
        changed, gone
            Teams that are new or not what they were, and teams whose group is gone. Pages shift
            when a group is deleted between them, so a team is gone when two lists miss it.
        """
        self._listed_at = max(asked_at, self._listed_at)
        seen: set[str] = set()
        changed: set[str] = set()
        for group in groups:
            seen.add(group.name)
            changed |= self._take(group.name, group.properties, asked_at)
        known = set(self._teams) | {names.contest_group(c) for c in self._contests}
        missing = {g for g in known - seen if self._read_at.get(g, asked_at) <= asked_at}
        gone = missing & self._missing
        self._missing = missing - gone
        for name in gone:
            changed |= self._take(name, None, asked_at)
        return changed - gone, {name for name in gone if names.is_team_id(name)}

    def replace_one(self, name: str, properties: Properties | None, *, asked_at: float) -> set[str]:
        """Take in one group, or that there is none of that name. Returns teams that changed."""
        if asked_at < self._listed_at:
            return set()
        changed = self._take(name, properties, asked_at)
        self._read_at[name] = max(asked_at, self._read_at.get(name, asked_at))
        return changed

    def _take(self, name: str, properties: Properties | None, asked_at: float) -> set[str]:
        read_at = self._read_at.get(name)
        if read_at is not None:
            if asked_at < read_at:
                return set()
            del self._read_at[name]
        contest = names.contest_of_group(name)
        if contest is not None:
            if self._contests.get(contest) == properties:
                return set()
            _set(self._contests, contest, properties)
            self._read_contests.pop(contest, None)
            return {team for team in self._teams if self.contest_of(team) == contest}
        if properties is not None:
            properties = without_roster(properties) if is_team_group(name, properties) else None
        if self._teams.get(name) == properties:
            return set()
        _set(self._teams, name, properties)
        return {name}


def contest_of(properties: Properties) -> str:
    """The contest that a team's properties name, empty when they name none."""
    corner = properties.get(PROPERTIES_KEY)
    contest = corner.get("contest") if isinstance(corner, Mapping) else None
    return contest if isinstance(contest, str) else ""


def says_destroy(team: str, properties: Properties) -> bool:
    """Whether these properties decide that the team is destroyed.

    What is not valid decides nothing. The contest's group has no say: it may be gone before its
    teams are.
    """
    corner = properties.get(PROPERTIES_KEY)
    if not isinstance(corner, Mapping) or corner.get("retention") != Retention.DESTROY.value:
        return False
    try:
        return to_team_properties(team, properties).retention is Retention.DESTROY
    except SpecError:
        return False


def _set(table: dict[str, Properties], key: str, value: Properties | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
