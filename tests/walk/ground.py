"""A run of `jupyterhub-collab up` for the walk: its process, its address, its end."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jupyterhub_collab.cli.up.ports import find_free_port

UP_TIMEOUT_S = 180.0  # the first start installs the proxy
STOP_TIMEOUT_S = 60.0


@dataclass
class Site:
    """A hub that people walk through.

    Attributes
    ----------
    url
        What people open.
    password
        Everybody's; empty where the login page shows accounts.
    """

    url: str
    password: str = field(default="", kw_only=True)

    @property
    def hub(self) -> tuple[str, int]:
        """By which address and port servers reach the hub."""
        raise NotImplementedError

    @property
    def closed(self) -> dict[str, tuple[str, int]]:
        """What else of it no member's server may reach. All of it answers somebody."""
        return {}

    def connects(self, target: tuple[str, int]) -> bool:
        """Whether a target answers this machine, or another place that it may answer."""
        try:
            with socket.create_connection(target, 2):
                return True
        except OSError:
            return False


@dataclass
class Run(Site):
    """One run of `up`.

    Attributes
    ----------
    out
        File of what it printed.
    """

    data: Path
    out: Path
    process: subprocess.Popen[bytes]
    is_killed: bool = False

    @property
    def hub(self) -> tuple[str, int]:
        settings = json.loads((self.data / "run/settings.json").read_text())
        return settings["hub_address"], settings["hub_port"]

    @property
    def closed(self) -> dict[str, tuple[str, int]]:
        platform = json.loads((self.data / "run/platform.json").read_text())
        contests = platform.get("contests")
        if contests is None:
            return {}
        return {"contests service, for archive Jobs": (contests["address"], contests["port"])}

    def kill(self) -> None:
        """kill -9 of the supervisor, as the kernel does when memory runs out."""
        self.process.kill()
        self.process.wait()
        self.is_killed = True


@contextlib.contextmanager
def running(data: Path, *options: str, port: int | None = None) -> Iterator[Run]:
    """`up` until the end of the block, then Ctrl-C; its exit must be orderly."""
    port = port or find_free_port("127.0.0.1")
    out = data.parent / f"{data.name}.up.log"
    command = [sys.executable, "-m", "jupyterhub_collab.cli.main", "up", f"--data={data}"]
    began = out.stat().st_size if out.exists() else 0
    with out.open("ab") as file:
        process = subprocess.Popen(
            [*command, f"--port={port}", *options], stdout=file, stderr=file, start_new_session=True
        )
    run = None
    try:
        url = _wait_for_url(process, out, began)
        run = Run(url=url, data=data, out=out, process=process)
        yield run
    except BaseException:
        print(out.read_text()[-4000:])  # pytest shows it beside the failure
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if run.is_killed:
        return
    assert process.returncode == 0, out.read_text()
    assert "✓ Stopped." in out.read_text()


def _wait_for_url(process: subprocess.Popen[bytes], out: Path, began: int) -> str:
    """What this start says to open; ``began`` is where its own lines begin in the file."""
    deadline = time.monotonic() + UP_TIMEOUT_S
    while True:
        text = out.read_bytes()[began:].decode()
        found = re.search(r"Open  (http://\S+)", text)
        if found:
            return found[1]
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)
