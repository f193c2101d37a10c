"""Notices in the hub's pages, and for servers: what the contests service has for whoever asks.

``GET /hub/api/collab/notices`` answers for the logged-in user, or for the owner of a server that
asks with its own token. The hub asks the service once for many who ask, waits for it two seconds
and never longer, and then leaves it alone for a while: without the service there is no banner, and
everything else is as always.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from traitlets import TraitError, Unicode, default, validate
from traitlets.config import Configurable

from .teams import teams_of

SCRIPT: Final = Path(__file__).parent / "static" / "notices.js"
KEPT_S: Final = 15.0  # an answer counts for so long
AWAY_S: Final = 10.0  # after no answer nobody asks for so long
WAIT_S: Final = 2.0
_KEPT_MAX: Final = 10_000  # people; an answer is a few hundred bytes
_BYTES_MAX: Final = 256 * 1024
_AWAY_CODES: Final = frozenset({502, 503, 504, 599})  # a proxy's word for it; tornado's own is 599
_FIELDS: Final = ("id", "contest", "team", "text", "at", "until")

log = logging.getLogger(__name__)
Notices = list[dict[str, Any]]
Ask = Callable[[str, tuple[str, ...]], Awaitable[Notices]]


class NoticeSettings(Configurable):
    """Where notices come from: ``c.NoticeSettings.<name>``."""

    contests_url = Unicode(
        config=True,
        help="""
        URL of the contests service, such as ``http://127.0.0.1:8087/services/contests/``. Without
        it there are no notices in the hub's pages and in JupyterLab.

        Default: the environment variable COLLAB_CONTESTS_URL.
        """,
    )

    contests_token = Unicode(
        config=True,
        help="""
        Token of a hub service that may read everybody's notices: scopes
        ``access:services!service=contests`` and ``custom:collab:contests:notices``.

        Default: the environment variable COLLAB_CONTESTS_TOKEN.
        """,
    )

    @default("contests_url")
    def _contests_url_default(self) -> str:
        return os.environ.get("COLLAB_CONTESTS_URL", "")

    @default("contests_token")
    def _contests_token_default(self) -> str:
        return os.environ.get("COLLAB_CONTESTS_TOKEN", "")

    @validate("contests_url")
    def _validate_contests_url(self, proposal: Any) -> str:
        url: str = proposal["value"]
        if url and not url.startswith(("http://", "https://")):
            raise TraitError(f"contests_url must begin with http:// or https://, not {url!r}")
        return url


class NoticeBoard:
    """What was answered last for each person. One call under way for each at most.

    Parameters
    ----------
    ask
        Asks the service for a person and their teams. Whatever it raises: no notices.
    clock
        Seconds that only grow.
    """

    def __init__(self, ask: Ask, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._kept: OrderedDict[str, tuple[float, Notices]] = OrderedDict()  # none: it was refused
        self._asking: dict[str, asyncio.Task[Notices]] = {}
        self._away_until = 0.0

    async def read(self, user: str, teams: tuple[str, ...]) -> Notices:
        """Notices for somebody; none where the service does not answer."""
        now = self._clock()
        found = self._kept.get(user)
        if found is not None and now < found[0]:
            return found[1]
        if now < self._away_until:
            return []
        task = self._asking.get(user)
        if task is None:
            task = asyncio.create_task(self._fetch(user, teams))
            self._asking[user] = task
            task.add_done_callback(lambda _: self._asking.pop(user, None))
        # Whoever closes their page ends only their own wait.
        return await asyncio.shield(task)

    async def _fetch(self, user: str, teams: tuple[str, ...]) -> Notices:
        kept_s = KEPT_S
        try:
            notices = await self._ask(user, teams)
        except Exception as e:  # whatever it is, pages are shown
            if is_away(e):
                log.warning("No notices are shown: the contests service is away (%s)", e)
                self._away_until = self._clock() + AWAY_S
                return []
            # It answers: what is wrong is wrong with this one question.
            log.warning("No notices are shown to %s: %s", user, e)
            notices, kept_s = [], AWAY_S
        self._kept[user] = (self._clock() + kept_s, notices)
        self._kept.move_to_end(user)
        while len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        return notices


def is_away(error: Exception) -> bool:
    """Whether nobody answers, whomever it is about."""
    if isinstance(error, HTTPClientError):
        return error.code in _AWAY_CODES
    return isinstance(error, OSError)


class ServiceLink:
    """The contests service, asked by the hub with a token of its own."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._token = url.rstrip("/"), token
        # The hub's shared client has ten connections for all that the hub asks; not for this.
        self._client = AsyncHTTPClient(force_instance=True, max_clients=4)

    def __repr__(self) -> str:
        return f"ServiceLink({self._url})"

    async def ask(self, user: str, teams: tuple[str, ...]) -> Notices:
        """Notices for somebody. Raises HTTPClientError, OSError, ValueError."""
        query = urlencode([("user", user), *(("team", team) for team in teams)])
        request = HTTPRequest(
            f"{self._url}/api/notices?{query}",
            headers={"Authorization": f"token {self._token}"},
            connect_timeout=WAIT_S,
            request_timeout=WAIT_S,
            follow_redirects=False,  # a redirect is a login page, and must not get the token
        )
        response = await self._client.fetch(request)
        if len(response.body) > _BYTES_MAX:
            raise ValueError("its answer is too large")
        found = json.loads(response.body)["notices"]
        return [{name: str(one[name] or "") for name in _FIELDS} for one in found]


class NoticesHandler(APIHandler):  # type: ignore[misc]
    """Notices for whoever asks."""

    async def get(self) -> None:
        """``{"notices": [{id, contest, team, text, at, until}]}``, the newest first."""
        user = self.current_user
        if user is None or getattr(user, "kind", "") != "user":
            raise web.HTTPError(403, "Log in, or ask with the token of a server.")
        if self.get_token() is not None and not self._is_of_server(user.name):
            raise web.HTTPError(403, "Only the token of a server may ask for its owner's notices.")
        self.set_header("Cache-Control", "no-store")
        board = self._board()
        notices = [] if board is None else await board.read(user.name, teams_of(user))
        self.finish(json.dumps({"notices": notices}))

    def _is_of_server(self, name: str) -> bool:
        """Whether a token may at least tell that its owner is active, as a server's may."""
        wanted = {"users:activity", f"users:activity!user={name}"}
        return any(scope in wanted or scope.startswith("admin:users") for scope in self._scopes())

    def _scopes(self) -> set[str]:
        return set(self.expanded_scopes)

    def _board(self) -> NoticeBoard | None:
        """The one of this hub; None: it knows no contests service."""
        if "collab_notice_board" not in self.settings:
            wanted = NoticeSettings(config=self.settings["config"])
            board = None
            if wanted.contests_url and wanted.contests_token:
                link = ServiceLink(wanted.contests_url, wanted.contests_token)
                board = NoticeBoard(link.ask)
            self.settings["collab_notice_board"] = board
        found: NoticeBoard | None = self.settings["collab_notice_board"]
        return found


class NoticesScriptHandler(BaseHandler):  # type: ignore[misc]
    """The banner's script, the same for all."""

    def get(self) -> None:
        """It."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.set_header("Cache-Control", "max-age=300")
        self.finish(SCRIPT.read_bytes())


HANDLERS: list[tuple[str, type[BaseHandler]]] = [
    (r"/api/collab/notices", NoticesHandler),
    (r"/collab/notices.js", NoticesScriptHandler),
]
