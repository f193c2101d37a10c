"""Which handler answers where, below the provisioner's prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.web import RequestHandler

from . import ending
from .handlers import (
    HealthHandler,
    LiveHandler,
    MetricsHandler,
    NudgeHandler,
    OpenApiHandler,
    PlanHandler,
    ProvisionHandler,
    RootHandler,
    TeamHandler,
    TeamsHandler,
    Work,
)


def make_routes(work: Work) -> list[tuple[Any, ...]]:
    """Handlers below the service's prefix."""
    more: Mapping[str, Any] = {"work": work}
    table: list[tuple[str, type[RequestHandler]]] = [
        ("", RootHandler),
        ("teams", TeamsHandler),
        ("teams/([^/]+)", TeamHandler),
        ("teams/([^/]+)/provision", ProvisionHandler),
        ("plan", PlanHandler),
        ("nudge", NudgeHandler),
        ("health", HealthHandler),
        ("health/live", LiveHandler),
        ("metrics", MetricsHandler),
        ("openapi.json", OpenApiHandler),
        *ending.TABLE,
    ]
    routes: list[tuple[Any, ...]] = [(work.prefix + path, h, more) for path, h in table]
    routes.append((f"{work.prefix}oauth_callback", HubOAuthCallbackHandler))
    return routes
