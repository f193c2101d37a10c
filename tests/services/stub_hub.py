"""A stand-in for the hub where the hub's own speed is no part of the question: groups in pages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from jupyterhub_collab.hubapi.client import PAGE_SIZE
from tests.real_hub import find_free_port
from tests.services.running import ACCESS


class StubHub:
    """Answers for the hub's groups, in pages as JupyterHub does, and for who asks."""

    def __init__(self, *more_scopes: str) -> None:
        self.scopes = [ACCESS, *more_scopes]  # of whoever comes
        self.port = find_free_port()
        self.lists: list[int] = []  # of each list of all groups so far: how many pages it took
        self.asked_at = 0.0  # when the groups as they are now were first asked for
        self._groups: list[dict[str, Any]] = []
        self._encoded: dict[tuple[int, int], bytes] = {}

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hub/api"

    @property
    def pages(self) -> int:
        """How many were asked for so far."""
        return sum(self.lists)

    def publish(self, properties: dict[str, dict[str, Any]]) -> None:
        """From now on these are the groups."""
        self._groups = [
            {"kind": "group", "name": name, "properties": what, "users": [], "roles": []}
            for name, what in properties.items()
        ]
        self._encoded.clear()
        self.asked_at = 0.0

    async def _list(self, request: web.Request) -> web.Response:
        self.asked_at = self.asked_at or time.time()
        offset, limit = int(request.query["offset"]), int(request.query["limit"])
        if limit == PAGE_SIZE:  # else some groups are looked at
            if offset == 0:
                self.lists.append(0)
            self.lists[-1] += 1
        key = (offset, limit)
        if key not in self._encoded:
            after = offset + limit
            following = {"offset": after, "limit": limit} if after < len(self._groups) else None
            pagination = {
                "offset": offset,
                "limit": limit,
                "total": len(self._groups),
                "next": following,
            }
            page = {"items": self._groups[offset:after], "_pagination": pagination}
            self._encoded[key] = msgspec.json.encode(page)
        return web.Response(body=self._encoded[key], content_type="application/json")

    async def _who(self, _request: web.Request) -> web.Response:
        return web.json_response({"kind": "service", "name": "bench", "scopes": self.scopes})

    def add_routes(self, app: web.Application) -> None:
        """What it answers."""
        app.router.add_get("/hub/api/groups", self._list)
        app.router.add_get("/hub/api/user", self._who)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[StubHub]:
        app = web.Application()
        self.add_routes(app)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            await runner.cleanup()
