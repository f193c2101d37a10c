"""Handlers that say for how long the loop of a hub stood still. Loaded by the hub's configuration.

The clock of a stall is a task that wants to run every millisecond; the longest time between two of
its runs is the longest time for which the hub served nobody.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from jupyterhub.handlers.base import BaseHandler

_EVERY_S = 0.001


class StallHandler(BaseHandler):  # type: ignore[misc]
    """GET: the longest stall since the last GET, in seconds."""

    longest_s = 0.0
    task: asyncio.Task[None] | None = None

    async def get(self) -> None:
        kind = type(self)
        if kind.task is None:
            kind.task = asyncio.ensure_future(self._watch())
        found, kind.longest_s = kind.longest_s, 0.0
        self.finish(json.dumps({"stall_s": found}))

    @classmethod
    async def _watch(cls) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(_EVERY_S)
            now = time.perf_counter()
            cls.longest_s = max(cls.longest_s, now - last - _EVERY_S)
            last = now


HANDLERS: list[tuple[str, Any]] = [(r"/bench/stall", StallHandler)]
