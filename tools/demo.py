"""``make demo``: `jupyterhub-collab up` with the sample contests.

``--cluster embedded`` needs nothing else. ``--cluster node`` builds and starts the real one-node
Kubernetes of the tests (Linux, root), lets `up` run on it, and leaves it running afterwards with
all volumes: ``make cluster-down`` removes it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).parent / "jupyterhub-collab"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", choices=("embedded", "node"), default="embedded")
    parser.add_argument("--auth", choices=("demo", "ldap"), default="demo")
    parser.add_argument("--port", default="8000")
    arguments = parser.parse_args()
    if arguments.cluster == "embedded":
        options = [f"--data={ROOT / 'demo-data'}"]
    else:
        options = [f"--data={ROOT / 'demo-data-node'}", *start_node()]
    # Becomes the program, so that Ctrl-C and its exit code are its own.
    command = [str(PROGRAM), "up", f"--port={arguments.port}", f"--auth={arguments.auth}", *options]
    os.execv(PROGRAM, command)  # noqa: S606 - our own command line


def start_node() -> tuple[str, ...]:
    """Have the one-node cluster run; the options for `up` on it."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from tests.cluster import pins, programs_build
    from tests.cluster.cluster import open_cluster
    from tests.cluster.errors import CannotHave, ClusterError
    from tests.cluster.record import Level
    from tests.walk.node import arrange

    try:
        directory = pins.state_root()
        if subprocess.run(
            [sys.executable, "-m", "tests.cluster", "status"], stdout=subprocess.DEVNULL
        ).returncode:
            for step in ("build", "up"):
                done = subprocess.run([sys.executable, "-m", "tests.cluster", step])
                if done.returncode:
                    sys.exit(done.returncode)
        cluster = open_cluster(directory, programs_build.find_programs(Level.NODE))
        if cluster.level is not Level.NODE:
            sys.exit("jupyterhub-collab: a cluster without a node runs; run `make cluster-down`.")
        return arrange(cluster, directory / "demo")
    except (CannotHave, ClusterError) as error:
        sys.exit(f"jupyterhub-collab: {error}")


if __name__ == "__main__":
    main()
