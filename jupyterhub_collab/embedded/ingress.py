"""Stand-in for an ingress controller: sends a browser where an Ingress's annotation says.

It has the hub's proxy hand it the hosts of all Ingresses of its class, and takes them back when
they are gone: then the name leads to the hub's login page, as every name of this machine does.
Looked at whole, again and again: a proxy that was started anew knows no routes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import aiohttp
from aiohttp import web

from ..kube import kinds as k
from .folder import Paths
from .store import Store

CLASS: Final = "embedded"
REDIRECT: Final = "embedded.jupyterhub-collab.org/redirect"
PROXY_TOKEN: Final = "CONFIGPROXY_AUTH_TOKEN"  # noqa: S105 - a variable, as the proxy calls it
_FILE: Final = "names.json"  # in the cluster's folder
_MARK: Final = "embedded-ingress"  # on our routes
_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class NamesSettings:
    """Where names are answered on this machine, and the proxy's API."""

    port: int
    proxy_api_url: str


def write_names(paths: Paths, settings: NamesSettings) -> None:
    """Have the API server that is started next on this folder answer to names."""
    (paths.root / _FILE).write_text(json.dumps(asdict(settings)) + "\n")


def read_names(paths: Paths) -> NamesSettings | None:
    """None: names are not served."""
    try:
        return NamesSettings(**json.loads((paths.root / _FILE).read_text()))
    except FileNotFoundError:
        return None


class IngressController:
    """Answers by the Host header, for the hosts that the proxy was told."""

    def __init__(self, store: Store, settings: NamesSettings) -> None:
        self._store, self._settings = store, settings

    def redirects(self) -> dict[str, str]:
        """Where each host leads."""
        found = {}
        for ingress in self._store.select(k.INGRESS, None):
            target = (ingress["metadata"].get("annotations") or {}).get(REDIRECT)
            if target and ingress["spec"].get("ingressClassName") == CLASS:
                for rule in ingress["spec"].get("rules") or ():
                    found[rule.get("host", "")] = target
        return found

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A redirect, or 404."""
        host = request.host.partition(":")[0]
        target = self.redirects().get(host)
        if target is None:
            return web.Response(status=404, text=f"Nothing is called {host} here any more.\n")
        return web.Response(status=302, headers={"Location": target})

    async def follow(self) -> None:
        """Keep the proxy's routes as the Ingresses are. Ends when it is cancelled."""
        headers = {"Authorization": f"token {os.environ.get(PROXY_TOKEN, '')}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
                    await self._bring_routes(session)
                await asyncio.sleep(_EVERY_S)

    async def _bring_routes(self, session: aiohttp.ClientSession) -> None:
        base = f"{self._settings.proxy_api_url}/api/routes"
        async with session.get(base) as answer:
            routes: Mapping[str, Mapping[str, str]] = await answer.json()
        wanted = set(self.redirects())
        present = {r["host"] for r in routes.values() if r.get("kind") == _MARK}
        target = f"http://127.0.0.1:{self._settings.port}"
        for host in wanted - present:
            body = {"target": target, "host": host, "kind": _MARK}
            async with session.post(f"{base}/{host}", json=body):
                pass
        for host in present - wanted:
            async with session.delete(f"{base}/{host}"):
                pass
