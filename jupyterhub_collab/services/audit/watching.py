"""How the audit service is: health, metrics, what its API is.

It must not: tell how much happens to whom it is not for. Metrics count events of all teams, so they
take an admin or the hub's own scope for metrics.
"""

from __future__ import annotations

from typing import Any, Final

from tornado.web import HTTPError

from .handlers import Handler, Route
from .openapi import make_openapi

_SCOPE: Final = "read:metrics"


class HealthHandler(Handler):
    """Whether it works, in words. 200 while it takes events, also if only unprotected ones."""

    is_public = True

    async def get(self) -> None:
        keeper, warnings = self.work.keeper, []
        if not keeper.anchoring.names:
            warnings.append("the log has no anchor outside: its end can be cut off unseen")
        failing = [status.name for status in keeper.status() if status.error is not None]
        if failing:
            warnings.append(f"anchors that do not take checkpoints: {', '.join(failing)}")
        if self.work.emitters.error is not None:
            warnings.append("the file of emitters is broken; the one before it is in force")
        refusing = keeper.refusing
        state: dict[str, Any] = {
            "status": "refusing" if refusing else "warning" if warnings else "ok",
            "refusing": refusing,
            "warnings": warnings,
        }
        self.send(state)


class LiveHandler(Handler):
    """Whether this process runs at all."""

    is_public = True

    async def get(self) -> None:
        self.send({"status": "ok"})


class MetricsHandler(Handler):
    """Prometheus."""

    async def get(self) -> None:
        model = self.hub_model or {}
        if not (model.get("admin") is True or _SCOPE in model.get("scopes", ())):
            raise HTTPError(403, f"This needs the hub scope {_SCOPE}, or an admin.")
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.work.metrics.to_text())


class OpenApiHandler(Handler):
    """What this API is."""

    is_public = True

    async def get(self) -> None:
        self.send(make_openapi(self.work.prefix))


ROUTES: Final[list[Route]] = [
    ("health", HealthHandler),
    ("health/live", LiveHandler),
    ("metrics", MetricsHandler),
    ("openapi.json", OpenApiHandler),
]
