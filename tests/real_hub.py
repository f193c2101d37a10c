"""A real JupyterHub in a process of its own, for tests of what talks to it.

It has no proxy: routes are kept in its memory, so the hub itself, at `api_url`, is what answers.
Servers are local processes that nobody starts (`tests.hub.running` has one with TeamSpawner).
Everything else is JupyterHub as it is.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

ROOT: Final = Path(__file__).parents[1]
STOP_TIMEOUT_S: Final = 30.0
#: What writes teams needs; the shape of a service's role.
REGISTRY_SCOPES: Final = ("list:groups", "read:groups", "admin:groups", "groups", "admin:users")

_CONFIG: Final = """
from tests.no_proxy import NoProxy

c = get_config()  # noqa: F821
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.bind_url = "http://127.0.0.1:{public_port}/"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{port}/hub/"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie-secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.JupyterHub.services = {services!r}
c.JupyterHub.load_roles = {roles!r}
{more}
"""


def find_free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RealHub:
    """A hub that can be started, killed and started again with the state it had.

    Attributes
    ----------
    token
        Of the service `registry`, which has `scopes`.
    services, roles
        Further services and roles, as JupyterHub's configuration has them.
    more
        Further lines of configuration.
    python_path
        Where the hub's process looks for modules first.
    program
        The module that is run.
    start_timeout_s
        Seconds until it must answer; with tens of thousands of users it takes longer.
    """

    folder: Path
    scopes: Sequence[str] = REGISTRY_SCOPES
    services: Sequence[dict[str, Any]] = ()
    roles: Sequence[dict[str, Any]] = ()
    more: str = ""
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    port: int = field(default_factory=find_free_port)
    process: subprocess.Popen[bytes] | None = None
    python_path: ClassVar[tuple[Path, ...]] = (ROOT,)
    program: ClassVar[str] = "jupyterhub"
    start_timeout_s: ClassVar[float] = 60.0

    @property
    def api_url(self) -> str:
        return f"{self.url}/api"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub"

    @property
    def log(self) -> str:
        return (self.folder / "hub.log").read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def config(self) -> str:
        """Text of the configuration file."""
        services = [{"name": "registry", "api_token": self.token}, *self.services]
        roles = [
            {"name": "registry", "scopes": list(self.scopes), "services": ["registry"]},
            *self.roles,
        ]
        return _CONFIG.format(
            port=self.port,
            public_port=find_free_port(),
            folder=self.folder,
            services=services,
            roles=roles,
            more=self.more,
        )

    def environment(self) -> dict[str, str]:
        """Of the hub's process."""
        # Tests turn warnings into errors; the hub's own are not theirs to judge.
        kept = {k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"}
        return {**kept, "PYTHONPATH": os.pathsep.join(map(str, self.python_path))}

    def start(self, *arguments: str) -> None:
        """Start it and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "jupyterhub_config.py"
        config.write_text(self.config())
        with (self.folder / "hub.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.program, "-f", str(config), *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=self.environment(),
            )
        deadline = time.monotonic() + self.start_timeout_s
        while not self._is_ready():
            if not self.is_running or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the hub did not start:\n{self.log[-6000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop it in an orderly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, how)
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.process = None

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api_url}/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
