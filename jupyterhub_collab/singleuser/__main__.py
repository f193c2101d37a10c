"""Process 1 of a member's pod: prepares, starts the server, waits for it.

If the server ends badly soon after its start, it is started once more without the member's own
packages: a broken one must not lock its owner out.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from .jupyter_settings import config_environment
from .packages import package_environment, safe_environment
from .starters import give_starters

PROGRAM = "jupyterhub-singleuser"
SOON_S = 60.0  # a server that ends badly within so many seconds did not start


def main(arguments: list[str]) -> int:
    """Run the server. Returns its exit code, 128 and the number if a signal ended it."""
    environ = dict(os.environ)
    try:
        give_starters(Path.home())
        environ.update(package_environment(environ))
        environ.update(config_environment(environ, Path.home()))
    except Exception as e:  # whatever it is, the server starts
        print(f"Your home was not prepared: {e}", file=sys.stderr)  # noqa: T201
    command = [PROGRAM, *arguments]
    if os.geteuid() == 0:  # in the embedded cluster only; a pod's user is never root
        command.append("--allow-root")
    process = Server()
    began = time.monotonic()
    code = process.run(command, environ)
    packages = environ.get("COLLAB_PACKAGES", "")
    too_soon = time.monotonic() - began < SOON_S
    if code != 0 and too_soon and not process.is_asked_to_stop and os.path.isdir(packages):
        print(  # noqa: T201
            "The server did not start with the packages you installed. It starts without them now;"
            f" they are in {packages}.",
            file=sys.stderr,
            flush=True,
        )
        code = process.run(command, safe_environment(environ))
    return code


class Server:
    """One child process; signals to us go to it, and orphans of its are reaped."""

    def __init__(self) -> None:
        self.is_asked_to_stop = False
        self._pid = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._forward)

    def run(self, command: list[str], environ: Mapping[str, str]) -> int:
        """Start it and wait for its end."""
        self._pid = os.posix_spawnp(command[0], command, environ)
        if self.is_asked_to_stop:  # between the two
            os.kill(self._pid, signal.SIGTERM)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._pid:
                self._pid = 0
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def _forward(self, number: int, frame: object) -> None:
        self.is_asked_to_stop = True
        if self._pid:
            os.kill(self._pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
