"""Hub and provisioner together: a team that was made a moment ago starts its first server."""

import pytest

from jupyterhub_collab.kube.kinds import NAMESPACE
from tests.hub.conftest import Embedded, kube
from tests.hub.provisioned import provisioned
from tests.hub.samples import CONTEST, TEAM, platform


@pytest.fixture(scope="module")
def both(cluster: Embedded, tmp_path_factory):
    """A hub whose teams a real provisioner looks after, on the embedded cluster."""
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}}
    kube(cluster, "create", home)
    kubeconfig = cluster.paths.kubeconfig
    with provisioned(
        tmp_path_factory.mktemp("both"),
        platform(hub_id="kept", hub_namespace="kept", namespace_prefix="kept-"),
        hub_kubeconfig=kubeconfig,
        provisioner_kubeconfig=kubeconfig,
        readiness_timeout_s=5,
    ) as found:
        yield found


def test_a_new_team_starts_at_once(both, cluster):
    hub, provisioner = both
    hub.make_team("fresh", TEAM, "ann")
    answer = hub.spawn("ann")
    assert answer.status_code in (201, 202), answer.text + provisioner.log[-3000:]
    hub.wait_ready("ann")
    assert "kept-fresh" in [n["metadata"]["name"] for n in kube(cluster, "list", NAMESPACE)]
    hub.stop_server("ann")
    hub.wait_stopped("ann")


def test_a_larger_tier_counts_for_the_next_start(both):
    hub, _ = both
    hub.make_team("grows", TEAM, "gil", "gus")
    hub.spawn("gil", profile="large")
    hub.wait_ready("gil")
    answer = hub.spawn("gus", profile="large")
    assert answer.json()["message"] == (
        "Team grows uses its one CPU (one server, gil's). Stop one or ask for a larger tier."
    )
    hub.set_properties("grows", {**TEAM, "generation": 2, "overrides": {"cpu": "4"}})
    answer = hub.spawn("gus", profile="large")
    assert answer.status_code in (201, 202), answer.text
    hub.wait_ready("gus")
    for user in ("gil", "gus"):
        hub.stop_server(user)
        hub.wait_stopped(user)


def test_what_the_platform_refuses_is_said(both):
    hub, _ = both
    data = {"tides": {"title": "Tides", "everyTeam": True, "nfs": {"server": "x", "path": "/x"}}}
    hub.make_contest("dry", {**CONTEST, "datasets": data})
    hub.make_team("denied", {**TEAM, "contest": "dry"}, "dan")
    answer = hub.spawn("dan")
    assert answer.status_code == 409, answer.text
    message = answer.json()["message"]
    assert message.startswith("Team denied's space could not be prepared:")
    assert "NFS" in message


def test_a_provisioner_that_is_away_is_named(both, cluster):
    hub, provisioner = both
    provisioner.kill()
    try:
        hub.make_team("alone", TEAM, "ali")
        answer = hub.spawn("ali")
        assert answer.status_code == 503
        assert "the service that prepares it does not answer" in answer.json()["message"]
    finally:
        provisioner.start()
        provisioner.wait_healthy()
