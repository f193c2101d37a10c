"""Which gate counts for a server that runs already."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub_collab.models import ContestProperties, Gate, Retention, TeamProperties
from jupyterhub_collab.policy.spec import gate_of_running
from tests.hub.samples import CONTEST, TEAM

NOW = datetime(2027, 1, 31, 18, 0, tzinfo=timezone.utc)
LATER, BEFORE = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)
OPEN, FROZEN, CLOSED = Gate.OPEN, Gate.FROZEN, Gate.CLOSED


@pytest.mark.parametrize(
    ("team", "contest", "counts"),
    [
        ((OPEN, None), (OPEN, None), OPEN),
        ((CLOSED, None), (OPEN, None), CLOSED),
        ((CLOSED, LATER), (OPEN, None), OPEN),
        ((CLOSED, NOW), (OPEN, None), CLOSED),
        ((CLOSED, BEFORE), (OPEN, None), CLOSED),
        ((OPEN, None), (FROZEN, LATER), OPEN),
        ((OPEN, None), (FROZEN, BEFORE), FROZEN),
        ((CLOSED, LATER), (FROZEN, None), FROZEN),  # each gate has its own time
        ((FROZEN, None), (CLOSED, LATER), FROZEN),
    ],
)
def test_a_gate_that_leaves_time_counts_as_open(team, contest, counts) -> None:
    mine = TeamProperties(contest="sea", generation=1, tier="small").model_copy(
        update={"gate": team[0], "servers_until": team[1]}
    )
    shared = ContestProperties.model_validate(CONTEST).model_copy(
        update={"gate": contest[0], "servers_until": contest[1]}
    )
    assert gate_of_running(mine, shared, now=NOW) is counts
    doomed = mine.model_copy(update={"retention": Retention.DESTROY})
    assert gate_of_running(doomed, shared, now=NOW) is CLOSED, "nothing is left time there"


def test_the_moment_is_in_the_group_and_not_in_the_spec() -> None:
    wire = {**TEAM, "gate": "closed", "serversUntil": "2027-01-31T18:00:00Z"}
    read = TeamProperties.model_validate(wire)
    assert read.servers_until == NOW
    assert read.to_wire()["serversUntil"] == "2027-01-31T18:00:00Z"
    assert "serversUntil" not in TeamProperties.model_validate(TEAM).to_wire()
