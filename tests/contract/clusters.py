"""The embedded cluster as the suite starts it: the programs that people start, a fresh folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jupyterhub_collab import embedded
from jupyterhub_collab.embedded.controllers import DRIVER


@dataclass(frozen=True)
class ContractCluster:
    """What a contract test is told about the cluster that it runs on."""

    kubeconfig: Path
    image: str  # of the pods that the tests start
    folder_driver: str = DRIVER  # CSI driver of volumes that are folders of this machine


@contextmanager
def program(name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run ``embedded.NAME`` on `folder` from ready to an orderly end."""
    argv = [sys.executable, "-m", f"jupyterhub_collab.embedded.{name}", "--dir", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", f"embedded {name} did not start"
            yield process
        finally:
            process.terminate()


@contextmanager
def embedded_cluster(folder: Path, *, with_node: bool) -> Iterator[ContractCluster]:
    """An embedded cluster; `with_node` decides whether pods run on it."""
    with program("api", folder):
        pass  # the second start goes on where the first ended, and has no older history
    with program("api", folder):
        found = ContractCluster(embedded.Paths(folder).kubeconfig, "local")
        if not with_node:
            yield found
            return
        with program("node", folder):
            yield found
        embedded.stop_all(folder, grace_s=0.5)
