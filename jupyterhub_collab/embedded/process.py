"""Containers as local processes that outlive whoever started them.

Each runs under a small shell that leads a session of its own and notes its process id and, at the
end, the exit code beside the pod's log; so a node that was killed finds them again. The note is
made with ``noclobber``: of two shells started for one container the second does nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .folder import Paths

POD_MARK: Final = "COLLAB_EMBEDDED_POD"  # environment variable that marks a pod's processes
KILLED: Final = 137  # exit code when nobody saw how it ended, as after SIGKILL
_SHELL: Final = """set -C
echo $$ >"$0.pid" || exit 0
set +C
trap : TERM
"$@"
echo $? >"$0.new" && mv "$0.new" "$0.exit"
"""


@dataclass(frozen=True)
class Command:
    """What a container runs."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path


class Container:
    """One container's process, started by us or found again in the pod's folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._stem = str(folder / name)
        self._uid = folder.name
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def was_started(self) -> bool:
        return self._child is not None or Path(f"{self._stem}.pid").exists()

    def start(self, command: Command) -> None:
        """Start it; what another node started already stays the only one."""
        argv = ["/bin/sh", "-c", _SHELL, self._stem, *command.argv]
        env = {**command.env, POD_MARK: self._uid}
        with open(f"{self._stem}.log", "ab") as log:
            self._child = subprocess.Popen(  # noqa: S603  (a pod's command is a command)
                argv, env=env, cwd=command.cwd, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _leader(self) -> int | None:
        """The shell's process id while it lives; its command line proves it: ids come again."""
        if self._child is not None:
            self._child.poll()  # else a zombie stays
        with contextlib.suppress(OSError, ValueError):
            pid = int(Path(f"{self._stem}.pid").read_text())
            if sys.platform == "linux":
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            else:
                argv = ["/bin/ps", "-o", "command=", "-p", str(pid)]
                line = subprocess.run(argv, capture_output=True, check=False).stdout  # noqa: S603
            return pid if self._stem.encode() in line else None
        return None

    def exit_code(self) -> int | None:
        """None while it runs, or has yet to note its process id."""
        starting = self._child is not None and self._child.poll() is None
        if starting or self._leader() is not None:
            return None
        try:
            return int(Path(f"{self._stem}.exit").read_text())
        except (OSError, ValueError):
            return KILLED

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its process group; what left the group, `kill_pod` finds."""
        if pid := self._leader():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, number)


def _members(uid: str) -> list[int]:
    """Processes that inherited the pod's mark: kernels and terminals lead sessions of their own."""
    mark, found = f"{POD_MARK}={uid}\0".encode(), []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if mark in entry.read_bytes() + b"\0":
                found.append(int(entry.parent.name))
    return found


def kill_pod(folder: Path, containers: Iterable[Container]) -> None:
    """End all of a pod's processes at once."""
    for container in containers:
        container.signal(signal.SIGKILL)
    for _ in range(10):  # what forks while it is being killed shows in the next round
        for pid in (members := _members(folder.name)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            break


def clear_pod(folder: Path) -> None:
    """End what runs in a pod's folder and delete it; the volumes behind its links stay."""
    kill_pod(folder, found_containers(folder))
    shutil.rmtree(folder, ignore_errors=True)


def found_containers(folder: Path) -> list[Container]:
    """The containers that were ever started in a pod's folder."""
    return [Container(folder, note.stem) for note in sorted(folder.glob("*.pid"))]


def stop_all(directory: str | Path, grace_s: float = 10.0) -> int:
    """End the processes of every pod of this folder: politely, then by force. Stop the node first.

    Returns
    -------
    int
        How many pods had any.
    """
    folders = [p for p in Paths(directory).pods.glob("*") if p.is_dir()]
    found = {f: [c for c in found_containers(f) if c.exit_code() is None] for f in folders}
    running = [container for some in found.values() for container in some]
    for container in running:
        container.signal(signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline and any(c.exit_code() is None for c in running):
        time.sleep(0.05)
    for folder, some in found.items():
        kill_pod(folder, some)
    return sum(bool(some) for some in found.values())
