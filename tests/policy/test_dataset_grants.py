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
