"""How the audit service is: health and metrics."""

from __future__ import annotations

from typing import Final

from .handlers import Handler, Route


class LiveHandler(Handler):
    """Whether this process runs at all."""

    is_public = True

    async def get(self) -> None:
        self.send({"status": "ok"})


class MetricsHandler(Handler):
    """Prometheus."""

    async def get(self) -> None:
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.finish(self.work.metrics.to_text())


ROUTES: Final[list[Route]] = [
    ("health/live", LiveHandler),
    ("metrics", MetricsHandler),
]
