"""An earlier state of a cluster's store, as a backup of etcd is: taken while it runs, and put back.

Put back means what an administrator's restore means: no API server runs meanwhile, versions go
back, and whoever has a watch is not told. Only for clusters of ours.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Final

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError

#: Those that hold what they read of the store in memory; the API server is stopped first.
READERS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
BACK_S: Final = 60.0


def save_store(cluster: Cluster, backup: Path) -> None:
    """Copy etcd's folder while etcd stands still for a moment."""
    cluster.signal("etcd", "STOP")
    try:
        shutil.copytree(_folder(cluster), backup)
    finally:
        cluster.signal("etcd", "CONT")


def restore_store(cluster: Cluster, backup: Path) -> None:
    """Put such a copy back, and wait until the API server answers from it.

    Programs that stand still cannot be started again, so nobody sees the folder half-way.
    """
    running = [name for name in READERS if cluster.has_program(name)]
    for name in (*running, "etcd"):
        cluster.signal(name, "STOP")
    folder = _folder(cluster)
    folder.rename(folder.with_name("etcd.lost"))
    shutil.copytree(backup, folder)
    shutil.rmtree(folder.with_name("etcd.lost"))
    for name in ("etcd", *running):
        cluster.kill(name)
    deadline = time.monotonic() + BACK_S
    while cluster.kubectl("get", "--raw", "/readyz", check=False).returncode != 0:
        if time.monotonic() > deadline:
            raise ClusterError(f"the restored API server did not answer within {BACK_S:.0f} s")
        time.sleep(0.1)


def _folder(cluster: Cluster) -> Path:
    if cluster.directory is None:
        raise ClusterError("the store of a foreign cluster is not ours to touch")
    return cluster.directory / "etcd"
