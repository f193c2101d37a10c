"""What the test cluster is built from, and where what was built is kept.

The pins are the committed files themselves: ``programs/go.mod`` and ``go.sum`` name every Go
module by its checksum, so the hash of the files in ``programs/`` names a build. Whatever is
built lies outside the clone under that hash; a changed pin is another folder, never a mixture.

This module only computes names. It must not build, download or delete.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parents[2]
PROGRAM_SOURCES: Final = Path(__file__).resolve().parent / "programs"

#: Raise when the way of building changes without a change of the sources.
BUILD_RECIPE: Final = "1"

#: Names of the programs in the one Kubernetes executable, by the level that needs them.
API_PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
NODE_PROGRAMS: Final = ("kubelet", "kube-proxy", "csi-folder")
CONTAINERD_PROGRAMS: Final = ("containerd", "containerd-shim-runc-v2", "ctr")


def cache_root() -> Path:
    """Folder outside the clone that keeps what is built (``XDG_CACHE_HOME`` is honoured)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "jupyterhub-collab" / "cluster"


def state_root() -> Path:
    """Folder of the detached cluster that ``up`` starts when told no other."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "jupyterhub-collab" / "cluster"


def digest_files(files: Iterable[Path], *, root: Path, extra: Iterable[str] = ()) -> str:
    """Hash names (relative to `root`) and contents of `files`, and the strings of `extra`."""
    total = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    for item in extra:
        total.update(f"={item}\n".encode())
    return total.hexdigest()[:16]


def program_pin() -> str:
    """Hash that names a build of the programs for this kind of machine."""
    files = [path for path in PROGRAM_SOURCES.rglob("*") if path.is_file()]
    extra = (BUILD_RECIPE, platform.system(), platform.machine())
    return digest_files(files, root=PROGRAM_SOURCES, extra=extra)


def program_folder() -> Path:
    """Folder in which the programs of the present pins are, once they are built."""
    return cache_root() / program_pin() / "bin"


def kubernetes_version() -> str:
    """Version of Kubernetes that go.mod requires, such as ``1.36.3``."""
    text = (PROGRAM_SOURCES / "go.mod").read_text()
    match = re.search(r"k8s\.io/kubernetes v(\d+\.\d+\.\d+)", text)
    if match is None:
        raise ValueError("programs/go.mod does not require k8s.io/kubernetes")
    return match.group(1)
