"""Where a rehearsal plays: what differs between the embedded cluster and a real node."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jupyterhub_collab.cli.up.command import DEFAULT_IMAGE
from jupyterhub_collab.cli.up.ground import NAMES_SUFFIX
from jupyterhub_collab.constants import COMPONENT_SERVER, LABEL_COMPONENT, LABEL_TEAM
from tests.cluster.cluster import Cluster
from tests.cluster.images import SINGLEUSER_IMAGE
from tests.walk.ground import Run

TREE = Path(__file__).with_name("volume_tree.py")


class Stage(Protocol):
    """A cluster with a run of `up` on it.

    Attributes
    ----------
    image, cpu
        Of members' servers.
    places
        How many of them run at the same time.
    names_suffix
        What teams' names end in; None: they have none here.
    """

    image: str
    cpu: str
    places: int
    names_suffix: str | None

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""

    def in_volume(self, team: str, what: str) -> str:
        """Run `volume_tree` on a team's volume, in its server where servers have walls."""


@dataclass(frozen=True)
class EmbeddedStage:
    """The embedded cluster: a volume is a folder of this machine."""

    run: Run
    image: str = DEFAULT_IMAGE
    cpu: str = "250m"
    places: int = 4
    names_suffix: str | None = NAMES_SUFFIX

    @property
    def kubeconfig(self) -> Path:
        return self.run.data / "cluster" / "kubeconfig"

    def in_volume(self, team: str, what: str) -> str:
        folder = self.run.data / "cluster" / "volumes" / f"team-{team}" / "team"
        done = subprocess.run(
            [sys.executable, "-", what, str(folder)],
            input=TREE.read_text(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@dataclass(frozen=True)
class NodeStage:
    """A real node: a volume is seen from the containers that mount it.

    Six servers of a fifth of a CPU leave room on two CPUs for the other contest's (half a CPU) and
    an archive's (a quarter). With a tenth JupyterLab takes longer to answer than it may.
    """

    cluster: Cluster
    image: str = SINGLEUSER_IMAGE
    cpu: str = "200m"
    places: int = 6
    names_suffix: str | None = None

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def in_volume(self, team: str, what: str) -> str:
        space = f"team-{team}"
        pods = self.cluster.get(
            "pods", "-n", space, "-l", f"{LABEL_TEAM}={team},{LABEL_COMPONENT}={COMPONENT_SERVER}"
        )["items"]
        (name,) = [
            pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]
        ]
        done = self.cluster.exec(
            space, name, "python3", "-", what, "~/team", stdin=TREE.read_text(), timeout_s=180
        )
        return done.stdout
