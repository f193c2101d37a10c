"""Every test, in parts, as many at once as keep two cores busy.

On a real node, and on a real API or in a browser: most of what these two do is waiting for their
clusters. Others by folders, the longest first; most of what they do is starting hubs.
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
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from typing import BinaryIO

import left_processes

REAL = "api or node or browser"
OTHERS = f"not ({REAL}) and not campaign"
FOLDERS = (
    ("tests/hub",),
    ("tests/auth",),
    ("tests/storage", "tests/audit_reading"),
    ("tests/services",),
    ("tests/walk", "tests/archives", "tests/contest_pages", "tests/notices"),
    ("tests/cli", "tests/managers"),
)
SHOWN = ("-m", "node and not campaign")
BESIDE = (
    ("-m", "(api or browser) and not node and not campaign"),
    *(("-m", OTHERS, *folders) for folders in FOLDERS),
    ("-m", OTHERS, *(f"--ignore={folder}" for folders in FOLDERS for folder in folders)),
)
AT_ONCE = 5
COMMAND = (sys.executable, "-m", "pytest")
POLL_S = 0.5
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
        waiting = deque(zip((SHOWN, *BESIDE), outputs, strict=True))
        started: list[subprocess.Popen[bytes]] = []
        try:
            while waiting or any(process.poll() is None for process in started):
                if waiting and sum(process.poll() is None for process in started) < AT_ONCE:
                    started.append(start(*waiting.popleft()))
                else:
                    time.sleep(POLL_S)
            return [process.returncode for process in started]
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
