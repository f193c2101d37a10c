"""Notices in JupyterLab: the server asks the hub for its owner's, with its own token.

The page itself cannot ask: it comes from another origin than the hub. `jupyter_data/` holds the
extension that shows them, written as JupyterLab loads it, without a build.

It must not: keep a server from starting, or say the token to anybody but the hub.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPError

KEPT_S = 30.0  # all open pages of a server ask; the hub is asked once
_WAIT_S = 5.0
_kept: tuple[float, list[Any]] = (0.0, [])


class NoticesHandler(APIHandler):
    """``GET collab/notices``: what the hub has; nothing where it does not answer."""

    @web.authenticated
    async def get(self) -> None:
        global _kept
        if time.monotonic() >= _kept[0]:
            # Before the answer: whoever asks meanwhile gets what there was.
            _kept = (time.monotonic() + KEPT_S, _kept[1])
            _kept = (time.monotonic() + KEPT_S, await self._ask())
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"notices": _kept[1]}))

    async def _ask(self) -> list[Any]:
        url = f"{os.environ['JUPYTERHUB_API_URL'].rstrip('/')}/collab/notices"
        try:
            answer = await AsyncHTTPClient().fetch(
                url,
                headers={"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"},
                connect_timeout=_WAIT_S,
                request_timeout=_WAIT_S,
                follow_redirects=False,
            )
            found = json.loads(answer.body)["notices"]
        except (HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            self.log.debug("The hub has no notices just now: %s", error)
            return []
        return found if isinstance(found, list) else []


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    if not (os.environ.get("JUPYTERHUB_API_URL") and os.environ.get("JUPYTERHUB_API_TOKEN")):
        return  # a server without a hub has nobody to ask
    path = url_path_join(app.web_app.settings["base_url"], "collab/notices")
    app.web_app.add_handlers(".*$", [(path, NoticesHandler)])
