"""Containers as local processes that outlive whoever started them.

Each runs under a small shell that leads a session of its own and notes its process id and, at the
end, the exit code beside the pod's log; so a node that was killed finds them again. The note is
made with ``noclobber``: of two shells started for one container the second does nothing.
"""

from __future__ import annotations

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
    """One container's process, started by us or found again.

    Parameters
    ----------
    folder
        The pod's, named by its UID.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._stem = folder / name
        self._uid = folder.name
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def was_started(self) -> bool:
        return self._child is not None or self._stem.with_suffix(".pid").exists()

    def start(self, command: Command) -> None:
        """Start it; what another node started already stays the only one."""
        env = {**command.env, POD_MARK: self._uid}
        with self._stem.with_suffix(".log").open("ab") as log:
            self._child = subprocess.Popen(
                ["/bin/sh", "-c", _SHELL, str(self._stem), *command.argv],
                env=env,
                cwd=command.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _leader(self) -> int | None:
        """Process id of the shell while it lives. Ids are used again: its command line proves it."""
        if self._child is not None:
            self._child.poll()  # else a zombie stays
        try:
            pid = int(self._stem.with_suffix(".pid").read_text())
        except (OSError, ValueError):
            return None
        try:
            if sys.platform == "linux":
                line = Path(f"/proc/{pid}/cmdline").read_bytes()
            else:
                line = subprocess.run(
                    ["ps", "-o", "command=", "-p", str(pid)], capture_output=True
                ).stdout
        except OSError:
            return None
        return pid if str(self._stem).encode() in line else None

    def exit_code(self) -> int | None:
        """None while it runs, or has yet to note its process id."""
        try:
            return int(self._stem.with_suffix(".exit").read_text())
        except (OSError, ValueError):
            pass
        starting = self._child is not None and self._child.poll() is None
        if starting or self._leader() is not None:
            return None
        # The shell may have ended between the two looks.
        done = self._stem.with_suffix(".exit")
        return int(done.read_text()) if done.exists() else KILLED

    def terminate(self) -> None:
        """Ask it to end."""
        if pid := self._leader():
            try:
                os.killpg(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """End its process group; what left the group, `kill_pod` finds."""
        if pid := self._leader():
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def _members(uid: str) -> list[int]:
    """Processes that inherited the pod's mark: kernels and terminals lead sessions of their own."""
    mark = f"{POD_MARK}={uid}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes() + b"\0":
                found.append(int(entry.parent.name))
        except OSError:
            continue  # gone, or somebody else's
    return found


def kill_pod(folder: Path, containers: Iterable[Container]) -> None:
    """End all of a pod's processes at once."""
    for container in containers:
        container.kill()
    for _ in range(10):  # what forks while it is being killed shows in the next round
        members = _members(folder.name)
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        if not members:
            break


def found_containers(folder: Path) -> list[Container]:
    """The containers that were ever started in a pod's folder."""
    return [Container(folder, note.stem) for note in sorted(folder.glob("*.pid"))]


def remove_pod(folder: Path) -> None:
    """Delete a pod's folder; the volumes behind its links stay."""
    shutil.rmtree(folder, ignore_errors=True)


def stop_all(directory: str | Path, grace_s: float = 10.0) -> int:
    """End the processes of every pod of this folder: politely, then by force. Stop the node first.

    Returns
    -------
    int
        How many pods had any.
    """
    folders = sorted(p for p in Paths(Path(directory).resolve()).pods.glob("*") if p.is_dir())
    running = {
        folder: [c for c in found_containers(folder) if c.exit_code() is None] for folder in folders
    }
    for container in (c for found in running.values() for c in found):
        container.terminate()
    deadline = time.monotonic() + grace_s
    while time.monotonic() < deadline:
        if all(c.exit_code() is not None for found in running.values() for c in found):
            break
        time.sleep(0.05)
    for folder, found in running.items():
        kill_pod(folder, found)
    return sum(bool(found) for found in running.values())
