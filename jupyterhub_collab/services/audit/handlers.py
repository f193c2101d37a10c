"""What all handlers of the audit service share: who asks, errors as JSON, where they are.

A module of handlers ends with a list `ROUTES`: path below the service's prefix (a regular
expression) and class. `make_routes` puts the lists together. Two classes may share a path where
each says its `methods`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from jupyterhub.services.auth import (
    HubOAuthCallbackHandler,
    HubOAuthenticated,
    UserNotAllowed,
)
from tornado.httputil import HTTPServerRequest
from tornado.routing import PathMatches, Rule
from tornado.web import HTTPError, RequestHandler

from .work import Work

Route = tuple[str, type[RequestHandler]]


class Handler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """Base: who asks, and errors as JSON.

    Attributes
    ----------
    is_public
        Nobody is asked who they are.
    methods
        Requests that this class takes on its path; none named: all.
    hub_model
        What the hub says of who asks: kind, name, admin, groups, scopes; None where all may.
    """

    is_public = False
    methods: ClassVar[tuple[str, ...]] = ()
    work: Work
    hub_model: dict[str, Any] | None = None

    def initialize(self, work: Work) -> None:
        self.work = work

    async def prepare(self) -> None:
        if self.is_public:
            return
        model = await self.hub_auth.get_user(self, sync=False)
        if model is None:
            self._hub_auth_user_cache = None
            if self.request.method == "GET" and self.wants_page():
                self.redirect(self.get_login_url())
                return
            raise HTTPError(401, "Send a token of the hub: 'Authorization: token ...'.")
        try:
            self._hub_auth_user_cache = self.check_hub_user(model)
        except UserNotAllowed as error:
            self._hub_auth_user_cache = None
            scope = " or ".join(sorted(self.hub_scopes or ()))
            raise HTTPError(403, f"This needs the hub scope {scope}.") from error
        self.hub_model = model
        if self.request.method not in ("GET", "HEAD", "OPTIONS"):
            self.check_xsrf_cookie()

    def check_xsrf_cookie(self) -> None:
        # tornado calls this before `prepare` knows who asks; prepare calls it again
        if hasattr(self, "_cached_hub_user"):
            super().check_xsrf_cookie()

    def wants_page(self) -> bool:
        """Whether a browser asks."""
        return "text/html" in self.request.headers.get("Accept", "")

    def set_default_headers(self) -> None:
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Cache-Control", "no-store")
        self.set_header(
            "Content-Security-Policy",
            "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        )

    def send(self, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.finish(json.dumps(value))

    def refuse(self, status: int, message: str, **more: Any) -> None:
        """Answer with an error."""
        self.send({"status": status, "message": message, **more}, status)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        message = self._reason
        if isinstance(error, HTTPError) and error.log_message:
            message = error.log_message
        self.refuse(status_code, message)


class NotFoundHandler(Handler):
    """Everything else."""

    is_public = True

    async def prepare(self) -> None:
        self.refuse(404, "There is nothing here; openapi.json says what there is.")


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
