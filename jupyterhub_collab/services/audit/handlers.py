"""What all handlers of the audit service share: where they are.

A module of handlers ends with a list `ROUTES`: path below the service's prefix (a regular
expression) and class. `make_routes` puts the lists together. Two classes may share a path where
each says its `methods`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Final

from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import RequestHandler

from ..handlers import ServiceHandler
from .work import Work

Route = tuple[str, type[RequestHandler]]


class Handler(ServiceHandler):
    """Base of this service's.

    Attributes
    ----------
    methods
        Requests that this class takes on its path; none named: all.
    """

    methods: ClassVar[tuple[str, ...]] = ()
    work: Work


class _PathAndMethod(PathMatches):
    """A path, for some methods only."""

    def __init__(self, path: str, methods: tuple[str, ...]) -> None:
        super().__init__(path)
        self._methods = methods

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return super().match(request) if request.method in self._methods else None


def make_routes(work: Work, lists: Iterable[Iterable[Route]]) -> list[Any]:
    """Handlers below the service's prefix, of these lists."""
    more: Final = {"work": work}
    routes: list[Any] = []
    for path, handler in (route for some in lists for route in some):
        methods: tuple[str, ...] = getattr(handler, "methods", ())
        whole = work.prefix + path
        if methods:
            routes.append(Rule(_PathAndMethod(whole + "$", methods), handler, more))
        else:
            routes.append((whole, handler, more))
    routes.append((f"{work.prefix}oauth_callback", HubOAuthCallbackHandler))
    return routes
