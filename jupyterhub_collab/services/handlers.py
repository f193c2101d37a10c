"""What all handlers of all services share: who asks, and errors as JSON.

Programs come with a token of the hub, people through the hub's login. Here is the only place that
decides whether somebody may come in at all; what they may do is each service's.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from jupyterhub.services.auth import HubOAuthenticated, UserNotAllowed
from tornado.web import HTTPError, RequestHandler


class ServiceHandler(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """Base.

    Attributes
    ----------
    is_public
        Nobody is asked who they are.
    content_policy
        What a page may load, as a Content-Security-Policy has it.
    hub_model
        What the hub says of who asks: kind, name, admin, groups, scopes. None where nobody is
        asked, and after somebody was sent to log in.
    """

    is_public = False
    content_policy: ClassVar[str] = "default-src 'none'"
    work: Any
    hub_model: dict[str, Any] | None = None

    def initialize(self, work: Any) -> None:
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
        if self.request.method not in ("GET", "HEAD", "OPTIONS"):
            self.check_xsrf_cookie()
        self.hub_model = model

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
            f"{self.content_policy}; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
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


class NotFoundHandler(ServiceHandler):
    """Everything else."""

    is_public = True

    async def prepare(self) -> None:
        self.refuse(404, "There is nothing here; openapi.json says what there is.")
