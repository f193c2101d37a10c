"""People come through an OpenID Connect provider: Keycloak, Entra, any that is certified.

OAuthenticator's settings keep their names (`client_id`, `scope`, `login_service`, ...). What it
does with a provider's answers is done anew: here nothing is believed that the provider has not
signed for this login. Addresses come by discovery, and state, nonce and PKCE are no settings.

The person's session at the provider is kept encrypted (`oidc_session`), and the provider is asked
by it again and again, also when nobody is at the door. One user is asked about once at a time: a
refresh token that is used twice ends the session at most providers.

No token may get into a log, an error or an address of this hub.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, cast
from urllib.parse import urlsplit

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper, EncryptionUnavailable
from jupyterhub.utils import url_path_join
from tornado.httputil import url_concat

from ...errors import PermanentError, RetryableError
from ...identity.documents import DocumentReader, SourceMisconfiguredError, SourceUnavailableError
from ...identity.oidc import OIDCProvider, ProviderMetadata, to_facts
from ...identity.oidc_client import (
    AccessRefusedError,
    ClientAuth,
    GrantRefusedError,
    OIDCClient,
    Tokens,
)
from ...identity.signed_token import TokenRefusedError
from ...models import Facts
from ...policy.group_claim import GroupOverageError, read_groups
from ...storage.memberships import Membership
from ...storage.provider_sessions import ProviderSessions
from ...storage.spent_tokens import SpentTokens
from .oidc_check import try_out
from .oidc_handlers import ANSWER, Answer, handlers_of, to_page
from .oidc_session import Flow, ProviderSession, expires_at
from .oidc_settings import OIDCSettings
from .source import Asked, CannotAskError, Findings, Overview, SessionOverError

_HINT_MAX: Final = 4000  # characters of an ID token in an address; browsers and proxies take 8,000
log = logging.getLogger(__name__)


class OIDCTeamAuthenticator(OIDCSettings):
    """One OpenID Connect provider as a source of people."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.refuse_settings()
        if self._is_child:
            self.parent.enable_auth_state = True  # it keeps the state of all its sources' people
        try:
            CryptKeeper.instance().check_available()
        except EncryptionUnavailable as e:
            raise SourceMisconfiguredError(
                "Sessions at the identity provider are kept encrypted, and there is no key. Make"
                " one with `openssl rand -hex 32`, keep it, and set it as JUPYTERHUB_CRYPT_KEY (or"
                " c.CryptKeeper.keys) wherever the hub runs"
            ) from e
        self._reader = DocumentReader(ca_file=self.ca_file or None)
        self.provider = OIDCProvider(
            self.issuer, self.client_id, self._reader, algorithms=self.algorithms
        )
        self.client = OIDCClient(
            self.provider,
            self._reader,
            secret=self.read_secret,
            auth=cast(ClientAuth, self.client_auth),
        )
        self.read_secret()
        self._stores: tuple[SpentTokens, ProviderSessions] | None = None
        self._asking: dict[str, asyncio.Future[Asked]] = {}
        self._warned = False

    @property
    def _is_child(self) -> bool:
        return self.root is not self

    # -- addresses ------------------------------------------------------------------------------

    def path_of(self, what: str) -> str:
        """Path below the hub of this source's `login`, `callback` or `backchannel_logout`."""
        scope = self.url_scope
        if not scope and self._is_child:
            scope = (urlsplit(self.issuer).hostname or "provider").replace(".", "-")
        if scope:
            return f"/oidc/{scope}/{what}"
        return {"login": "/oauth_login", "callback": "/oauth_callback"}.get(what, f"/oidc/{what}")

    def login_url(self, base_url: str) -> str:
        """Where the browser's login begins."""
        return str(url_path_join(base_url, self.path_of("login")))

    def get_callback_url(self, handler: Any = None) -> str:
        """Where the provider sends the browser back to; it must know this address."""
        if self.oauth_callback_url:
            return str(self.oauth_callback_url)
        return self._public(handler, self.path_of("callback"))

    def _public(self, handler: Any, path: str) -> str:
        """An address of this hub as browsers have it."""
        below = url_path_join(handler.hub.base_url, path)
        public = handler.settings.get("public_url")
        if public:
            return f"{public.scheme}://{public.netloc}{below}"
        return f"{handler.request.protocol}://{handler.request.host}{below}"

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """Ours in the place of OAuthenticator's. As one of several: none of the whole hub's."""
        inherited = super().get_handlers(app)
        theirs = (self.login_handler, self.callback_handler, self.logout_handler)
        others = [item for item in inherited if item[1] not in theirs]
        if not self._is_child:
            _ = self.spent  # its tables are made before anybody waits for them
        return [*handlers_of(self), *others]

    @property
    def spent(self) -> SpentTokens:
        """Logins and log-out tokens that were used."""
        return self._open_stores()[0]

    @property
    def sessions(self) -> ProviderSessions:
        """Whose the provider's sessions are."""
        return self._open_stores()[1]

    def _open_stores(self) -> tuple[SpentTokens, ProviderSessions]:
        if self._stores is None:
            engine, now = self.admission.engine, self.admission.now
            spent, sessions = SpentTokens(engine, now=now), ProviderSessions(engine, now=now)
            spent.create_tables()
            sessions.create_tables()
            self._stores = spent, sessions
        return self._stores

    def authorization_url(
        self, metadata: ProviderMetadata, flow: Flow, *, challenge: str, prompt: str = ""
    ) -> str:
        """Where the browser goes to log in."""
        ours = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": flow.redirect_uri,
            "scope": " ".join(self.scope),
            "state": flow.state,
            "nonce": flow.nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        if self.max_auth_age:
            ours["max_age"] = str(int(self.max_auth_age))
        if prompt:
            ours["prompt"] = prompt
        return str(
            url_concat(metadata.authorization_endpoint, {**self.extra_authorize_params, **ours})
        )

    async def check(self, username: str | None = None) -> Findings:
        """Try the provider out. Nobody can be looked up there."""
        try:
            return Findings(await try_out(self))
        finally:
            await self.provider.close()
            await self._reader.close()

    # -- at the door ----------------------------------------------------------------------------

    async def authenticate(
        self, handler: Any, data: Any = None, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Whoever came back from the provider with a code (`oidc_handlers`)."""
        answer = data.get(ANSWER) if isinstance(data, Mapping) else None
        if not isinstance(answer, Answer) or answer.source is not self:
            return None  # a form with a password: this source takes none
        try:
            tokens = await self.client.exchange(
                answer.code, verifier=answer.flow.verifier, redirect_uri=answer.flow.redirect_uri
            )
            if tokens.id_token is None:
                raise SourceMisconfiguredError("token endpoint: it gave no ID token")
            claims = await self.provider.verify_id_token(
                tokens.id_token,
                nonce=answer.flow.nonce,
                access_token=tokens.access_token,
                max_auth_age_s=self.max_auth_age or None,
            )
            facts = await self._facts_of(claims, tokens.access_token)
            session = self._begin_session(claims, tokens)
            model = await self.admit(
                facts, address=answer.address, auth_state=session.to_auth_state()
            )
            if session.session_id is not None:
                await self.sessions.begin(self.issuer, session.session_id, model["name"])
        except (
            TokenRefusedError,
            GrantRefusedError,
            AccessRefusedError,
            RetryableError,
            PermanentError,
        ) as e:
            raise to_page(self, e, address=answer.address) from e
        return model

    def _begin_session(self, claims: Mapping[str, Any], tokens: Tokens) -> ProviderSession:
        if tokens.refresh_token is None and not self._warned:
            self._warned = True
            log.warning(
                "%s gives no refresh token: people are logged out when their access token ends."
                " Have it give one; at many providers the scope offline_access does that",
                self.issuer,
            )
        return ProviderSession(
            issuer=self.issuer,
            claims=claims,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            id_token=tokens.id_token,
            expires_at=expires_at(tokens, at=self._now_s()),
            scope=tokens.scope,
        )

    async def _facts_of(
        self, claims: Mapping[str, Any], access_token: str, *, is_fresh: bool = True
    ) -> Facts:
        """What the provider says about a person now.

        Parameters
        ----------
        is_fresh
            Whether the claims are of this moment. If not, what they say of groups does not count.
        """
        at = self.admission.now()
        told = await self.client.userinfo(access_token) if self.use_userinfo else None
        said = {
            "userinfo": told,
            "groups_claim": self.groups_claim,
            "username_claim": self.username_claim,
            "groups_required": self.groups_required,
            "at": at if told is not None or not is_fresh else None,
        }
        try:
            if not is_fresh and (
                told is None
                or (
                    read_groups(told, self.groups_claim) is None
                    and read_groups(claims, self.groups_claim) is not None
                )
            ):
                raise SourceMisconfiguredError(
                    "refresh: neither a new ID token nor userinfo says which groups somebody is in."
                    " Have the provider put them into one of the two"
                )
            return to_facts(claims, **said)
        except GroupOverageError:
            if not self.groups_url:
                raise
        groups = await self.client.groups(self.groups_url, access_token, name=self.groups_url_field)
        return to_facts(claims, **{**said, "at": at}, groups=groups)

    # -- when nobody is at the door -------------------------------------------------------------

    async def look_over(self, memberships: Sequence[Membership]) -> Overview:
        """All whom the provider last spoke of too long ago are to be asked about, if anything of
        theirs is left: a session to ask by, or a server."""
        before = self.admission.now() - timedelta(seconds=self.refresh_interval)
        app = self.admission.app
        kept = app.db.query(orm.User.name).filter(orm.User.encrypted_auth_state.is_not(None))
        here = {name for (name,) in kept}
        here |= {user.name for user in list(app.users.values()) if _has_server(user)}
        old = (m.name for m in memberships if m.confirmed_at <= before)
        return Overview(doubtful=frozenset(name for name in old if name in here))

    async def ask(self, user: Any, membership: Membership) -> Asked:
        """What the provider says now; who asks about one user at the same time shares an answer."""
        asking = self._asking.get(user.name)
        if asking is None:
            asking = asyncio.ensure_future(self._ask_now(user))
            self._asking[user.name] = asking
            asking.add_done_callback(lambda done: self._forget_answer(user.name, done))
        return await asyncio.shield(asking)  # one who gives up takes nobody's answer along

    def _forget_answer(self, name: str, done: asyncio.Future[Asked]) -> None:
        del self._asking[name]
        if not done.cancelled():
            done.exception()  # looked at, also if all who asked gave up

    async def refresh(self, user: Any, membership: Membership) -> bool | dict[str, Any]:
        """As for all sources; but the model is not handed on.

        The hub is as it says by then. Given a model, JupyterHub would write down the auth state
        that it read a moment ago, over one that is newer, and with it a refresh token that is
        spent.
        """
        model = await super().refresh(user, membership)
        return True if isinstance(model, dict) else model

    async def _ask_now(self, user: Any) -> Asked:
        session = await self._session_of(user)
        if session is None:
            raise SessionOverError(f"no session at {self.issuer} is known")
        if session.refresh_token is None:
            try:
                return await self._ask_by_access_token(session)
            except SessionOverError:
                await self._keep(user, session, None)
                raise
        self.client.check_answering()
        try:
            tokens = await self.client.refresh(session.refresh_token)
        except GrantRefusedError:
            now = await self._session_of(user)
            if now is not None and now.refresh_token != session.refresh_token:
                return await self._ask_now(user)  # they logged in again while this was asked
            await self._keep(user, session, None)
            return Asked(None, because=f"{self.issuer} ended their session, or knows them no more")
        renewed = session.renewed(tokens, at=self._now_s())
        is_fresh = tokens.id_token is not None
        try:
            if is_fresh:
                claims = await self.provider.verify_refreshed_id_token(
                    tokens.id_token, previous=session.claims, access_token=tokens.access_token
                )
                renewed = renewed.with_claims({**_lasting(session.claims), **claims}, tokens)
        except TokenRefusedError as e:
            log.error("%s: a refreshed ID token is refused: %s", user.name, e.reason)
            raise
        finally:
            # Whatever becomes of it: the old refresh token may be spent.
            await self._keep(user, session, renewed)
        try:
            facts = await self._facts_of(renewed.claims, tokens.access_token, is_fresh=is_fresh)
        except AccessRefusedError as e:
            raise SourceUnavailableError(f"{e}, with a token that is new") from e
        return Asked(facts)

    async def _ask_by_access_token(self, session: ProviderSession) -> Asked:
        """Without a refresh token: as long as the access token is good."""
        over = SessionOverError(
            f"the access token of {self.issuer} has ended, and none refreshes it"
        )
        if session.expires_at is not None and session.expires_at <= self._now_s():
            raise over
        metadata = await self.provider.discover()
        if metadata.userinfo_endpoint is None or not self.use_userinfo:
            raise CannotAskError(
                f"{self.issuer} gave no refresh token and is not asked for userinfo"
            )
        try:
            return Asked(await self._facts_of(session.claims, session.access_token, is_fresh=False))
        except AccessRefusedError as e:
            raise over from e

    async def _session_of(self, user: Any) -> ProviderSession | None:
        return ProviderSession.from_auth_state(await user.get_auth_state(), issuer=self.issuer)

    async def _keep(
        self, user: Any, before: ProviderSession, after: ProviderSession | None
    ) -> None:
        """Keep what the provider gave, unless the person logged out or in again meanwhile."""
        now = await self._session_of(user)
        if now is not None and now.refresh_token == before.refresh_token:
            await user.save_auth_state(None if after is None else after.to_auth_state())

    def _now_s(self) -> float:
        return self.admission.now().timestamp()

    # -- logging out ----------------------------------------------------------------------------

    async def leave(self, user: Any, handler: Any) -> str | None:
        """Where the browser goes to end the provider's session too; None: nowhere.

        The session here is over by then, whatever the provider does. What is kept of a person goes
        with it, unless a server or a program of theirs runs on: then they are still asked about.
        """
        session = await self._session_of(user)
        if session is None:
            return None
        if session.session_id is not None:
            try:
                await self.sessions.end(self.issuer, session.session_id)
            except RetryableError as e:
                log.warning("A session that is over is still written down: %s", e)
        if not _has_server(user) and not user.api_tokens:
            await user.save_auth_state(None)
        if not self.log_out_at_provider:
            return None
        try:
            metadata = await self.provider.discover()
        except (RetryableError, PermanentError) as e:
            log.warning("The session at %s goes on: %s", self.issuer, e)
            return None
        if metadata.end_session_endpoint is None:
            return None
        back = self.post_logout_redirect_url or self._public(handler, "/logout")
        query = {"client_id": self.client_id, "post_logout_redirect_uri": back}
        if session.id_token is not None and len(session.id_token) <= _HINT_MAX:
            query["id_token_hint"] = session.id_token
        return str(url_concat(metadata.end_session_endpoint, query))


def _lasting(claims: Mapping[str, Any]) -> dict[str, Any]:
    """What a refreshed ID token may leave out, and still holds."""
    return {name: claims[name] for name in ("sid", "nonce", "auth_time") if name in claims}


def _has_server(user: Any) -> bool:
    return any(spawner.active for spawner in list(user.spawners.values()))
