"""Data sets that were granted and revoked, from two versions of what groups' properties say.

Properties are read as they are, valid or not: what is stored takes effect as soon as the rest of it
is put right, so it is told when it is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import names
from ..constants import PROPERTIES_KEY


@dataclass(frozen=True)
class GrantChange:
    """Data sets that a team may mount from now on, and those that it may not any more.

    Attributes
    ----------
    team
        Empty: each team of the contest.
    round
        With no team: only those that are in this round; 0: whatever their round.
    """

    contest: str
    team: str
    granted: frozenset[str]
    revoked: frozenset[str]
    round: int = 0


def change_of_team(
    team: str,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    contests: Mapping[str, Mapping[str, Any]],
) -> tuple[GrantChange, ...]:
    """What a change of a team's group grants and revokes.

    Parameters
    ----------
    before, after
        Properties of the group; None: there is no such group.
    contests
        Properties of the contests' groups that these two name, by contest id.
    """
    old, new = contest_named(before), contest_named(after)
    had = _mountable(before, contests.get(old, {}))
    has = _mountable(after, contests.get(new, {}))
    if old == new:
        return _only_real(GrantChange(new, team, has - had, had - has))
    none: frozenset[str] = frozenset()
    # A data set of one contest is not the one of another, whatever its name.
    return _only_real(GrantChange(old, team, none, had), GrantChange(new, team, has, none))


def change_of_contest(
    contest: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[GrantChange, ...]:
    """What a change of a contest's group grants to all its teams, and takes from all of them.

    A data set that is described anew (another place, another owner's wish) is granted anew. What a
    round gives is told by round: only its teams get it.
    """
    had, has = _of_every_team(before), _of_every_team(after)
    changes = [_described_anew(contest, 0, had, has)]
    for number in range(1, max(_count_rounds(before), _count_rounds(after)) + 1):
        old = _described(_of_round(before, number), before)
        new = _described(_of_round(after, number), after)
        changes.append(_described_anew(contest, number, {**old, **had}, {**new, **has}))
    everybody, *of_rounds = changes
    return _only_real(
        everybody,
        *(
            replace(
                change,
                granted=change.granted - everybody.granted,
                revoked=change.revoked - everybody.revoked,
            )
            for change in of_rounds
        ),
    )


def _described_anew(
    contest: str, number: int, had: Mapping[str, Any], has: Mapping[str, Any]
) -> GrantChange:
    granted = frozenset(key for key, dataset in has.items() if had.get(key) != dataset)
    return GrantChange(contest, "", granted, frozenset(had) - frozenset(has), number)


def contest_named(properties: Mapping[str, Any] | None) -> str:
    """The contest that a team's properties name; empty: none."""
    contest = _corner(properties).get("contest")
    return contest if names.is_team_id(contest) and isinstance(contest, str) else ""


def _only_real(*changes: GrantChange) -> tuple[GrantChange, ...]:
    return tuple(change for change in changes if change.granted or change.revoked)


def _mountable(team: Mapping[str, Any] | None, contest: Mapping[str, Any]) -> frozenset[str]:
    if not contest_named(team):
        return frozenset()
    number = _corner(team).get("round")
    of_round = _of_round(contest, number) if isinstance(number, int) else frozenset()
    return _listed(_corner(team)) | of_round | frozenset(_of_every_team(contest))


def _listed(part: Mapping[str, Any]) -> frozenset[str]:
    listed = part.get("datasets")
    if not isinstance(listed, list | tuple):
        return frozenset()
    return frozenset(d for d in listed if names.is_team_id(d))


def _of_round(contest: Mapping[str, Any] | None, number: int) -> frozenset[str]:
    """Data sets of a round, which is counted from 1; none where there is no such round."""
    rounds = _corner(contest).get("rounds")
    if not isinstance(rounds, list | tuple) or not 0 < number <= len(rounds):
        return frozenset()
    part = rounds[number - 1]
    return _listed(part) if isinstance(part, Mapping) else frozenset()


def _count_rounds(contest: Mapping[str, Any] | None) -> int:
    rounds = _corner(contest).get("rounds")
    return len(rounds) if isinstance(rounds, list | tuple) else 0


def _described(keys: frozenset[str], contest: Mapping[str, Any] | None) -> dict[str, Any]:
    described = datasets_in(contest)
    return {key: described.get(key) for key in keys}


def _of_every_team(contest: Mapping[str, Any] | None) -> dict[str, Any]:
    return {k: d for k, d in datasets_in(contest).items() if d.get("everyTeam") is True}


def datasets_in(contest: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """Data sets that a contest's properties describe, by id."""
    said = _corner(contest).get("datasets")
    if not isinstance(said, Mapping):
        return {}
    return {k: d for k, d in said.items() if names.is_team_id(k) and isinstance(d, Mapping)}


def _corner(properties: Mapping[str, Any] | None) -> Mapping[str, Any]:
    corner = (properties or {}).get(PROPERTIES_KEY)
    return corner if isinstance(corner, Mapping) else {}
