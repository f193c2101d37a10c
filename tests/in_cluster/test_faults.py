"""Faults of node and cluster with the hub in it: what people read, what admins read, what heals.

The quick ones; those that take longer are in tests/campaign/test_node_faults.py, and the table of
all of them in docs/node-faults.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.campaign.visitor import Probe, Visitor
from tests.in_cluster.home import Home
from tests.in_cluster.reading import server_pod, wait_until

pytestmark = [pytest.mark.node, pytest.mark.timeout(300)]


@pytest.fixture
def katherine(home: Home) -> Iterator[Visitor]:
    """A member of team desert, whose server runs."""
    found = home.visitor("katherine")
    found.start("desert")
    yield found
    if found.server():
        found.stop()
    found.close()


def test_killed_pods_come_back_and_servers_go_on(home: Home, katherine: Visitor) -> None:
    uid = server_pod(home, "desert")["metadata"]["uid"]
    with Probe(katherine) as probe:
        before = {name: home.pod(name)["metadata"]["uid"] for name in ("hub", "provisioner")}
        for component in before:
            home.delete_pod(component)
        home.wait_up()
        for component, old in before.items():
            assert home.pod(component)["metadata"]["uid"] != old
    assert probe.asked > 10
    assert probe.failed == 0
    assert server_pod(home, "desert")["metadata"]["uid"] == uid
    assert katherine.server()["ready"]  # the hub found it again
    wait_until(lambda: home.state_of("desert") == "ready", what="the provisioner")
