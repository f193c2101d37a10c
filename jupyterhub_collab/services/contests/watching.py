"""How the contests service is: health, metrics, what its API is."""

from __future__ import annotations

from typing import Final

from tornado.web import HTTPError

from ...policy.contest_access import Right, may
from .handlers import Handler, Route
from .openapi import make_openapi

_SCOPE: Final = "read:metrics"


class HealthHandler(Handler):
    """Whether it works."""

    is_public = True

    async def get(self) -> None:
        await self.work.store.next_due()
        self.send({"status": "ok"})


class LiveHandler(Handler):
    """Whether this process runs at all."""

    is_public = True

    async def get(self) -> None:
        self.send({"status": "ok"})


class MetricsHandler(Handler):
    """Prometheus."""

    async def get(self) -> None:
        has_scope = _SCOPE in (self.hub_model or {}).get("scopes", ())
        if not (has_scope or may(self.asker, Right.MEASURE)):
            raise HTTPError(403, f"This needs the hub scope {_SCOPE}, or an admin.")
        await self.work.metrics.look(self.work.store, self.work.now)
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.work.metrics.to_text())


class OpenApiHandler(Handler):
    """What this API is."""

    is_public = True

    async def get(self) -> None:
        self.send(make_openapi(self.work.prefix))


ROUTES: Final[list[Route]] = [
    ("health", HealthHandler),
    ("live", LiveHandler),
    ("metrics", MetricsHandler),
    ("openapi.json", OpenApiHandler),
]
