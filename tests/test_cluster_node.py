"""What our pods need of the node: limits, volumes, Pod Security, images, logs and exec."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import probing
from tests.cluster.cluster import Cluster
from tests.cluster.images import SINGLEUSER_IMAGE

NAMESPACE = "node-facts"
#: Seconds for what takes two on a machine that has nothing else to do.
PATIENCE_S = 40.0
MEMORY_BYTES = 96 * 2**20


def make_pod(name: str, *command: str, **more: Any) -> dict[str, Any]:
    """Return a pod of the image of members' servers, as a member's pod is: user, group, limits."""
    pod = probing.make_pod(NAMESPACE, name)
    pod["spec"]["restartPolicy"] = "Never"
    pod["spec"]["securityContext"] |= {"runAsGroup": 100, "fsGroup": 100}
    (container,) = pod["spec"]["containers"]
    container |= {
        "image": SINGLEUSER_IMAGE,
        "resources": {"limits": {"memory": str(MEMORY_BYTES), "cpu": "1"}},
    }
    del container["command"]
    container["args"] = list(command)
    pod["spec"] |= more
    return pod


def wait_for_end(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return how the only container of a pod ended."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        pod = cluster.get("pod", name, "-n", NAMESPACE)
        statuses = pod["status"].get("containerStatuses", [])
        for status in statuses:
            if "terminated" in status["state"]:
                return dict(status["state"]["terminated"])
        assert time.monotonic() < deadline, json.dumps(pod["status"], indent=2)


@pytest.fixture(scope="module")
def cluster(node_cluster: Cluster) -> Iterator[Cluster]:
    node_cluster.apply(probing.make_namespace(NAMESPACE))
    deadline = time.monotonic() + PATIENCE_S
    while not node_cluster.get("sa", "-n", NAMESPACE)["items"]:
        assert time.monotonic() < deadline, "no default service account"
    yield node_cluster
    node_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.node
@pytest.mark.parametrize(("share", "reason"), [(0.2, "Completed"), (2.0, "OOMKilled")])
def test_kernel_holds_the_memory_limit(cluster: Cluster, share: float, reason: str) -> None:
    name = f"memory-{reason.lower()}"
    program = f"print(len(bytearray({int(share * MEMORY_BYTES)})))"
    cluster.apply(make_pod(name, "python3", "-c", program))
    assert wait_for_end(cluster, name)["reason"] == reason


@pytest.mark.node
def test_volume_is_writable_and_outlives_its_pod(cluster: Cluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "home", "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    cluster.apply(claim)
    volumes = [{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}]
    program = (
        "import os, pathlib; p = pathlib.Path('/data/note'); print(os.getuid(), os.getgid())\n"
    )
    for name, line in (("writes", "p.write_text('kept')"), ("reads", "print(p.read_text())")):
        pod = make_pod(name, "python3", "-c", program + line, volumes=volumes)
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "home", "mountPath": "/data"}]
        cluster.apply(pod)
        assert wait_for_end(cluster, name)["exitCode"] == 0
        logs = cluster.kubectl("logs", "-n", NAMESPACE, name).stdout.split()
        assert logs[:2] == ["1000", "100"]
        cluster.kubectl("delete", "pod", "-n", NAMESPACE, name)
    assert logs[2:] == ["kept"]


@pytest.mark.node
def test_restricted_namespace_refuses_a_privileged_pod(cluster: Cluster) -> None:
    pod = make_pod("privileged", "true")
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    options = ["create", "-f", "-"]
    refused = cluster.kubectl(*options, stdin=json.dumps(pod), check=False)
    assert 'violates PodSecurity "restricted' in refused.stderr


@pytest.mark.node
def test_member_installs_a_package_where_the_spawner_says(cluster: Cluster) -> None:
    """The image lets `pip install --user` work, into PYTHONUSERBASE (a package without network:
    one made in the pod)."""
    script = """
set -e
export HOME=/tmp PYTHONUSERBASE=/tmp/mine
mkdir /tmp/source && cd /tmp/source
echo 'ANSWER = 42' > member_package.py
echo 'from setuptools import setup
setup(name="member-package", version="1", py_modules=["member_package"])' > setup.py
pip install --quiet --user --no-index --no-build-isolation .
cd / && python3 -c 'import member_package; print(member_package.__file__, member_package.ANSWER)'
"""
    cluster.apply(make_pod("installs", "sh", "-c", script))
    end = wait_for_end(cluster, "installs")
    logs = cluster.kubectl("logs", "-n", NAMESPACE, "installs").stdout
    assert end["exitCode"] == 0, logs
    assert logs.split()[-2].startswith("/tmp/mine/")


@pytest.mark.node
def test_exec_reaches_a_running_pod_as_an_ordinary_user(cluster: Cluster) -> None:
    cluster.apply(make_pod("runs", "sleep", "600"))
    options = ["pod/runs", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=40s"]
    cluster.kubectl("wait", *options)
    said = cluster.exec(NAMESPACE, "runs", "sh", "-c", "id -u; cat; cat /proc/1/comm", stdin="hi\n")
    assert said.stdout.split() == ["1000", "hi", "tini"]
    refused = cluster.exec(NAMESPACE, "runs", "touch", "/opt/jupyter/x", check=False)
    assert "Permission denied" in refused.stderr
