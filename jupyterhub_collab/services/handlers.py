"""What all handlers of all services share: who asks, what they may send, and errors as JSON.

Programs come with a token of the hub, people through the hub's login. Here is the only place that
decides whether somebody may come in at all; what they may do is each service's.

A body is read only once `prepare` has let its sender in: whoever is nobody is answered after the
headers, and the connection ends with that, whatever was to come on it.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

from jupyterhub.services.auth import HubOAuthenticated, UserNotAllowed
from tornado.httputil import HTTPInputError, parse_body_arguments
from tornado.web import HTTPError, RequestHandler, stream_request_body

BODY_BYTES_MAX: Final = 1 << 20  # of everybody who was let in; a handler may take more from some
_UNCOUNTED: Final = 1 << 62  # tornado's own limit closes without a word: this base counts
_WITH_BODY: Final = ("post", "put", "patch", "delete")


def _after_body(verb: Callable[..., Any]) -> Callable[..., Awaitable[None]]:
    """A handler's method that begins once the body is there: tornado has no other hook for that."""

    @functools.wraps(verb)
    async def work(self: ServiceHandler, *args: str, **named: str) -> None:
        self.take_body()
        result = verb(self, *args, **named)
        if inspect.isawaitable(result):
            await result

    return work


@stream_request_body
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
    keeps_body
        What comes is kept for the method, not only counted. Not where nobody is asked who they
        are, unless `prepare` knows them and says so.
    body_bytes_max
        The most that is taken; `prepare` may say another number for some (`take_up_to`).
    """

    is_public = False
    content_policy: ClassVar[str] = "default-src 'none'"
    work: Any
    hub_model: dict[str, Any] | None = None
    keeps_body = False
    body_bytes_max = BODY_BYTES_MAX
    _body: bytearray | None = None
    _came = 0
    _is_body_here = False

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        for name in _WITH_BODY:
            if name in vars(cls):
                setattr(cls, name, _after_body(vars(cls)[name]))

    def initialize(self, work: Any) -> None:
        self.work = work
        self.keeps_body = not self.is_public and (self.request.method or "").lower() in _WITH_BODY
        connection: Any = self.request.connection
        connection.set_max_body_size(_UNCOUNTED)

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

    def take_up_to(self, bytes_max: int, *, within_s: float | None = None) -> None:
        """Another limit for this request: call it in `prepare`, for those who may.

        Parameters
        ----------
        within_s
            Seconds in which all of it must have come; None: as for all (`application.BODY_S`).
        """
        self.keeps_body, self.body_bytes_max = True, bytes_max
        if within_s is not None:
            connection: Any = self.request.connection
            connection.set_body_timeout(within_s)

    @property
    def announced_bytes(self) -> int:
        """How much is to come, as its sender says; 0: nobody says."""
        said = self.request.headers.get("Content-Length", "")
        return int(said) if said.isascii() and said.isdigit() and len(said) < 20 else 0

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        if self._finished:
            return None
        self._came += len(chunk)
        if max(self._came, self.announced_bytes) > self.body_bytes_max:
            self._body = None
            self.refuse_body()
        elif self.keeps_body:
            if self._body is None:
                self._body = bytearray()
            self._body += chunk
        return None

    def refuse_body(self) -> None:
        """Answer what is too large; the connection ends with that."""
        self.refuse(413, f"The body is larger than {self.body_bytes_max} bytes. Send less at once.")

    def take_body(self) -> None:
        """Have the body that came as tornado gives it elsewhere. Raises HTTPError."""
        if self._body is not None:
            self.request.body, self._body = bytes(self._body), None
            self._read_form()
        self._is_body_here = True
        if self.hub_model is not None:
            self.check_xsrf_cookie()

    def _read_form(self) -> None:
        request = self.request
        said = request.headers.get("Content-Type", "")
        try:
            parse_body_arguments(
                said, request.body, request.body_arguments, request.files, request.headers
            )
        except HTTPInputError as error:
            raise HTTPError(400, "The body is no form, as its Content-Type says.") from error
        for name, values in request.body_arguments.items():
            request.arguments.setdefault(name, []).extend(values)

    def check_xsrf_cookie(self) -> None:
        # The hub's part asks for it while it finds out who asks. A form's token is in its body,
        # which nobody reads before that is known: there it waits for `take_body`.
        waits = (self.request.method or "").lower() in _WITH_BODY and not self._is_body_here
        if hasattr(self, "_cached_hub_user") and not waits:
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
