"""What the hub's groups say, through pages that shift and answers that cross."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_collab.errors import SpecError
from jupyterhub_collab.managers.tenancy_desired import DesiredTeams
from jupyterhub_collab.models import HubGroup
from tests.services.running import CONTEST, team


def group(name: str, properties: dict[str, Any]) -> HubGroup:
    return HubGroup(name, properties, ())


REEF = group("contest.reef", {"collab": CONTEST})
OCEAN, TIDE = group("ocean", team()), group("tide", team())
LARGE = group("ocean", team(tier="large"))


def test_only_teams_are_teams() -> None:
    teams = DesiredTeams()
    others = [group("staff", {}), group("Bad Name", team()), group("contest.x.y", team())]
    assert teams.replace_all([REEF, OCEAN, *others], asked_at=1) == ({"ocean"}, set())
    assert list(teams) == ["ocean"]
    assert teams.spec_of("ocean").tier_name == "small"


def test_nothing_new_changes_nothing_and_a_contest_changes_its_teams() -> None:
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN, TIDE], asked_at=1)
    assert teams.replace_all([REEF, OCEAN, TIDE], asked_at=2) == (set(), set())
    changed = group("contest.reef", {"collab": {**CONTEST, "title": "New"}})
    assert teams.replace_all([changed, OCEAN, TIDE], asked_at=3)[0] == {"ocean", "tide"}


def test_a_team_is_gone_when_two_lists_miss_it() -> None:
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN, TIDE], asked_at=1)
    assert teams.replace_all([REEF, OCEAN], asked_at=2) == (set(), set())
    assert "tide" in teams
    assert teams.replace_all([REEF, OCEAN], asked_at=3) == (set(), {"tide"})
    assert "tide" not in teams
    teams.replace_all([REEF, OCEAN, TIDE], asked_at=4)
    assert "tide" in teams


def test_an_older_answer_does_not_undo_a_newer_one() -> None:
    """A list was asked for, then somebody nudged, then the list came: with the old tier."""
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN], asked_at=1)
    assert teams.replace_one("ocean", LARGE.properties, asked_at=3) == {"ocean"}
    assert teams.replace_all([REEF, OCEAN], asked_at=2) == (set(), set())
    assert teams.spec_of("ocean").tier_name == "large"
    assert teams.replace_all([REEF, OCEAN], asked_at=4)[0] == {"ocean"}
    # The same for one that an older list does not have yet, twice.
    teams.replace_one("tide", TIDE.properties, asked_at=9)
    for asked_at in (6, 7, 8):
        assert teams.replace_all([REEF, OCEAN], asked_at=asked_at) == (set(), set())
    assert "tide" in teams


def test_an_older_read_does_not_undo_a_newer_list() -> None:
    """A page was asked for, then the list, which came first."""
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN], asked_at=1)
    teams.replace_one("ocean", OCEAN.properties, asked_at=2)
    assert teams.replace_all([REEF, LARGE], asked_at=4)[0] == {"ocean"}
    assert teams.replace_one("ocean", OCEAN.properties, asked_at=3) == set()
    assert teams.spec_of("ocean").tier_name == "large"
    assert teams.replace_one("ocean", OCEAN.properties, asked_at=4) == {"ocean"}


def test_an_answer_that_came_too_late_makes_nothing_older_believed() -> None:
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN], asked_at=1)
    assert teams.replace_one("ocean", LARGE.properties, asked_at=5) == {"ocean"}
    assert teams.replace_one("ocean", OCEAN.properties, asked_at=3) == set()
    assert teams.replace_all([REEF, OCEAN], asked_at=4) == (set(), set())
    assert teams.spec_of("ocean").tier_name == "large"


def test_no_such_group_is_believed_at_once() -> None:
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN], asked_at=1)
    assert teams.replace_one("ocean", None, asked_at=2) == {"ocean"}
    assert "ocean" not in teams


def test_a_team_without_its_contest_is_not_valid() -> None:
    teams = DesiredTeams()
    teams.replace_all([OCEAN], asked_at=1)
    with pytest.raises(SpecError, match=r"contest\.reef"):
        teams.spec_of("ocean")


@pytest.mark.parametrize("corner", [None, 3, [], {"contest": 7}, {"contest": None}])
def test_any_properties_can_stand_there(corner: object) -> None:
    teams = DesiredTeams()
    teams.replace_all([REEF, group("ocean", {"collab": corner})], asked_at=1)
    assert teams.contest_of("ocean") == ""
    with pytest.raises(SpecError):
        teams.spec_of("ocean")


def test_who_is_in_a_team_changes_nothing() -> None:
    """Also a roster that nobody can read: the team's namespace does not hang on it."""
    teams = DesiredTeams()
    teams.replace_all([REEF, OCEAN], asked_at=1)
    spec = teams.spec_of("ocean").hash()
    before = teams.source_of("ocean")
    rosters: list[Any] = [["ada"], ["ada", {"issuer": "i", "subject": "s"}], ["x" * 70_000], 7, []]
    for number, members in enumerate(rosters, start=2):
        changed = group("ocean", team(members=members))
        assert teams.replace_all([REEF, changed], asked_at=number) == (set(), set())
        assert teams.replace_one("ocean", changed.properties, asked_at=number) == set()
        assert teams.source_of("ocean")[0] is before[0], "the very same object"
    assert teams.spec_of("ocean").hash() == spec
    assert "ada" not in teams.spec_of("ocean").to_canonical_json()
    tide = group("tide", team(members=["ada"]))
    teams.replace_all([REEF, OCEAN, tide], asked_at=20)
    assert "ada" not in str(teams.source_of("tide"))
