"""Faults of a node under servers that run, with the hub in the cluster: the ones that take time.

Each says what the person reads, what the admin reads, and what heals; docs/node-faults.md is the
table of them. Run by ``make campaign``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.campaign.visitor import Visitor
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.in_cluster.fixtures import home, own_cluster
from tests.in_cluster.home import NAMESPACE, Home
from tests.in_cluster.reading import (
    claims_of,
    evict,
    read_end,
    read_warnings,
    server_pod,
    wait_until,
)

__all__ = ["home", "own_cluster"]

pytestmark = [pytest.mark.campaign, pytest.mark.node, pytest.mark.timeout(400)]

MISSING_IMAGE = "registry.invalid/nobody/nothing:1"
FILES = "Your files are in place. Start it again."
# In the pod: everything but this process is the kernel's first choice, then memory is taken.
HOG = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        try:
            open(f"/proc/{pid}/oom_score_adj", "w").write("1000")
        except OSError:
            pass
taken = [bytearray(b"1") * (64 << 20) for _ in range(64)]
"""


@pytest.fixture(scope="module")
def contest(home: Home, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Teams for faults: two as usual, and one on a storage class that does not exist."""
    tier = {"cpu": 2, "memory": "4Gi", "storage": "4Gi", "ephemeralStorage": "4Gi", "pods": 4}
    small = {"cpu": "250m", "memory": "512Mi"}
    base: dict[str, Any] = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "tiers": {"usual": tier},
        "images": {
            "basic": {"title": "Basic", "image": SINGLEUSER_IMAGE},
            "missing": {"title": "Missing", "image": MISSING_IMAGE},
        },
        "profiles": {
            "small": {"title": "Small", **small},
            "tight": {"title": "Tight", **small, "ephemeralStorage": "64Mi"},
        },
    }
    teams = {"atoll": "ada", "cliff": "grace"}
    manifests = {
        "faults": {
            **base,
            "contest": {"id": "faults", "title": "Faults"},
            "teams": {
                team: {"title": team, "tier": "usual", "members": [member]}
                for team, member in teams.items()
            },
        },
        "nowhere": {
            **base,
            "contest": {"id": "nowhere", "title": "Nowhere"},
            "volumes": {"team": "1Gi", "personal": "1Gi", "storageClass": "nowhere"},
            "teams": {"void": {"title": "Void", "tier": "usual", "members": ["alan"]}},
        },
    }
    folder = tmp_path_factory.mktemp("contests")
    for name, manifest in manifests.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))
        home.apply_contest(path)
    return "faults"


@pytest.fixture
def visit(home: Home, contest: str) -> Iterator[Callable[[str], Visitor]]:
    """Signs people in, and stops their servers at the end."""
    visitors: list[Visitor] = []

    def sign_in(name: str) -> Visitor:
        visitors.append(home.visitor(name))
        return visitors[-1]

    yield sign_in
    for visitor in visitors:
        if visitor.server():
            visitor.stop()
        visitor.close()


def run_in_server(home: Home, team: str, script: str) -> None:
    """What a member might do. Its own end does not matter."""
    name = server_pod(home, team)["metadata"]["name"]
    home.cluster.exec(f"team-{team}", name, "python3", "-c", script, check=False)


def test_a_drained_node(home: Home, visit: Callable[[str], Visitor]) -> None:
    """Cordon and eviction, as `kubectl drain` does; here with the only node there is."""
    katherine = visit("katherine")
    katherine.start("desert")
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


def test_a_namespace_that_does_not_go(home: Home, visit: Callable[[str], Visitor]) -> None:
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
    edsger = visit("edsger")
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


def test_an_image_that_is_missing(home: Home, visit: Callable[[str], Visitor]) -> None:
    ada = visit("ada")
    assert ada.ask_for_server("atoll", image="missing").status_code == 202
    said = ada.follow_start()
    assert said[-1] == (
        "Spawn failed: The environment missing cannot be fetched: the registry of its image does"
        f" not answer as it should ({MISSING_IMAGE}). Choose another one, and tell the host of the"
        " contest."
    )
    assert any(MISSING_IMAGE in text for text in read_warnings(home, "atoll"))
    assert "cannot be fetched" in home.log("hub")
    ada.start("atoll", image="basic")  # the environment beside it works at once
    assert ada.is_reachable()


def test_a_volume_that_will_not_bind(home: Home, visit: Callable[[str], Visitor]) -> None:
    alan = visit("alan")
    assert alan.ask_for_server("void").status_code == 202
    said = alan.follow_start()
    assert "A volume is still being made." in said
    assert said[-1] == (
        'Spawn failed: Your personal volume cannot be made: storageclass.storage.k8s.io "nowhere"'
        " not found. Tell an administrator of this hub."
    )
    assert any('"nowhere" not found' in text for text in read_warnings(home, "void"))
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass"}
    folder = home.cluster.get("storageclass", "folder")
    home.cluster.apply(
        {
            **kind,
            "metadata": {"name": "nowhere"},
            "provisioner": folder["provisioner"],
            "volumeBindingMode": folder["volumeBindingMode"],
        }
    )
    alan.start("void")  # what the admin put right is taken up by the next start
    assert alan.is_reachable()


def test_a_server_that_takes_too_much_memory(home: Home, visit: Callable[[str], Visitor]) -> None:
    ada = visit("ada")
    ada.start("atoll")
    claims = claims_of(home, "atoll")
    run_in_server(home, "atoll", HOG)
    assert read_end(ada) == (
        "Your server used more memory than its profile has, and was stopped. Choose a larger"
        " profile."
    )
    assert "used more memory than its profile has" in home.log("hub")
    ada.start("atoll")
    assert ada.is_reachable()
    assert claims_of(home, "atoll") == claims


def test_a_server_that_fills_its_scratch_space(home: Home, visit: Callable[[str], Visitor]) -> None:
    grace = visit("grace")
    grace.start("cliff", profile="tight")
    claims = claims_of(home, "cliff")
    run_in_server(home, "cliff", "open('/tmp/full', 'wb').write(bytes(256 << 20))")
    assert read_end(grace).startswith("Your server wrote more outside your home and your team")
    assert any("ephemeral" in text for text in read_warnings(home, "cliff"))
    grace.start("cliff", profile="tight")
    assert grace.is_reachable()
    assert claims_of(home, "cliff") == claims


def test_a_node_that_runs_out_of_memory(home: Home, visit: Callable[[str], Visitor]) -> None:
    """Kubelet evicts servers, not the hub: told that all of the machine's memory is too little."""
    ada = visit("ada")
    ada.start("atoll")
    uids = {name: home.pod(name)["metadata"]["uid"] for name in ("hub", "proxy", "provisioner")}
    assert home.cluster.directory is not None
    file = home.cluster.directory / "kubelet.yaml"
    settings = json.loads(file.read_text())
    # A hard threshold would be taken off what the machine has, and nothing would fit any more.
    soft = {"memory.available": "99%"}
    hungry = {"evictionSoft": soft, "evictionSoftGracePeriod": {"memory.available": "1s"}}
    try:
        restart_kubelet(home, file, {**settings, **hungry})
        # To the end of it: a kubelet that is restarted in between forgets that it evicts.
        wait_until(lambda: is_evicted(home, "atoll"), what="nothing was evicted", timeout_s=120)
    finally:
        restart_kubelet(home, file, {**settings, "evictionPressureTransitionPeriod": "5s"})
    assert read_end(ada) == f"The machine ran out of memory and gave your server up. {FILES}"
    assert any("low on resource: memory" in text for text in read_warnings(home, "atoll"))
    for name, uid in uids.items():
        assert home.pod(name)["metadata"]["uid"] == uid, f"{name} was evicted"
    ada.start("atoll")
    assert ada.is_reachable()


def is_evicted(home: Home, team: str) -> bool:
    """Whether the team's server was given up: it says so, or the hub has seen it off already."""
    pods = home.cluster.get("pods", "-n", f"team-{team}")["items"]
    return all(pod["status"].get("reason") == "Evicted" for pod in pods)


def restart_kubelet(home: Home, file: Path, settings: dict[str, Any]) -> None:
    """With other settings; it is started again by itself."""
    file.write_text(json.dumps(settings, indent=2))
    home.cluster.kill("kubelet")


def test_kubelet_and_containerd_restarted(home: Home, visit: Callable[[str], Visitor]) -> None:
    """An upgrade of the node's programs: no server notices."""
    ada = visit("ada")
    ada.start("atoll")
    uid = server_pod(home, "atoll")["metadata"]["uid"]
    for program in ("kubelet", "containerd"):
        home.cluster.kill(program)
        assert ada.is_reachable()
    time.sleep(10)  # two of the kubelet's own rounds: it has looked at every pod
    assert ada.is_reachable()
    assert server_pod(home, "atoll")["metadata"]["uid"] == uid
    home.wait_up()
    assert ada.server()["ready"]


def test_a_node_that_is_switched_off_and_on(home: Home, visit: Callable[[str], Visitor]) -> None:
    """Every container ends at once. Hub, proxy, provisioner come back; servers are told of."""
    ada = visit("ada")
    ada.start("atoll")
    claims = claims_of(home, "atoll")
    before = home.restarts()
    home.cluster.crash_containers()

    def are_restarted() -> bool:
        now = home.restarts()
        return all(now[name] > count for name, count in before.items())

    wait_until(are_restarted, what="not all were started again", timeout_s=90)
    home.wait_up()
    assert read_end(ada) in (
        f"The machine that your server ran on was restarted. {FILES}",
        "Your server ended with exit code 137.",
        "Your server ended with exit code 255.",
    )
    wait_until(lambda: home.state_of("atoll") == "ready", what="the provisioner", timeout_s=90)
    ada.start("atoll")
    assert ada.is_reachable()
    assert claims_of(home, "atoll") == claims


def test_a_node_that_says_nothing(home: Home, visit: Callable[[str], Visitor]) -> None:
    """Kubelet is silent for more than a minute: NotReady is not the end of a server."""
    ada = visit("ada")
    ada.start("atoll")
    uid = server_pod(home, "atoll")["metadata"]["uid"]
    assert home.cluster.directory is not None
    pid = (home.cluster.directory / "pid" / "kubelet").read_text().strip()
    home.cluster.in_node("kill", "-STOP", pid)
    try:
        wait_until(lambda: not is_node_ready(home), what="the node stays Ready", timeout_s=90)
        assert ada.server()["ready"]
        assert server_pod(home, "atoll")["metadata"]["uid"] == uid
    finally:
        home.cluster.in_node("kill", "-CONT", pid)
    wait_until(lambda: is_node_ready(home), what="the node stays NotReady")
    home.wait_up()
    wait_until(ada.is_reachable, what="the server does not answer")
    assert server_pod(home, "atoll")["metadata"]["uid"] == uid


def is_node_ready(home: Home) -> bool:
    (node,) = home.cluster.get("nodes")["items"]
    conditions = {c["type"]: c["status"] for c in node["status"]["conditions"]}
    return bool(conditions["Ready"] == "True")
