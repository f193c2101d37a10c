"""What a change of groups' properties grants and revokes."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_collab.policy.dataset_grants import GrantChange, change_of_contest, change_of_team

SST = {"title": "SST", "nfs": {"server": "a", "path": "/sst"}}
ICE = {"title": "Ice", "everyTeam": True, "nfs": {"server": "a", "path": "/ice"}}
SEA = {"collab": {"datasets": {"sst": SST, "ice": ICE}}}
CONTESTS = {"sea": SEA}


def team(contest: str = "sea", *datasets: str) -> dict[str, Any]:
    return {"collab": {"contest": contest, "datasets": list(datasets)}}


def change(team_id: str, contest: str, granted: set[str], revoked: set[str]) -> GrantChange:
    return GrantChange(contest, team_id, frozenset(granted), frozenset(revoked))


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (None, team("sea", "sst"), [change("o", "sea", {"sst", "ice"}, set())]),
        ({}, team(), [change("o", "sea", {"ice"}, set())]),
        (team(), team("sea", "sst"), [change("o", "sea", {"sst"}, set())]),
        (team("sea", "sst"), team(), [change("o", "sea", set(), {"sst"})]),
        (team("sea", "sst"), None, [change("o", "sea", set(), {"sst", "ice"})]),
        (team("sea", "sst"), team("sea", "sst"), []),
        # Each team has it anyhow.
        (team(), team("sea", "ice"), []),
        # Another contest's data set of the same name is another one.
        (
            team("sea", "sst"),
            team("air", "sst"),
            [change("o", "sea", set(), {"sst", "ice"}), change("o", "air", {"sst"}, set())],
        ),
        # What cannot be read grants nothing.
        (None, {"collab": 3}, []),
        (None, {"collab": {"contest": "No!", "datasets": ["sst"]}}, []),
        (None, {"collab": {"contest": "sea", "datasets": "sst"}}, [
            change("o", "sea", {"ice"}, set())
        ]),
    ],
)  # fmt: skip
def test_teams(before: Any, after: Any, wanted: list[GrantChange]) -> None:
    assert list(change_of_team("o", before, after, CONTESTS)) == wanted


def contest(**datasets: Any) -> dict[str, Any]:
    return {"collab": {"datasets": datasets}}


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (None, SEA, [change("", "sea", {"ice"}, set())]),
        (SEA, contest(sst=SST), [change("", "sea", set(), {"ice"})]),
        (SEA, SEA, []),
        (contest(sst=SST), contest(sst={**SST, "everyTeam": True}), [
            change("", "sea", {"sst"}, set())
        ]),
        # Under the known name lies other data now.
        (SEA, contest(sst=SST, ice={**ICE, "nfs": {"server": "b", "path": "/x"}}), [
            change("", "sea", {"ice"}, set())
        ]),
    ],
)  # fmt: skip
def test_contests(before: Any, after: Any, wanted: list[GrantChange]) -> None:
    assert list(change_of_contest("sea", before, after)) == wanted


def with_rounds(*rounds: Any, sst: Any = SST) -> dict[str, Any]:
    return {"collab": {"datasets": {"sst": sst, "ice": ICE}, "rounds": list(rounds)}}


def of_round(number: int, granted: set[str], revoked: set[str]) -> GrantChange:
    return GrantChange("sea", "", frozenset(granted), frozenset(revoked), number)


NONE: dict[str, Any] = {}
GIVES = {"datasets": ["sst"]}


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (0, 1, []),
        (1, 2, [change("o", "sea", {"sst"}, set())]),
        (2, 1, [change("o", "sea", set(), {"sst"})]),
        (1, 3, []),  # there is no third
        (1, -1, []),
        (1, "2", []),
        (1, None, []),
    ],
)
def test_a_team_that_comes_into_a_round(before: int, after: Any, wanted: list[GrantChange]) -> None:
    groups = [{"collab": {**team()["collab"], "round": number}} for number in (before, after)]
    contests = {"sea": with_rounds(NONE, GIVES)}
    assert list(change_of_team("o", groups[0], groups[1], contests)) == wanted


MOVED = {**SST, "nfs": {"server": "b", "path": "/sst"}}


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (SEA, with_rounds(NONE, GIVES), [of_round(2, {"sst"}, set())]),
        (with_rounds(GIVES), SEA, [of_round(1, set(), {"sst"})]),
        (with_rounds(GIVES), with_rounds(NONE, GIVES), [
            of_round(1, set(), {"sst"}), of_round(2, {"sst"}, set())
        ]),
        (with_rounds(GIVES), with_rounds(GIVES, sst=MOVED), [of_round(1, {"sst"}, set())]),
        # To everybody is more than to some.
        (with_rounds(NONE), with_rounds(GIVES, sst={**SST, "everyTeam": True}), [
            change("", "sea", {"sst"}, set())
        ]),
        # What cannot be read gives nothing.
        (with_rounds(), with_rounds(3, "sst", {"datasets": "sst"}, {"datasets": [3]}), []),
        (with_rounds(), {"collab": {"datasets": {"ice": ICE, "sst": SST}, "rounds": 3}}, []),
    ],
)  # fmt: skip
def test_rounds_of_a_contest(before: Any, after: Any, wanted: list[GrantChange]) -> None:
    assert list(change_of_contest("sea", before, after)) == wanted
