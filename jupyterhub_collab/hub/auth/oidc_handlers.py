"""The browser's way to an OpenID Connect provider and back; and the provider's word of log-out.

The browser is sent there with state, nonce and PKCE, and what it brings back is taken once, from
the browser that began. A refusal is told in words of ours: what a provider's address says
(`error_description`) may be anybody's. Whoever is refused can try again.

Log-out by the provider (back-channel) needs no browser: a signed token says whose sessions end.

Notes
-----
RFC 6749 (4.1.2.1), RFC 7636 (PKCE), RFC 9207 (issuer in the answer), OpenID Connect RP-Initiated
Logout 1.0, Back-Channel Logout 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from html import escape
from typing import TYPE_CHECKING, Any, Final, NoReturn

from jupyterhub.handlers import BaseHandler
from tornado import web

from ...errors import CollabError, PermanentError, RetryableError
from ...identity.oidc import LogoutClaims
from ...identity.oidc_client import GrantRefusedError, describe
from ...identity.signed_token import USED_ALREADY, TokenRefusedError, is_same
from ...models import Identity
from ...policy.group_claim import GroupClaimError, GroupOverageError
from .events import Outcome
from .oidc_session import COOKIE_PREFIX, FLOW_S, FLOWS_MAX, Flow, cookie_name

if TYPE_CHECKING:
    from .oidc import OIDCTeamAuthenticator

ANSWER: Final = "collab_oidc"
BODY_MAX: Final = 64 * 1024
_LIFETIME: Final = timedelta(seconds=FLOW_S)
_TEXT_MAX: Final = 8192  # characters of a code or state
LOST: Final = (
    "This sign-in was begun in another browser or too long ago, or was finished already. Try again."
)
# What OAuth and OpenID Connect call what a provider answers in the place of a code.
_WORDS: Final = {
    "access_denied": (403, "{who} did not let you in here, or you did not agree to it."),
    "login_required": (403, "{who} wants you to sign in there first."),
    "interaction_required": (403, "{who} wants to ask you something first."),
    "consent_required": (403, "{who} wants you to agree to what this hub asks for."),
    "account_selection_required": (403, "{who} wants to know which of your accounts you mean."),
    "temporarily_unavailable": (503, "{who} cannot sign anybody in at the moment."),
    "server_error": (503, "{who} had a problem of its own."),
}
_MISCONFIGURED: Final = frozenset(
    {
        "invalid_request",
        "invalid_scope",
        "invalid_request_uri",
        "invalid_request_object",
        "request_not_supported",
        "request_uri_not_supported",
        "registration_not_supported",
        "unauthorized_client",
        "unsupported_response_type",
    }
)
TELL_ADMINS: Final = " Tell the administrators of this hub when it happened."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What a browser brought back from the provider, of a login that it began here."""

    source: OIDCTeamAuthenticator
    flow: Flow
    code: str = field(repr=False)
    address: str


class _SourceHandler(BaseHandler):  # type: ignore[misc]
    """A handler of one source; one of several on a hub has its own."""

    source: OIDCTeamAuthenticator

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Cache-Control", "no-store")
        self.set_header("Referrer-Policy", "no-referrer")  # the address holds a code

    def log_exception(self, kind: Any, value: Any, trace: Any) -> None:
        """As tornado does, but without the address's query: it holds a code and a state."""
        where = f"{self.request.method} {self.request.path}"
        if isinstance(value, web.HTTPError):
            log.warning("%d %s: %s", value.status_code, where, value.log_message)
        else:
            log.error("Uncaught exception: %s", where, exc_info=(kind, value, trace))

    def offer_to_try_again(self) -> None:
        """Put a way back under whatever error page is shown."""
        again = escape(self.source.login_url(self.hub.base_url), quote=True)
        self.extra_error_html = (
            f'<a href="{again}">Try again</a>, or <a href="{again}?switch=1">sign in as somebody'
            " else</a>."
        )


class OIDCLoginHandler(_SourceHandler):
    """Sends the browser to the provider."""

    async def get(self) -> None:
        """With ``next``, a path of this hub; with ``switch``, asking who it is once more."""
        self.offer_to_try_again()
        try:
            metadata = await self.source.provider.discover()
        except (RetryableError, PermanentError) as e:
            raise to_page(self.source, e, address=self.request.remote_ip) from e
        flow = Flow(
            issuer=self.source.issuer,
            redirect_uri=self.source.get_callback_url(self),
            next_url=self._validate_next_url(self.get_argument("next", "")),
        )
        self._keep(flow)
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        prompt = "login" if self.get_argument("switch", "") else ""
        url = self.source.authorization_url(metadata, flow, challenge=challenge, prompt=prompt)
        self.redirect(url)

    def _keep(self, flow: Flow) -> None:
        begun = [name for name in self.request.cookies if name.startswith(COOKIE_PREFIX)]
        for name in begun[: max(0, len(begun) - FLOWS_MAX + 1)]:
            self.clear_cookie(name, path=self.hub.base_url)
        self._set_cookie(
            cookie_name(flow.state),
            flow.to_text(),
            expires_days=FLOW_S / 86400,
            path=self.hub.base_url,
            samesite="Lax",  # comes along when the provider sends the browser back, and only then
        )


class OIDCCallbackHandler(_SourceHandler):
    """Takes what the provider sent back with the browser."""

    async def get(self) -> None:
        """Query: ``state``, and ``code`` or ``error``."""
        self.offer_to_try_again()
        flow = self._take()
        await self._check_sender()
        self._check_error()
        code = self.get_argument("code", "")
        if not 0 < len(code) <= _TEXT_MAX:
            self._refuse(400, "The sign-in came back without its result. Try again.")
        await self._spend(flow)
        answer = Answer(self.source, flow, code, self.request.remote_ip)
        user = await self.login_user({ANSWER: answer})
        if user is None:
            raise web.HTTPError(403, self.source.custom_403_message)
        self.redirect(self._validate_next_url(flow.next_url) or self.get_next_url(user))

    def append_query_parameters(self, url: str, exclude: Any = None) -> str:
        """Nothing: the query is the provider's."""
        return url

    def _take(self) -> Flow:
        """The login that this browser began, which is over with this."""
        state = self.get_argument("state", "")
        if not 0 < len(state) <= _TEXT_MAX:
            self._refuse(400, LOST)
        name = cookie_name(state)
        kept = self.get_secure_cookie(name, max_age_days=FLOW_S / 86400)
        self.clear_cookie(name, path=self.hub.base_url)
        flow = Flow.from_text(kept) if kept else None
        if flow is None or not is_same(flow.state, state) or flow.issuer != self.source.issuer:
            self._refuse(400, LOST)
        return flow

    async def _check_sender(self) -> None:
        """Another provider's answer must not be taken for this one's (mix-up)."""
        said = self.get_arguments("iss")
        try:
            must_say = (await self.source.provider.discover()).has_response_issuer
        except (RetryableError, PermanentError) as e:
            raise to_page(self.source, e, address=self.request.remote_ip) from e
        if (said or must_say) and said != [self.source.issuer]:
            log.warning("An answer does not say that %s sent it", self.source.issuer)
            self._refuse(400, LOST)

    def _check_error(self) -> None:
        code = self.get_argument("error", "")
        if not code:
            return
        who = self.source.login_service
        told = {"error_description": self.get_argument("error_description", "")}
        is_known = code in _WORDS or code in _MISCONFIGURED
        log.warning(
            "%s sent an error back: %s: %s",
            self.source.issuer,
            code if is_known else "of no known kind",
            describe(told),
        )
        status, words = _WORDS.get(
            code, (503, "{who} and this hub do not understand each other." + TELL_ADMINS)
        )
        outcome = Outcome.REFUSED if status == 403 else Outcome.UNAVAILABLE
        outcome = outcome if code in _WORDS else Outcome.MISCONFIGURED
        self._refuse(status, words.format(who=_capital(who)), outcome=outcome)

    async def _spend(self, flow: Flow) -> None:
        """One answer a login, also for whoever kept the cookie."""
        try:
            expires = self.source.admission.now() + _LIFETIME
            is_first = await self.source.spent.spend(
                self.source.issuer, f"login {flow.state}", expires
            )
        except CollabError as e:
            raise to_page(self.source, e, address=self.request.remote_ip) from e
        if not is_first:
            self._refuse(400, USED_ALREADY)

    def _refuse(self, status: int, text: str, *, outcome: Outcome = Outcome.REFUSED) -> NoReturn:
        raise _page(self.source, status, text, outcome, self.request.remote_ip)


class BackchannelLogoutHandler(_SourceHandler):
    """The provider says that somebody's sessions are over."""

    def check_xsrf_cookie(self) -> None:
        """No browser of ours sends this; the token's signature stands in the cookie's place."""

    async def post(self) -> None:
        """Form: ``logout_token``. 200 also if nobody was logged in; 400 if it is not right."""
        tokens = self.get_body_arguments("logout_token", strip=False)
        if len(self.request.body) > BODY_MAX or len(tokens) != 1:
            self._answer(400, "send one logout_token")
            return
        source = self.source
        try:
            claims = await source.provider.verify_logout_token(tokens[0])
            names = await self._names_of(claims)
            spent_as = f"logout {claims.token_id}"
            if not await source.spent.spend(claims.issuer, spent_as, claims.expires):
                self._answer(400, "this logout_token was used already")
                return
        except TokenRefusedError as e:
            log.warning("A log-out token of %s was refused: %s", source.issuer, e.reason)
            self._answer(400, e.reason)
            return
        except (RetryableError, PermanentError) as e:
            log.error("A log-out of %s could not be done: %s", source.issuer, e)
            self._answer(503, "try again later", code="temporarily_unavailable")
            return
        for name in names:
            await self._end(name)
        self._answer(200)

    async def _names_of(self, claims: LogoutClaims) -> tuple[str, ...]:
        """Hub users whose sessions these are."""
        source = self.source
        if claims.session_id is not None:
            name = await source.sessions.name_of(claims.issuer, claims.session_id)
            if name is not None:
                return (name,)
        if claims.subject is None:
            return ()
        identity = Identity(claims.issuer, claims.subject)
        name = await source.admission.manager.identities.name_of(identity)
        if name is None:
            return ()
        # A session that has a name of its own and is over already: the person logged out here, and
        # their other sessions go on.
        is_over = claims.session_id is not None and await source.sessions.has_any(
            claims.issuer, name
        )
        return () if is_over else (name,)

    async def _end(self, name: str) -> None:
        source = self.source
        user = source.admission.app.users.get(name)
        if user is not None:
            because = f"{source.issuer} says that their sessions are over"
            source.admission.ender.log_out(user, servers_too=True, because=because)
            source.admission.events.access("logged-out", username=name, because=because)
            await user.save_auth_state(None)
        try:
            await source.sessions.end_all(source.issuer, name)
        except RetryableError as e:
            log.warning("Sessions that are over are still written down: %s", e)

    def _answer(self, status: int, text: str = "", *, code: str = "invalid_request") -> None:
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        told = {"error": code, "error_description": text} if status != 200 else {}
        self.finish(json.dumps(told))


def handlers_of(source: OIDCTeamAuthenticator) -> list[tuple[str, type[BaseHandler]]]:
    """Handlers of one source; each knows its own."""

    def own(kind: type[_SourceHandler]) -> type[BaseHandler]:
        return type(kind.__name__, (kind,), {"source": source})

    return [
        (source.path_of("login"), own(OIDCLoginHandler)),
        (source.path_of("callback"), own(OIDCCallbackHandler)),
        (source.path_of("backchannel_logout"), own(BackchannelLogoutHandler)),
    ]


def to_page(source: OIDCTeamAuthenticator, error: Exception, *, address: str) -> web.HTTPError:
    """What a person reads when a login failed; the admin's log has the rest."""
    who = _capital(source.login_service)
    if isinstance(error, TokenRefusedError):
        log.warning("A sign-in through %s was refused: %s", source.issuer, error.reason)
        return _page(source, 403, str(error), Outcome.REFUSED, address)
    log.error("A sign-in through %s failed: %s: %s", source.issuer, type(error).__name__, error)
    if isinstance(error, GrantRefusedError):
        return _page(source, 403, LOST, Outcome.REFUSED, address)
    if isinstance(error, RetryableError):
        text = f"{who} does not answer at the moment. Try again in a minute."
        return _page(source, 503, text, Outcome.UNAVAILABLE, address)
    if isinstance(error, GroupOverageError):
        text = f"You are in more groups than {source.login_service} tells this hub." + TELL_ADMINS
        return _page(source, 403, text, Outcome.MISCONFIGURED, address)
    if isinstance(error, GroupClaimError):
        text = f"{who} tells this hub your groups in a way that it cannot read." + TELL_ADMINS
        return _page(source, 403, text, Outcome.MISCONFIGURED, address)
    text = f"{who} and this hub do not understand each other." + TELL_ADMINS
    return _page(source, 503, text, Outcome.MISCONFIGURED, address)


def _page(
    source: OIDCTeamAuthenticator, status: int, text: str, outcome: Outcome, address: str
) -> web.HTTPError:
    source.tell(outcome, address=address, because=text)
    page = web.HTTPError(status, "A sign-in was not done")
    page.jupyterhub_message = text  # type: ignore[attr-defined]  # what JupyterHub shows
    return page


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
