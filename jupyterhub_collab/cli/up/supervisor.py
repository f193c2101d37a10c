"""The supervisor: starts programs in order, restarts what dies, stops all in reverse.

What: one task for each program. A program is a child in a session of its own (Ctrl-C in the
terminal is for the supervisor alone), writes to its own log, and holds a lease.
Why: a hub that dies comes back in a second while servers and proxy go on.
It must not: signal anything but its own children.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from ...errors import UserError
from ...timeouts import TIMED_OUT, timeout
from .child import EXIT_LEASE_HELD, EXIT_NO_PROGRAM
from .program import Backoff, Program

_POLL_S = 0.1
_LOG_MAX_BYTES = 10 << 20
_GIVE_UP_AFTER = 3  # ends in a row before it was ever ready


class Supervisor:
    """Runs programs until `stop`.

    Parameters
    ----------
    lease, log
        Path of a program's lease and log by its name.
    tell
        Called with one line for people whenever something changes after the start.
    backoff
        Pauses between restarts.
    """

    def __init__(
        self,
        *,
        lease: Callable[[str], Path],
        log: Callable[[str], Path],
        tell: Callable[[str], None],
        backoff: Backoff | None = None,
    ) -> None:
        self._lease = lease
        self._log = log
        self._tell = tell
        self._backoff = backoff or Backoff()
        self._watched: list[_Watched] = []

    async def start(self, program: Program) -> None:
        """Start one program and wait until it is ready.

        Raises
        ------
        UserError
            It ended, or was not ready in time; says where its log is and what it said last.
        """
        watched = _Watched(program, self._lease(program.name), self._log(program.name))
        self._watched.append(watched)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + program.start_timeout_s
        failures = 0
        await watched.spawn()
        while not await _is_ready(program):
            if not watched.is_running:
                failures += 1
                if failures >= _GIVE_UP_AFTER or watched.exit_code in (
                    EXIT_LEASE_HELD,
                    EXIT_NO_PROGRAM,
                ):
                    raise UserError(watched.explain("ended while starting"))
                await asyncio.sleep(self._backoff.pause_s(failures))
                await watched.spawn()
            if loop.time() > deadline:
                late = f"was not ready after {program.start_timeout_s:.0f} seconds"
                raise UserError(watched.explain(late))
            await asyncio.sleep(_POLL_S)
        watched.watch = asyncio.create_task(self._keep(watched), name=f"keep {program.name}")

    async def _keep(self, watched: _Watched) -> None:
        """Start a program again whenever it ends."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            code = await watched.wait()
            lived_s = loop.time() - began
            failures = 1 if lived_s >= self._backoff.forgive_after_s else failures + 1
            pause_s = self._backoff.pause_s(failures)
            title = watched.program.title
            self._tell(f"{title} ended ({_say_exit(code)}); starting it again in {pause_s:g} s.")
            await asyncio.sleep(pause_s)
            try:
                await watched.spawn()
            except OSError as e:  # no room for its log, no memory: may pass
                self._tell(f"{title} cannot be started: {e.strerror}.")
                continue
            if await watched.until_ready():
                self._tell(f"{title} is back.")

    async def stop(self) -> None:
        """Stop everything, the last started first."""
        for watched in self._watched:
            if watched.watch is not None:
                watched.watch.cancel()
        await asyncio.gather(
            *(w.watch for w in self._watched if w.watch is not None), return_exceptions=True
        )
        for watched in reversed(self._watched):
            await watched.end()
            if watched.program.after_stop is not None:
                await asyncio.to_thread(watched.program.after_stop)
        self._watched.clear()

    def pid_of(self, name: str) -> int | None:
        """Process id of a running program."""
        for watched in self._watched:
            if watched.program.name == name and watched.is_running:
                return watched.pid
        return None


class _Watched:
    """One program and its current process."""

    def __init__(self, program: Program, lease: Path, log: Path) -> None:
        self.program = program
        self.lease = lease
        self.log = log
        self.watch: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        return self._process.returncode if self._process else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def spawn(self) -> None:
        if self.log.exists() and self.log.stat().st_size > _LOG_MAX_BYTES:
            self.log.replace(self.log.with_suffix(".1.log"))
        wrapper = [sys.executable, "-m", f"{__package__}.child"]
        with self.log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                *wrapper,
                str(self.lease),
                self.program.name,
                str(os.getpid()),
                *self.program.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.program.cwd,
                env={**os.environ, **self.program.env},
                start_new_session=True,
            )

    async def until_ready(self) -> bool:
        """Wait for the program to serve; False when it ended instead."""
        while self.is_running:
            if await _is_ready(self.program):
                return True
            await asyncio.sleep(_POLL_S)
        return False

    async def wait(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    async def end(self) -> None:
        """SIGTERM, then SIGKILL to its whole process group."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with timeout(self.program.stop_timeout_s):
                await process.wait()
        except TIMED_OUT:
            os.killpg(process.pid, signal.SIGKILL)  # its leader is our child, not yet reaped
            await process.wait()

    def explain(self, what: str) -> str:
        code = self.exit_code
        said = f" ({_say_exit(code)})" if code is not None else ""
        last = _read_last_line(self.log)
        saying = f": {last}" if last else "."
        return f"{self.program.title} {what}{said}, see {self.log}{saying}"


async def _is_ready(program: Program) -> bool:
    try:
        async with timeout(5.0):
            return await program.is_ready()
    except TIMED_OUT:
        return False


def _say_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _read_last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
