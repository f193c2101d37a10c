"""Becomes a program that `up` supervises: takes its lease, ties its life to the supervisor's.

Run as ``python -m jupyterhub_collab.cli.up.child LEASE NAME SUPERVISOR_PID PROGRAM [ARGS...]``.
What: takes the exclusive lease, asks the kernel for SIGTERM should the supervisor die (Linux), and
then *becomes* the program, which goes on holding the lease under the same process id.
Why: no watcher stays in between, so a signal to the process id reaches the program itself. Where
the kernel cannot do this (macOS) the next start ends what still holds a lease.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

from .lease import Lease, LeaseHeldError

EXIT_LEASE_HELD = 75  # EX_TEMPFAIL of sysexits.h
EXIT_NO_PROGRAM = 127  # as a shell says it
_PR_SET_PDEATHSIG = 1  # linux/prctl.h; kept over execve for programs without set-uid


def main(argv: list[str]) -> int:
    """Never returns when all is well: this process is the program from then on."""
    lease_path, name, supervisor, *command = argv
    lease = Lease(Path(lease_path))
    try:
        lease.take(name)
    except LeaseHeldError as e:
        who = f"process {e.holder.pid}" if e.holder else "another process"
        print(f"{name} already runs on this data folder as {who}.", file=sys.stderr)
        return EXIT_LEASE_HELD
    lease.keep_over_exec()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(supervisor):
            return 0  # it died before the kernel was asked
    try:
        os.execvp(command[0], command)  # noqa: S606 - our own command line
    except OSError as e:
        print(f"{name}: cannot run {command[0]}: {e.strerror}.", file=sys.stderr)
        return EXIT_NO_PROGRAM


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
