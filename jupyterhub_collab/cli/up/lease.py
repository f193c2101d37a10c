"""Exclusive leases: one holder at a time, told apart from what a crash left behind.

What: an flock on a file that also says, for people, who holds it.
Why: the kernel drops an flock when its holder dies, however it dies, so a lease is never stale
for longer than a process lives; a pid file would be.
It must not: trust the text in the file. Only the lock says whether somebody lives; the text
names who.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ...errors import CollabError


class LeaseHeldError(CollabError):
    """Somebody else holds the lease. ``holder`` is who, if the file says so."""

    def __init__(self, path: Path, holder: Holder | None) -> None:
        self.path = path
        self.holder = holder
        who = f"process {holder.pid}" if holder else "another process"
        super().__init__(f"{path} is held by {who}")


@dataclass(frozen=True)
class Holder:
    """Who took a lease: process id and what it called itself."""

    pid: int
    name: str


class Lease:
    """A lease on a file. Held from `take` until `release` or the end of the process.

    Parameters
    ----------
    path
        The lock file; made when missing, mode 0600, never removed (removing it would let two
        holders lock two files of one name).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    def take(self, name: str) -> Holder | None:
        """Take the lease, or raise.

        Returns
        -------
        Holder or None
            Who held it last and did not release it, so crashed; None after an orderly end.

        Raises
        ------
        LeaseHeldError
            Somebody alive holds it.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            holder = _read_holder(fd)
            os.close(fd)
            raise LeaseHeldError(self.path, holder) from e
        previous = _read_holder(fd)
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "name": name}).encode(), 0)
        self._fd = fd
        return previous

    def keep_over_exec(self) -> None:
        """Let the program that this process becomes go on holding the lease."""
        assert self._fd is not None
        os.set_inheritable(self._fd, True)

    def release(self) -> None:
        """Give it back; the emptied file says that the end was orderly."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def read_live_holder(path: Path) -> Holder | None:
    """Who holds the lease now; None when nobody does."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(fd) or Holder(pid=0, name="unknown")
    finally:
        os.close(fd)
    return None


def end_leftover(
    path: Path,
    *,
    timeout_s: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Holder | None:
    """End the process that still holds a child's lease after its supervisor died.

    SIGTERM, and SIGKILL after ``timeout_s`` seconds. The caller holds the data folder's own lease,
    so whoever holds a child's lease in it was started for that folder and has lost its supervisor.

    Returns
    -------
    Holder or None
        Whom it ended, None when there was nobody.
    """
    first = holder = read_live_holder(path)
    deadline = monotonic() + timeout_s
    told = False
    while holder is not None:
        late = monotonic() >= deadline
        if holder.pid > 1 and (late or not told):
            with contextlib.suppress(ProcessLookupError):  # ended since the look
                os.kill(holder.pid, signal.SIGKILL if late else signal.SIGTERM)
            told = True
        if late and monotonic() >= deadline + timeout_s:
            raise LeaseHeldError(path, holder)
        sleep(0.05)
        holder = read_live_holder(path)
    return first


def _read_holder(fd: int) -> Holder | None:
    try:
        stored = json.loads(os.pread(fd, 4096, 0))
        return Holder(pid=int(stored["pid"]), name=str(stored["name"]))
    except (ValueError, KeyError, TypeError):
        return None
