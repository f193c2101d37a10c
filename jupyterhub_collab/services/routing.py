"""Where a service's handlers are.

A module of handlers ends with a list `ROUTES`: path below the service's prefix (a regular
expression) and class. `make_routes` puts the lists together. Two classes may share a path where
each says its `methods`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jupyterhub.services.auth import HubOAuthCallbackHandler
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import RequestHandler

Route = tuple[str, type[RequestHandler]]


class _PathAndMethod(PathMatches):
    """A path, for some methods only."""

    def __init__(self, path: str, methods: tuple[str, ...]) -> None:
        super().__init__(path)
        self._methods = methods

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        return super().match(request) if request.method in self._methods else None


def make_routes(
    prefix: str, work: Any, lists: Iterable[Iterable[Route]], *, has_login: bool = True
) -> list[Any]:
    """Handlers below a service's prefix, of these lists.

    Parameters
    ----------
    has_login
        Whether browsers that were sent to the hub to log in come back here.
    """
    more = {"work": work}
    routes: list[Any] = []
    for path, handler in (route for some in lists for route in some):
        methods: tuple[str, ...] = getattr(handler, "methods", ())
        whole = prefix + path
        if methods:
            routes.append(Rule(_PathAndMethod(whole + "$", methods), handler, more))
        else:
            routes.append((whole, handler, more))
    if has_login:
        routes.append((f"{prefix}oauth_callback", HubOAuthCallbackHandler))
    return routes
