"""A log-in with a contest's portal, at the hub: where it starts, where it comes back, revocations.

A log-in starts here, also one that somebody began at the portal: the hub makes state and nonce and
keeps them in a cookie of this browser. What comes back counts only with that cookie, so nobody can
be made to log in as somebody else, and a token that was overheard is worth nothing in another
browser. Each start has a cookie of its own: two tabs do not disturb one another.

The portal has the browser post the token, from another site. JupyterHub's own check of such posts
(XSRF) would refuse that; state takes its place, on this handler alone. A browser sends a cookie
with such a post only if it is `SameSite=None`, which needs https. Over http (a demo) the page is
posted once more from here, by a click.

Tokens and state never stand in an address, and nothing here logs one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from jupyterhub.apihandlers.base import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.escape import xhtml_escape
from tornado.httputil import url_concat

from ...errors import PermanentError, RetryableError
from ...identity.signed_token import TokenRefusedError, is_clean_text, is_same
from ...names import is_team_id
from ..token_body import read_token

_NEXT_MAX: Final = 512  # characters: a cookie is small, and so is a proxy's room for all of them
_PENDING_MAX: Final = 5  # log-ins of one browser at once
_COOKIE: Final = "collab-portal-"
_IN_ADDRESS: Final = frozenset({"token", "id_token", "jwt", "state"})
BEGAN_ELSEWHERE: Final = (
    "This log-in was begun in another browser, too long ago, or is over already. Log in again."
)
IN_ADDRESS: Final = (
    "A token stood in the address, where logs and histories keep it. The portal must send it in the"
    " body of a POST. Tell the people of the portal."
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PortalLogin:
    """What came back of a log-in that this hub began in this browser."""

    token: str = field(repr=False)
    nonce: str = field(repr=False)
    contest: str


@dataclass(frozen=True)
class _Pending:
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    contest: str
    target: str
    at: int


class _PortalHandler(BaseHandler):  # type: ignore[misc]
    """What start and callback share: the cookies of log-ins that were begun."""

    def initialize(self) -> None:
        """Keep what stands in the address out of the log: a token by mistake, whom to log in."""
        self.request.uri = self.request.path

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "same-origin")

    @property
    def _is_https(self) -> bool:
        return bool(urlsplit(self.authenticator.public_url).scheme == "https")

    @property
    def _has_host_prefix(self) -> bool:
        return self._is_https and bool(self.settings.get("cookie_host_prefix_enabled"))

    def _stem(self) -> str:
        return f"{'__Host-' if self._has_host_prefix else ''}{_COOKIE}{self.authenticator.slug}-"

    def _name_of(self, state: str) -> str:
        return self._stem() + hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()[:16]

    def _path(self) -> str:
        if self._has_host_prefix:
            return "/"
        path: str = url_path_join(self.hub.base_url, "portal", self.authenticator.slug)
        return path + "/"

    def _remember(self, pending: _Pending) -> None:
        value = [pending.state, pending.nonce, pending.contest, pending.target, pending.at]
        self._set_cookie(
            self._name_of(pending.state),
            json.dumps(value),
            encrypted=True,  # JupyterHub's word for signed
            expires_days=None,
            max_age=int(self.authenticator.login_timeout),
            path=self._path(),
            secure=self._is_https,
            httponly=True,
            samesite="None" if self._is_https else "Lax",
        )

    def _read(self, cookie: str) -> _Pending | None:
        """A log-in that this hub began in this browser, if the cookie is one."""
        days = self.authenticator.login_timeout / 86400
        value = self.get_secure_cookie(cookie, max_age_days=days)
        if value is None:
            return None
        try:
            return _Pending(*json.loads(value))
        except (ValueError, TypeError):
            return None  # of another version of this code

    def _recall(self, state: str) -> _Pending | None:
        pending = self._read(self._name_of(state))
        return pending if pending is not None and is_same(pending.state, state) else None

    def _forget(self, cookie: str) -> None:
        self.clear_cookie(cookie, path=self._path())

    def _forget_oldest(self) -> None:
        """Leave room for one more."""
        mine = {name: self._read(name) for name in self.cookies if name.startswith(self._stem())}
        dead = [name for name, pending in mine.items() if pending is None]
        alive = sorted((pending.at, name) for name, pending in mine.items() if pending is not None)
        surplus = max(0, len(alive) - (_PENDING_MAX - 1))
        for name in (*dead, *(name for _, name in alive[:surplus])):
            self._forget(name)


class StartHandler(_PortalHandler):
    """Begins a log-in, whoever sent the browser here: the hub's login page or the portal."""

    async def get(self) -> None:
        """Query: ``contest`` (may be left out where there is one), ``iss``, ``login_hint``,
        ``next``. Whoever comes from the portal says `iss`."""
        portal = self.authenticator
        said = self.get_query_argument("iss", None)
        if said is not None and said != portal.portal_issuer:
            raise web.HTTPError(400, "That portal is not the one that logs people in here.")
        contest = self.get_query_argument("contest", "")
        target = self._validate_next_url(self.get_query_argument("next", ""))
        hint = self.get_query_argument("login_hint", "")
        if not contest and len(portal.contests) > 1:
            await self._ask_for_contest(target)
            return
        contest = contest or portal.contests[0]
        if contest not in portal.contests:
            what = f" {contest}" if is_team_id(contest) else ""
            raise web.HTTPError(404, f"{portal.label} has no contest{what} on this hub.")
        if hint and not is_clean_text(hint):
            raise web.HTTPError(
                400, "login_hint is not a printable text of at most 255 characters."
            )
        pending = _Pending(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            contest=contest,
            target=target if len(target) <= _NEXT_MAX else "",
            at=int(time.time()),
        )
        self._forget_oldest()
        self._remember(pending)
        more = {"login_hint": hint} if hint else {}
        self.redirect(
            url_concat(
                portal.portal_login_url,
                {
                    "hub": portal.public_url,
                    "contest": contest,
                    "state": pending.state,
                    "nonce": pending.nonce,
                    "return_to": portal.callback_url,
                    **more,
                },
            )
        )

    async def _ask_for_contest(self, target: str) -> None:
        more = {"next": target} if target else {}
        listed = [
            {"id": contest, "url": url_concat(self.request.path, {"contest": contest, **more})}
            for contest in self.authenticator.contests
        ]
        self.finish(
            await self.render_template(
                "portal_contests.html", portal=self.authenticator.label, contests=listed
            )
        )


class CallbackHandler(_PortalHandler):
    """Takes the token that the portal has the browser post."""

    def prepare(self) -> Any:
        """Shows a way out of every refusal."""
        url = xhtml_escape(self.settings["login_url"])
        self.extra_error_html = f'<a class="btn btn-jupyter" href="{url}">Log in again</a>'
        return super().prepare()

    def check_xsrf_cookie(self) -> None:
        """State does this work: it is in a cookie of this browser, and the portal sends it back."""

    async def get(self) -> None:
        """Never: what is in an address is kept by histories and logs."""
        self._refuse_in_address()
        raise web.HTTPError(405, "Log-ins come back here by POST. Start from the login page.")

    async def post(self) -> None:
        """A form with ``token`` and ``state``."""
        self._refuse_in_address()
        token, state = self._field("token"), self._field("state")
        pending = self._recall(state)
        if pending is None:
            await self._post_again_or_refuse(token, state)
            return
        cookie = self._name_of(state)
        try:
            login = PortalLogin(token=token, nonce=pending.nonce, contest=pending.contest)
            user = await self.login_user({"login": login})
        except web.HTTPError as e:
            if e.status_code < 500:  # else: the same may go well in a minute
                self._forget(cookie)
            raise
        self._forget(cookie)
        if user is None:
            raise web.HTTPError(403, "This account may not log in here.")
        self._jupyterhub_user = user
        # Checked again: settings may be others than when it was written.
        self.redirect(self._validate_next_url(pending.target) or self.get_next_url(user))

    async def _post_again_or_refuse(self, token: str, state: str) -> None:
        if self.current_user is not None:
            self.redirect(self.get_next_url(self.current_user))  # the back button
            return
        if not self._is_https and not self.get_body_argument("again", ""):
            page = await self.render_template(
                "portal_continue.html",
                portal=self.authenticator.label,
                action=self.request.path,
                token=token,
                state=state,
            )
            self.finish(page)
            return
        self.authenticator.tell_refused(self.request.remote_ip, "state: not of this browser")
        raise web.HTTPError(403, BEGAN_ELSEWHERE)

    def _refuse_in_address(self) -> None:
        if _IN_ADDRESS & set(self.request.query_arguments):
            log.error("%s puts tokens into addresses; it must not", self.authenticator.issuer)
            raise web.HTTPError(405 if self.request.method == "GET" else 400, IN_ADDRESS)

    def _field(self, name: str) -> str:
        found = self.get_body_arguments(name)
        if len(found) != 1 or not found[0]:
            raise web.HTTPError(400, f"The portal must post a form with one {name}.")
        return str(found[0])


class RevocationHandler(APIHandler):  # type: ignore[misc]
    """Takes the portal's word that somebody may no longer be let in.

    No token of the hub's is asked for: the portal's signature is what counts.
    """

    def initialize(self) -> None:
        """Keep what stands in the address out of the log."""
        self.request.uri = self.request.path

    def check_xsrf_cookie(self) -> None:
        """No cookie counts here."""

    async def post(self) -> None:
        """A form or JSON with ``token``. Answers how many were named, and how many lost access."""
        if "token" in self.request.query_arguments:
            raise web.HTTPError(400, IN_ADDRESS)
        portal = self.authenticator
        try:
            # Without the newline that whoever sent it printed.
            token = read_token(self, what="the signed revocation").strip()
            named, ended = await portal.revoke(token)
        except TokenRefusedError as e:
            log.warning("A revocation of %s was refused: %s", portal.issuer, e.reason)
            raise web.HTTPError(403, f"The revocation is refused: {e.reason}.") from None
        except RetryableError as e:
            log.error("A revocation of %s could not be done: %s", portal.issuer, e)
            raise web.HTTPError(503, "Not all is done. Sign a new token and send it again.") from e
        except PermanentError as e:
            log.error("A revocation of %s could not be looked at: %s", portal.issuer, e)
            raise web.HTTPError(
                500, "The hub cannot read this portal's keys. Tell its admin."
            ) from e
        self.set_header("Cache-Control", "no-store")
        self.finish(json.dumps({"named": named, "ended": ended}))
