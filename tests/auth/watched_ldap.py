"""The LDAP authenticator, and how long the hub's loop stood still at most: ``GET test/heart``."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.base import APIHandler

from jupyterhub_collab.hub.auth.ldap import LDAPTeamAuthenticator

BEAT_S = 0.002


class HeartHandler(APIHandler):
    """The longest stall since somebody last asked, in seconds."""

    longest_s = 0.0

    async def get(self) -> None:
        await asyncio.sleep(2 * BEAT_S)  # a beat that is late is counted too
        self.finish(json.dumps({"longest_s": HeartHandler.longest_s}))
        HeartHandler.longest_s = 0.0

    @staticmethod
    async def beat() -> None:
        while True:
            before, queued = time.perf_counter(), queued_s()
            await asyncio.sleep(BEAT_S)
            late_s = time.perf_counter() - before - BEAT_S - (queued_s() - queued)
            HeartHandler.longest_s = max(HeartHandler.longest_s, late_s)


def queued_s() -> float:
    """Seconds for which this thread could have run, and other programs had the processors.

    Notes
    -----
    Linux, Documentation/scheduler/sched-stats.rst: the second number, in nanoseconds.
    """
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class WatchedLDAP(LDAPTeamAuthenticator):
    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        self._heart = asyncio.ensure_future(HeartHandler.beat())
        return [*super().get_handlers(app), (r"/api/test/heart", HeartHandler)]
