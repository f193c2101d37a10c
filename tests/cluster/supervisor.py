"""Starts the cluster's programs, starts again what dies, and ends with all of them.

Runs in one thread and one loop, as an ordinary process (level `api`) or as process 1 of the
node's own process namespace (level `node`), where it also reaps what others left behind.

On Linux every program is killed by the kernel when the supervisor dies (PDEATHSIG), so that a
killed supervisor leaves no program. Elsewhere only an orderly stop ends them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from tests.cluster.errors import ClusterError

#: Seconds before a program that ended is started again: shorter than any client's patience.
RESTART_DELAY_S: Final = 0.3
#: Seconds between two looks at a condition during start.
POLL_S: Final = 0.02
#: linux/prctl.h
PR_SET_PDEATHSIG: Final = 1
#: What of a program's log goes into an error message.
LOG_TAIL_LINES: Final = 12

_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Program:
    """One program to run: its name (also that of its log), command line and environment."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def die_with_parent(parent: int) -> None:
    """In a child before exec: have the kernel kill this process when its parent dies."""
    if _LIBC is None:
        return
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


class Supervisor:
    """Runs programs in `directory`: logs in ``log/``, process numbers in ``pid/``."""

    def __init__(self, directory: Path) -> None:
        self._logs = directory / "log"
        self._pids = directory / "pid"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._pids.mkdir(parents=True, exist_ok=True)
        self._running: dict[int, Program] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._due: dict[str, tuple[float, Program]] = {}
        self._stopping = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._ignore)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def _ignore(self, _number: int, _frame: FrameType | None) -> None:
        """Only the wake-up counts."""

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def start(self, program: Program) -> None:
        """Start `program` with its output appended to its log."""
        parent = os.getpid()
        with (self._logs / f"{program.name}.log").open("ab") as log:
            process = subprocess.Popen(
                program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **program.environment},
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),
            )
        self._running[process.pid] = program
        self._processes[process.pid] = process
        (self._pids / program.name).write_text(f"{process.pid}\n")

    def wait_until(self, is_met: Callable[[], bool], *, what: str, timeout_s: float) -> None:
        """Wait for a condition of the start.

        Raises
        ------
        ClusterError
            If a program ended meanwhile (with the end of its log), if the time was up, or if
            a stop was asked for.
        """
        deadline = time.monotonic() + timeout_s
        while not is_met():
            for program, status in self._reap():
                code = os.waitstatus_to_exitcode(status)
                raise ClusterError(
                    f"{program.name} ended with code {code} while waiting for {what}. "
                    f"Its last lines:\n{self.read_tail(program.name)}"
                )
            if self._stopping:
                raise ClusterError(f"told to stop while waiting for {what}")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{what} did not come within {timeout_s:.0f} s; see the logs in {self._logs}"
                )
            self._wait(POLL_S, None)

    def run(self, *, until_closed: int | None = None) -> None:
        """Keep all programs running until a signal, or the end of file `until_closed`."""
        while not self._stopping:
            for program, status in self._reap():
                code = os.waitstatus_to_exitcode(status)
                print(f"{program.name} ended with code {code}; starting it again", flush=True)
                self._due[program.name] = (time.monotonic() + RESTART_DELAY_S, program)
            now = time.monotonic()
            for name, (moment, program) in list(self._due.items()):
                if moment <= now:
                    del self._due[name]
                    self.start(program)
            patience = min((moment - now for moment, _ in self._due.values()), default=60.0)
            if self._wait(max(patience, 0.0), until_closed):
                return

    def kill_all(self) -> None:
        """Kill every program at once and wait for each: their data is thrown away anyhow."""
        for pid in self._running:
            os.kill(pid, signal.SIGKILL)
        for pid in list(self._running):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
            self._forget(pid, -signal.SIGKILL)

    def read_tail(self, name: str) -> str:
        """Return the last lines of a program's log."""
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _reap(self) -> list[tuple[Program, int]]:
        """Collect ended children; as process 1 also such as were never ours."""
        ended: list[tuple[Program, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if pid == 0:
                return ended
            program = self._running.get(pid)
            if program is not None:
                self._forget(pid, status)
                ended.append((program, status))

    def _forget(self, pid: int, status: int) -> None:
        del self._running[pid]
        # Popen must not wait for a child that was waited for here.
        self._processes.pop(pid).returncode = status

    def _wait(self, timeout_s: float, until_closed: int | None) -> bool:
        """Sleep until a signal or the time is up; True once `until_closed` is at its end."""
        watched = [self._wake_read] + ([] if until_closed is None else [until_closed])
        readable, _, _ = select.select(watched, [], [], timeout_s)
        if self._wake_read in readable:
            os.read(self._wake_read, 4096)
        return until_closed in readable and os.read(until_closed or 0, 4096) == b""
