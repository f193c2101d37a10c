"""Every test, in two halves at the same time: those on a real cluster or browser, and the others.

Most of what the first half does is waiting for the cluster, most of the second for hubs to start.
With arguments it is one pytest, given those.

The first half's lines are shown as they come, the second's when both are done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time

REAL = "api or node or browser"
HALVES = (f"({REAL}) and not campaign", f"not ({REAL}) and not campaign")


def main() -> int:
    """Exit code of the half that went worse."""
    command = [sys.executable, "-m", "pytest"]
    if len(sys.argv) > 1:
        return subprocess.run([*command, *sys.argv[1:]]).returncode
    began = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        second = subprocess.Popen([*command, "-m", HALVES[1]], stdout=output, stderr=output)
        try:
            codes = [subprocess.run([*command, "-m", HALVES[0]]).returncode, second.wait()]
        finally:
            if second.poll() is None:
                second.terminate()
                second.wait()
            output.seek(0)
            print(output.read(), end="", flush=True)
    print(f"both halves: {(time.monotonic() - began) / 60:.1f} minutes, exit codes {codes}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
