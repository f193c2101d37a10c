"""What a start waits for, where the real quota controller takes its time: it is held back here.

Quota admission judges by what the controller wrote last. Hub and provisioner run under the roles
that we ship, on a real API server; the controllers are stopped with SIGSTOP, as a busy cluster
would keep them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from jupyterhub_collab import names
from jupyterhub_collab.constants import ANNOTATION_READY_HASH, HUB_ROLE_BINDING_NAME, QUOTA_NAME
from jupyterhub_collab.models import Platform
from tests.cluster.cluster import Cluster
from tests.hub.conftest import until
from tests.hub.following import Progress
from tests.hub.provisioned import provisioned
from tests.hub.running import RunningHub
from tests.hub.samples import TEAM, own_platform
from tests.hub.test_real_api import pods, run_pod
from tests.services.running import Provisioner, prepare_cluster

pytestmark = pytest.mark.api
CONTROLLERS = "kube-controller-manager"
Both = tuple[RunningHub, Provisioner]


@pytest.fixture(scope="module")
def both(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    if not api_cluster.is_ours:
        pytest.skip("the controllers of a foreign cluster are not ours to hold back")
    folder = tmp_path_factory.mktemp("readiness")
    raw = own_platform("r")
    home = raw["hub_namespace"]
    provisioner = prepare_cluster(api_cluster, Platform.model_validate(raw), folder)
    hub = api_cluster.service_account_kubeconfig(home, "hub", folder / "hub-kubeconfig")
    with provisioned(
        folder,
        raw,
        hub_kubeconfig=hub,
        provisioner_kubeconfig=provisioner,
        readiness_timeout_s=60,
        slow_spawn_timeout=0,
    ) as found:
        yield found


@contextmanager
def held_back(cluster: Cluster) -> Iterator[None]:
    """The controllers do nothing until the end, and know nothing of it."""
    cluster.signal(CONTROLLERS, "STOP")
    try:
        yield
    finally:
        cluster.signal(CONTROLLERS, "CONT")


def quota_of(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("resourcequota", QUOTA_NAME, "-n", namespace)
    return found


def ready_hash_of(cluster: Cluster, namespace: str) -> str | None:
    for binding in cluster.get("rolebinding", "-n", namespace)["items"]:
        if binding["metadata"]["name"] == HUB_ROLE_BINDING_NAME:
            found: str | None = binding["metadata"]["annotations"].get(ANNOTATION_READY_HASH)
            return found
    return None


def conditions_of(status: dict[str, Any]) -> set[str]:
    return {condition["type"] for condition in status["conditions"]}


def refusal_of(cluster: Cluster, hub: RunningHub, pod: dict[str, Any]) -> str:
    """What the API answers the hub for one more pod like this one; empty when it would take it."""
    twin = copy.deepcopy(pod)
    kept = ("name", "labels", "annotations", "namespace")
    twin["metadata"] = {key: pod["metadata"][key] for key in kept}
    twin.pop("status")
    done = cluster.kubectl(
        f"--kubeconfig={hub.kubeconfig}",
        "create",
        "--dry-run=server",
        "-f",
        "-",
        stdin=json.dumps(twin).replace(pod["metadata"]["name"], "server-twin"),
        check=False,
    )
    return done.stderr.strip() if done.returncode else ""


def namespace_of(hub: RunningHub, team: str) -> str:
    return str(hub.platform["namespace_prefix"]) + team


def start(cluster: Cluster, hub: RunningHub, user: str, namespace: str) -> dict[str, Any]:
    """Wait for a server that was asked for, and be its kubelet."""
    name = names.server_pod(user, "")
    found = until(
        lambda: [pod for pod in pods(cluster, namespace) if pod["metadata"]["name"] == name]
    )
    run_pod(cluster, found[0])
    return dict(found[0])


def test_a_raised_tier_is_waited_for_until_the_cluster_holds_to_it(
    both: Both, api_cluster: Cluster
) -> None:
    hub, provisioner = both
    there = namespace_of(hub, "grows")
    hub.make_team("grows", TEAM, "gil", "gus")
    hub.spawn("gil", profile="large")
    first = start(api_cluster, hub, "gil", there)
    before = ready_hash_of(api_cluster, there)
    with held_back(api_cluster):
        hub.set_properties("grows", {**TEAM, "generation": 2, "overrides": {"cpu": "4"}})
        assert hub.spawn("gus", profile="large").status_code == 202
        progress = Progress(hub, "gus")
        progress.wait_for("is written and not in force yet")
        status = provisioner.wait_state("grows", "provisioning")
        assert "QuotaPending" in conditions_of(status)
        quota = quota_of(api_cluster, there)
        assert quota["spec"]["hard"]["limits.cpu"] == "4"
        assert quota["status"]["hard"]["limits.cpu"] == "1"
        # A start that did not wait would be refused, in the words of the old tier.
        assert "limited: limits.cpu=1" in refusal_of(api_cluster, hub, first)
        assert ready_hash_of(api_cluster, there) is None
        assert hub.server("gus")["pending"] == "spawn"
        assert len(pods(api_cluster, there)) == 1
    start(api_cluster, hub, "gus", there)
    after = ready_hash_of(api_cluster, there)
    assert after not in (None, before)
    assert quota_of(api_cluster, there)["status"]["hard"]["limits.cpu"] == "4"
    assert not [message for message in progress.said if "of its" in message or "its one" in message]
    for user in ("gil", "gus"):
        hub.stop_server(user)
        hub.wait_stopped(user)


def test_a_new_team_is_not_ready_while_its_quota_is_not_in_force(
    both: Both, api_cluster: Cluster
) -> None:
    hub, provisioner = both
    there = namespace_of(hub, "fresh")
    with held_back(api_cluster):
        hub.make_team("fresh", TEAM, "ann")
        assert hub.spawn("ann").status_code == 202
        progress = Progress(hub, "ann")
        progress.wait_for("is written and not in force yet")
        status = provisioner.wait_state("fresh", "provisioning")
        assert "QuotaPending" in conditions_of(status)
        assert not status["readyHash"]
        assert not quota_of(api_cluster, there)["status"].get("hard")
        assert ready_hash_of(api_cluster, there) is None
        # All the rest stands, and nothing that the quota counts.
        assert len(api_cluster.get("networkpolicy", "-n", there)["items"]) >= 2
        assert api_cluster.get("pvc,pods", "-n", there)["items"] == []
    start(api_cluster, hub, "ann", there)
    status = provisioner.wait_state("fresh", "ready")
    assert ready_hash_of(api_cluster, there) == status["readyHash"] == status["specHash"]
    quota = quota_of(api_cluster, there)
    assert quota["status"]["hard"].keys() == quota["spec"]["hard"].keys()
    hub.stop_server("ann")
    hub.wait_stopped("ann")
