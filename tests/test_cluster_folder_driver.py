"""The node's CSI driver: a folder of the machine, mounted read-only by the kernel.

Kubernetes has three places that say read-only, and one of them does nothing at a mount: a volume's
``csi.readOnly`` is never passed on by kubelet. A volume's mount options are, and so is the pod's
``persistentVolumeClaim.readOnly``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.cluster.node_files import CSI_DRIVER

NAMESPACE = "folder-driver"


def make_volume(name: str, path: Path, options: list[str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{NAMESPACE}.{name}"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "capacity": {"storage": "1Gi"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": name,
                "namespace": NAMESPACE,
            },
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "static",
            "mountOptions": options,
            "csi": {
                "driver": CSI_DRIVER,
                "readOnly": True,
                "volumeHandle": name,
                "volumeAttributes": {"path": str(path)},
            },
        },
    }


def make_claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "resources": {"requests": {"storage": "1Gi"}},
            "storageClassName": "static",
            "volumeName": f"{NAMESPACE}.{name}",
        },
    }


def make_reader(name: str, *, is_read_only: bool) -> dict[str, Any]:
    """A pod that runs as root, so that what stops it from writing is the mount alone."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "reader",
                    "image": SINGLEUSER_IMAGE,
                    "command": ["sleep", "600"],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                }
            ],
            "volumes": [
                {
                    "name": "data",
                    "persistentVolumeClaim": {"claimName": name, "readOnly": is_read_only},
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def cluster(node_cluster: Cluster) -> Iterator[Cluster]:
    """The node, with the namespace that the pods run in."""
    node_cluster.kubectl("create", "namespace", NAMESPACE)
    node_cluster.kubectl(
        "wait", "-n", NAMESPACE, "--for=create", "serviceaccount/default", "--timeout=30s"
    )
    yield node_cluster
    node_cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.mark.node
@pytest.mark.parametrize(
    ("name", "options", "pod_says", "may_write"),
    [
        pytest.param("driver", [], False, True, id="csi.readOnly alone stops nobody"),
        pytest.param("volume", ["ro"], False, False, id="mount options of the volume"),
        pytest.param("claim", [], True, False, id="the pod's claim"),
    ],
)
def test_who_makes_a_csi_volume_read_only(
    cluster: Cluster,
    tmp_path: Path,
    name: str,
    options: list[str],
    pod_says: bool,
    may_write: bool,
) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    try:
        cluster.apply(make_volume(name, tmp_path, options), make_claim(name))
        cluster.apply(make_reader(name, is_read_only=pod_says))
        cluster.kubectl(
            "wait", "-n", NAMESPACE, "--for=condition=Ready", f"pod/{name}", "--timeout=60s"
        )
        read = cluster.exec(NAMESPACE, name, "cat", "/data/numbers.csv")
        assert read.stdout == "a,b\n1,2\n"
        written = cluster.exec(NAMESPACE, name, "touch", "/data/new", check=False)
        assert (written.returncode == 0) is may_write
        assert may_write or "Read-only file system" in written.stderr
    finally:
        cluster.kubectl("delete", "persistentvolume", f"{NAMESPACE}.{name}", "--wait=false")
