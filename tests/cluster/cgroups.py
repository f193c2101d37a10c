"""The node's control groups: one of a name of its own in every hierarchy, v1 or v2.

Containers' groups are made below it by kubelet. They do not go away with the processes, so the
keeper removes them when the node is gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")


def is_unified() -> bool:
    """Say whether this machine has cgroup v2 alone."""
    return (ROOT / "cgroup.controllers").exists()


def list_hierarchies() -> list[Path]:
    """Return the folders in which groups are made."""
    if is_unified():
        return [ROOT]
    return [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def make_group(name: str) -> None:
    """Make the group `name` in every hierarchy."""
    if is_unified():
        controllers = (ROOT / "cgroup.controllers").read_text().split()
        enable(ROOT, controllers)
        (ROOT / name).mkdir(exist_ok=True)
        enable(ROOT / name, controllers)
        return
    for hierarchy in list_hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # A v1 cpuset is born empty and takes no process until it is told.
            if (group / setting).exists():
                (group / setting).write_text((hierarchy / setting).read_text())


def enable(group: Path, controllers: list[str]) -> None:
    """Let children of a v2 group use `controllers`, as far as the machine has them."""
    for controller in controllers:
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue  # such as cpu with real-time processes; kubelet says so if it needs it


def list_processes(name: str) -> set[int]:
    """Return the processes in the groups called `name` and below, by this machine's numbers."""
    found: set[int] = set()
    for hierarchy in list_hierarchies():
        for file in (hierarchy / name).rglob("cgroup.procs"):
            found |= {int(line) for line in file.read_text().split()}
    return found


def remove_group(name: str) -> list[Path]:
    """Remove the groups called `name` with all below; returns those that would not go."""
    left = []
    for hierarchy in list_hierarchies():
        top = hierarchy / name
        if not top.is_dir():
            continue
        folders = sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True)
        for folder in [*folders, top]:
            try:
                folder.rmdir()
            except OSError:
                left.append(folder)
    return left
