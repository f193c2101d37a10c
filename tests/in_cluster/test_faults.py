"""Faults of node and cluster with the hub in it: what people read, what admins read, what heals.

The quick ones; those that take longer are in tests/campaign/test_node_faults.py, and the table of
all of them in docs/node-faults.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.campaign.visitor import Probe, Visitor
from tests.in_cluster.home import NAMESPACE, Home
from tests.in_cluster.reading import (
    claims_of,
    evict,
    read_end,
    read_warnings,
    server_pod,
    wait_until,
)

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


def test_a_drained_node(home: Home, katherine: Visitor) -> None:
    """Cordon and eviction, as `kubectl drain` does; here with the only node there is."""
    claims = claims_of(home, "desert")
    (node,) = home.cluster.get("nodes")["items"]
    name = node["metadata"]["name"]
    home.cluster.kubectl("cordon", name)
    try:
        evict(home, "team-desert", server_pod(home, "desert")["metadata"]["name"])
        assert read_end(katherine) == (
            "The machine that your server ran on was taken out of service. Your files are in place."
            " Start it again."
        )
        assert katherine.ask_for_server("desert").status_code == 202
        wait_until(
            lambda: any("unschedulable" in text for text in read_warnings(home, "desert")),
            what="no event came for the admin",
        )
    finally:
        home.cluster.kubectl("uncordon", name)
    said = katherine.follow_start()
    told = "The cluster's machines are being worked on and take no new servers at the moment."
    assert any(text.startswith(told) for text in said), said
    wait_until(katherine.is_reachable, what="the server does not answer")
    assert claims_of(home, "desert") == claims
    assert "was taken out of service" in home.log("hub")  # the admin, in the hub's log
    # Hub, proxy and provisioner are evicted like any other pod, and come back by themselves.
    for component in ("hub", "provisioner"):
        evict(home, NAMESPACE, home.pod(component)["metadata"]["name"])
    home.wait_up()
    assert katherine.is_reachable()


def test_a_namespace_that_does_not_go(home: Home) -> None:
    """Somebody deletes a team's namespace by hand, and a foreign finalizer holds it."""
    namespace = "team-river"
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "held",
            "namespace": namespace,
            "finalizers": ["example.org/never-comes"],
        },
    }
    home.cluster.apply(held)
    home.cluster.kubectl("delete", "namespace", namespace, "--wait=false")
    edsger = home.visitor("edsger")
    wait_until(
        lambda: home.state_of("river") not in ("", "ready"),
        what="the provisioner does not see it",
    )
    condition = json.dumps(home.ask_provisioner("teams/river"))
    assert "being deleted" in condition or "Terminating" in condition, condition
    assert home.state_of("desert") == "ready"  # nobody is held up
    assert edsger.ask_for_server("river").status_code == 202
    home.cluster.kubectl(
        "patch", "configmap", "held", "-n", namespace, "--type=merge",
        "-p", '{"metadata": {"finalizers": null}}',
    )  # fmt: skip
    said = edsger.follow_start()
    assert any("is not ready yet" in text and "delet" in text for text in said), said
    wait_until(edsger.is_reachable, what="the server does not answer")
    edsger.stop()
    edsger.close()
