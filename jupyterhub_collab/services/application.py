"""What the processes of all services share: where settings come from, listening, an orderly end.

A service is a subclass with `run`. JupyterHub's own variables say which hub it belongs to and where
it listens, as for any service that JupyterHub knows; everything else is the service's.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final

from jupyterhub.services.auth import HubOAuth
from tornado.httpserver import HTTPServer
from tornado.web import Application as WebApplication
from traitlets import Unicode, default
from traitlets.config import Application

from .. import __version__
from ..errors import CollabError, PermanentError
from .binding import bind_service, log_request
from .handlers import NotFoundHandler

BODY_S: Final = 60.0
"""Seconds in which a body must have come, unless a handler says otherwise to some."""
IDLE_S: Final = 300.0
"""Seconds for a request's headers; a connection on which nothing is asked ends then."""
_FOREIGN_BYTES_MAX: Final = 64 * 1024  # of bodies to handlers that are not ours, and take none
_BUFFER_BYTES_MAX: Final = 1 << 20  # of one connection, read and not yet taken


def make_server(
    routes: list[Any],
    work: Any,
    *,
    log_function: Callable[[Any], None] = log_request,
    body_s: float = BODY_S,
) -> HTTPServer:
    """What serves these routes; whatever else is asked for is not there.

    How much somebody may send is each handler's (`ServiceHandler.body_bytes_max`).

    Parameters
    ----------
    log_function
        Called with the handler of each request that was answered.
    body_s
        Seconds in which a body must have come.
    """
    web = WebApplication(
        routes,
        default_handler_class=NotFoundHandler,
        default_handler_args={"work": work},
        cookie_secret=os.urandom(32),
        log_function=log_function,
    )
    return HTTPServer(
        web,
        max_body_size=_FOREIGN_BYTES_MAX,
        max_buffer_size=_BUFFER_BYTES_MAX,
        body_timeout=body_s,
        idle_connection_timeout=IDLE_S,
    )


def env(name: str) -> str:
    """A variable of the environment; empty where it is not set."""
    return os.environ.get(name, "")


class ServiceApplication(Application):
    """Settings and life of a service.

    Attributes
    ----------
    title
        The service, in the middle of a sentence.
    default_port
        Where it listens if nobody says.
    """

    version = __version__
    title: ClassVar[str]
    default_port: ClassVar[int]

    config_file = Unicode("", help="A Python or JSON file with settings.").tag(config=True)
    hub_api_url = Unicode(help="The hub's REST API ($JUPYTERHUB_API_URL).").tag(config=True)
    service_url = Unicode(
        help="Where to listen ($JUPYTERHUB_SERVICE_URL): its port, and its address where that is "
        "one of this machine's; otherwise all addresses."
    ).tag(config=True)
    prefix = Unicode(help="Path below the hub's proxy ($JUPYTERHUB_SERVICE_PREFIX).").tag(
        config=True
    )

    @default("hub_api_url")
    def _default_hub_api_url(self) -> str:
        return env("JUPYTERHUB_API_URL")

    @default("service_url")
    def _default_service_url(self) -> str:
        return env("JUPYTERHUB_SERVICE_URL") or f"http://127.0.0.1:{self.default_port}"

    @default("prefix")
    def _default_prefix(self) -> str:
        return env("JUPYTERHUB_SERVICE_PREFIX") or f"/services/{self.short_name}/"

    @default("log_level")
    def _default_log_level(self) -> int:
        return logging.INFO

    def initialize(self, argv: list[str] | None = None) -> None:
        super().initialize(argv)
        if self.config_file:
            path = Path(self.config_file).absolute()
            self.load_config_file(path.name, path=str(path.parent))
            self.parse_command_line(argv)  # the command line has the last word

    def start(self) -> None:
        level: Any = self.log_level
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        gc.collect()
        gc.freeze()  # what was imported stays: no collection need look at it
        try:
            asyncio.run(self.run())
        except CollabError as error:
            sys.exit(f"{self.short_name}: {error}")

    @property
    def short_name(self) -> str:
        """As JupyterHub knows the service."""
        return self.name.removeprefix("jupyterhub-collab-")

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises CollabError."""
        raise NotImplementedError

    def read_hub_token(self) -> str:
        """The service's own token of its hub. Raises PermanentError: which hub is not said."""
        token = env("JUPYTERHUB_API_TOKEN")
        if not (self.hub_api_url and token):
            raise PermanentError(
                f"The {self.title} does not know its hub. Set JUPYTERHUB_API_URL and "
                "JUPYTERHUB_API_TOKEN, as for any JupyterHub service."
            )
        return token

    def listen(
        self,
        routes: list[Any],
        work: Any,
        *,
        log_function: Callable[[Any], None] = log_request,
        url: str = "",
    ) -> HTTPServer:
        """Serve these routes, as `make_server` has it.

        Parameters
        ----------
        url
            Where to listen, as `service_url` says it; there, unless said.

        Raises
        ------
        PermanentError
            The port is taken, or not for us.
        """
        sockets, where = bind_service(url or self.service_url, self.title)
        HubOAuth.instance(parent=self)
        server = make_server(routes, work, log_function=log_function)
        server.add_sockets(sockets)
        self.log.info("%s listens on %s", self.title.capitalize(), where)
        return server

    @staticmethod
    async def until_stopped(tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Until a signal, or the end of a task that has none. Raises what ended that one."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            with suppress(asyncio.CancelledError):
                await stopped
        for task in done - {stopped}:
            task.result()
