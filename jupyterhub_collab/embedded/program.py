"""How both embedded programs start and end.

Each takes the folder, alone; says ``ready`` once it serves; ends in an orderly way on SIGTERM, and
with one sentence on stderr when it cannot start.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ..errors import PermanentError
from .folder import Paths, hold_lease, prepare


async def until_stopped() -> None:
    """Say that the program serves, and wait for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    print("ready", flush=True)  # noqa: T201  (whoever started it waits for this line)
    await stop.wait()


def run(name: str, serve: Callable[[Paths], Coroutine[Any, Any, None]]) -> None:
    """Command line of a program."""
    parser = argparse.ArgumentParser(prog=f"python -m jupyterhub_collab.embedded.{name}")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the cluster")
    given = parser.parse_args()
    try:
        with hold_lease(Paths(given.dir), name):
            asyncio.run(serve(prepare(given.dir)))
    except PermanentError as error:
        sys.exit(str(error))
