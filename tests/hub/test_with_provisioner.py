"""Hub and provisioner together: a team that was made a moment ago starts its first server."""

from types import SimpleNamespace

import httpx
import pytest

from jupyterhub_collab.kube.kinds import NAMESPACE
from jupyterhub_collab.models import Platform
from tests.hub.conftest import Embedded, kube, until
from tests.hub.running import RunningHub, free_port
from tests.hub.samples import CONTEST, TEAM, platform
from tests.services.running import PREFIX, TOKEN, Provisioner

SERVICES = """
c.JupyterHub.services += [
    {"name": "provisioner", "url": "http://127.0.0.1:@PORT@", "api_token": "@TOKEN@",
     "oauth_no_confirm": True},
    {"name": "spawner", "api_token": "p" * 32},
]
c.JupyterHub.load_roles += [
    {"name": "provisioner", "services": ["provisioner"], "scopes": ["list:groups", "read:groups"]},
    {"name": "spawner", "services": ["spawner"],
     "scopes": ["access:services!service=provisioner", "custom:collab:provision"]},
]
"""


@pytest.fixture(scope="module")
def both(cluster: Embedded, tmp_path_factory):
    """A hub whose teams a real provisioner looks after, on the embedded cluster."""
    kube(
        cluster,
        "create",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jupyterhub"}},
    )
    port = free_port()
    folder = tmp_path_factory.mktemp("both")
    more = SERVICES.replace("@PORT@", str(port)).replace("@TOKEN@", TOKEN)
    hub = RunningHub(
        folder / "hub",
        cluster.paths.kubeconfig,
        platform(),
        provisioner_url=f"http://127.0.0.1:{port}{PREFIX}",
        more=more,
    )
    hub.start()
    provisioner = Provisioner(
        hub=SimpleNamespace(api_url=f"http://127.0.0.1:{hub.port}/hub/api"),
        kubeconfig=cluster.paths.kubeconfig,
        platform=Platform.model_validate(hub.wire_platform()),
        folder=folder / "provisioner",
        port=port,
        # Far apart: what is quick is so because the hub asked.
        arguments=("--ProvisionerApp.poll_seconds=3600",),
    )
    provisioner.start()
    try:
        until(
            lambda: is_healthy(provisioner) or provisioner.process.poll() is not None,
            timeout_s=60,
        )
        hub.make_contest("sea", CONTEST)
        yield hub, provisioner
    finally:
        provisioner.end()
        hub.stop()


def is_healthy(provisioner):
    try:
        return provisioner.request("GET", "health").status_code == 200
    except httpx.TransportError:
        return False


def test_a_new_team_starts_at_once(both, cluster):
    hub, provisioner = both
    hub.make_team("fresh", TEAM, "ann")
    answer = hub.spawn("ann")
    assert answer.status_code in (201, 202), answer.text + provisioner.log[-3000:]
    hub.wait_ready("ann")
    assert "team-fresh" in [n["metadata"]["name"] for n in kube(cluster, "list", NAMESPACE)]
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
