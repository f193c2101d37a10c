"""Processes that tests leave behind: found, named and ended, so that no later run is slowed.

Hubs and services of tests have sessions of their own, and outlive a pytest that is killed. On
Linux this process then becomes their parent; elsewhere nothing is found. It must not: end what
somebody else started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

IS_LINUX: Final = sys.platform.startswith("linux")
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt() -> None:
    """Become the parent of what descendants leave behind."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """In a new process, before its program begins: SIGTERM when its parent dies of anything."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def end_left() -> list[str]:
    """Kill all children, and theirs as they come here; their command lines."""
    ended = []
    while children := _children():
        for process in children:
            with suppress(OSError):
                line = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")
                ended += [line.decode(errors="replace").strip()] if line else []  # none: a zombie
                os.kill(process, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
    return ended


def _children() -> list[int]:
    if not IS_LINUX:
        return []
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(state[1]) == os.getpid():
                found.append(int(folder.name))
    return found
