"""TeamSpawner on a real API server, under the service account and roles that we ship.

There is no kubelet at this level: the test writes the pods' status in its place, and answers for
the server. What is shown is that Pod Security, quota, RBAC and validation take what we make.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterhub_collab import names
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.models import Platform
from tests.hub.conftest import until
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, own_platform

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def ground(api_cluster, tmp_path_factory):
    """A platform of its own on the shared cluster: prefix, hub id, hub namespace, roles."""
    raw = own_platform("s")
    home = raw["hub_namespace"]
    api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
    settings = Platform.model_validate(raw)
    api_cluster.apply(*make_rbac(settings), *make_guard(settings))
    directory = tmp_path_factory.mktemp("real")
    kubeconfig = api_cluster.service_account_kubeconfig(home, "hub", directory / "kubeconfig")
    return raw, Path(kubeconfig), directory


@pytest.fixture(scope="module")
def answering(ground):
    """What answers in place of all servers."""
    raw, _, directory = ground
    url = f"http://127.0.0.1:{raw['server_port']}/"
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "small_server.py")],
        env={"JUPYTERHUB_SERVICE_URL": url, "HOME": str(directory)},
        stderr=subprocess.DEVNULL,
    )
    yield
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def hub(ground, answering, api_cluster):
    raw, kubeconfig, directory = ground
    found = RunningHub(
        folder=directory / "hub", kubeconfig=kubeconfig, platform=raw, slow_spawn_timeout=0
    )
    found.start()
    try:
        found.make_contest("sea", CONTEST)
        found.make_team("ocean", TEAM, "ada", "bob", "cleo")
        found.provision("ocean", kubeconfig=api_cluster.kubeconfig)
        yield found
    finally:
        found.close()


def pods(cluster, namespace):
    return cluster.get("pods", "-n", namespace)["items"]


def run_pod(cluster, pod):
    """Be the kubelet: the pod runs."""
    meta = pod["metadata"]
    status = {
        "phase": "Running",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "containerStatuses": [
            {
                "name": "notebook",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "image": "x",
                "imageID": "x",
                "state": {"running": {"startedAt": "2027-01-01T00:00:00Z"}},
            }
        ],
    }
    cluster.kubectl(
        "patch", "pod", meta["name"], "-n", meta["namespace"], "--subresource=status",
        "--type=merge", "-p", json.dumps({"status": status}),
    )  # fmt: skip


def test_start_and_stop_under_our_roles(hub, ground, api_cluster):
    namespace = ground[0]["namespace_prefix"] + "ocean"
    hub.spawn("ada")
    (pod,) = until(lambda: pods(api_cluster, namespace))
    assert pod["metadata"]["name"] == names.server_pod("ada", "")
    enforced = api_cluster.get("namespace", namespace)["metadata"]["labels"]
    assert enforced["pod-security.kubernetes.io/enforce"] == "restricted"
    (secret,) = until(lambda: api_cluster.get("secrets", "-n", namespace)["items"])
    assert secret["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
    claims = {c["metadata"]["name"] for c in api_cluster.get("pvc", "-n", namespace)["items"]}
    assert names.personal_claim("ada") in claims
    run_pod(api_cluster, pod)
    hub.wait_ready("ada")
    hub.stop_server("ada")
    hub.wait_stopped("ada")
    until(lambda: pods(api_cluster, namespace) == [])
    # The garbage collector takes the Secret with the pod.
    until(lambda: api_cluster.get("secrets", "-n", namespace)["items"] == [])


def test_quota_of_the_real_api_becomes_the_sentence(hub, ground, api_cluster):
    namespace = ground[0]["namespace_prefix"] + "ocean"
    for user in ("ada", "bob"):
        hub.spawn(user)
        until(lambda user=user: names.server_pod(user, "") in [
            p["metadata"]["name"] for p in pods(api_cluster, namespace)
        ])  # fmt: skip
    for pod in pods(api_cluster, namespace):
        run_pod(api_cluster, pod)
    for user in ("ada", "bob"):
        hub.wait_ready(user)
    hub.spawn("cleo")
    hub.wait_stopped("cleo")
    sentence = (
        "Team ocean uses its one CPU (two servers, ada's and bob's)."
        " Stop one or ask for a larger tier."
    )
    assert sentence in hub.log
    for user in ("ada", "bob"):
        hub.stop_server(user)
        hub.wait_stopped(user)


def test_a_team_without_a_namespace_is_waited_for_under_our_roles(hub):
    """The API answers 403, not 404, where the hub has no rights yet."""
    hub.make_team("nowhere", TEAM, "nell")
    hub.spawn("nell")
    hub.wait_stopped("nell")
    assert "Team nowhere's space was not ready within 3 seconds" in hub.log
