"""Every test, in three parts at once: on a real cluster or browser, log-ins and audit, the others.

Most of what the first part does is waiting for the cluster, most of the others for hubs to start.
With arguments it is one pytest, given those.

The first part's lines are shown as they come, those of the others when all are done.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

REAL = "api or node or browser"
OTHERS = f"not ({REAL}) and not campaign"
SOME = ("tests/auth", "tests/audit_reading", "tests/services/audit")
SHOWN = ("-m", f"({REAL}) and not campaign")
BESIDE = (("-m", OTHERS, *(f"--ignore={path}" for path in SOME)), ("-m", OTHERS, *SOME))


def main() -> int:
    """Exit code of the part that went worst."""
    command = [sys.executable, "-m", "pytest"]
    if len(sys.argv) > 1:
        return subprocess.run([*command, *sys.argv[1:]]).returncode
    began = time.monotonic()
    with ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile()) for _ in BESIDE]
        beside = [
            subprocess.Popen([*command, *part], stdout=output, stderr=output)
            for part, output in zip(BESIDE, outputs, strict=True)
        ]
        try:
            codes = [subprocess.run([*command, *SHOWN]).returncode]
            codes += [process.wait() for process in beside]
        finally:
            for process, output in zip(beside, outputs, strict=True):
                if process.poll() is None:
                    process.terminate()
                    process.wait()
                output.seek(0)
                sys.stdout.write(output.read().decode(errors="replace"))
    print(f"all parts: {(time.monotonic() - began) / 60:.1f} minutes, exit codes {codes}")
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
