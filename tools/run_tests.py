"""Every test, in five parts at once.

On a real node; on a real API or in a browser; log-ins; services; all others. Most of what the
first two do is waiting for their clusters, which are two in any case; most of what the others do
is starting hubs.
With arguments it is one pytest, given those.

The first part's lines are shown as they come, those of the others when all are done. However it
is ended, fixtures get to end what they started (`tests/orderly_end.py`); what stays behind all the
same is killed and named.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

import left_processes

REAL = "api or node or browser"
OTHERS = f"not ({REAL}) and not campaign"
LOGINS = ("tests/auth", "tests/audit_reading", "tests/storage", "tests/notices")
SERVICES = ("tests/services", "tests/contest_pages", "tests/archives", "tests/walk")
SHOWN = ("-m", "node and not campaign")
BESIDE = (
    ("-m", "(api or browser) and not node and not campaign"),
    ("-m", OTHERS, *(f"--ignore={path}" for path in (*LOGINS, *SERVICES))),
    ("-m", OTHERS, *LOGINS),
    ("-m", OTHERS, *SERVICES),
)
COMMAND = (sys.executable, "-m", "pytest")
END_TIMEOUT_S = 120  # of fixtures, after SIGTERM


def start(part: Sequence[str], output: BinaryIO | None) -> subprocess.Popen[bytes]:
    """A pytest that ends in order when this process dies; Ctrl-C reaches this process alone."""

    def prepare() -> None:
        os.setpgrp()
        left_processes.end_with_parent()

    return subprocess.Popen([*COMMAND, *part], stdout=output, stderr=output, preexec_fn=prepare)


def end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C does, and for good if that takes too long."""
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run() -> list[int]:
    """All parts; their exit codes."""
    with ExitStack() as stack:
        outputs = [None, *(stack.enter_context(tempfile.TemporaryFile()) for _ in BESIDE)]
        started = [
            start(part, output) for part, output in zip((SHOWN, *BESIDE), outputs, strict=True)
        ]
        try:
            return [process.wait() for process in started]
        finally:
            for process in started:
                if process.poll() is None:
                    end(process)
            for output in outputs[1:]:
                output.seek(0)
                sys.stdout.write(output.read().decode(errors="replace"))


def main() -> int:
    """Exit code of the part that went worst."""
    if len(sys.argv) > 1:
        return subprocess.run([*COMMAND, *sys.argv[1:]]).returncode
    began = time.monotonic()
    # Each hub and service of the tests would compile our modules again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    left_processes.adopt()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        codes = run()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    finally:
        for line in left_processes.end_left():
            print(f"left behind by tests, and killed: {line[:200]}")
    print(f"all parts: {(time.monotonic() - began) / 60:.1f} minutes, exit codes {codes}")
    return max(abs(code) for code in codes)  # below zero: by which signal it was killed


if __name__ == "__main__":
    sys.exit(main())
