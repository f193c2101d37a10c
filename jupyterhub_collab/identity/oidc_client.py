"""What this hub asks an OpenID Connect provider in private: tokens, userinfo, groups.

Nothing that comes back is believed here: `oidc` looks at what is signed. This says only what an
answer means: tokens, "not any more", "not now", or "an admin must act". Tokens and secrets travel
in bodies and headers, never in an address, and stand in no error.

Notes
-----
RFC 6749 (4.1.3, 5.2, 6: token endpoint), OpenID Connect Core 5.3 (userinfo), Microsoft Graph
(transitiveMemberOf) for groups past Entra's limit.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus, urlsplit

from ..errors import CollabError, PermanentError
from .documents import DocumentReader, SourceMisconfiguredError, SourceUnavailableError
from .oidc import OIDCProvider
from .signed_token import is_clean_text

ClientAuth: TypeAlias = Literal["auto", "basic", "post"]

RETRY_S: Final = 5.0  # after no answer: one waits for a dead provider, not each of thousands
TOKEN_MAX: Final = 64 * 1024
PAGES_MAX: Final = 100
GROUPS_MAX: Final = 10_000
_LONG_WORD: Final = re.compile(r"[\w.~+/=-]{20,}", re.ASCII)
log = logging.getLogger(__name__)


class GrantRefusedError(CollabError):
    """The provider does not take this code or refresh token, or not any more."""


class AccessRefusedError(CollabError):
    """The provider does not take this access token, or not any more."""


class ClientRefusedError(PermanentError):
    """The provider does not take this hub's own credentials, or what it asks for."""


@dataclass(frozen=True)
class Tokens:
    """What the token endpoint answered. Nothing of it is verified."""

    access_token: str = field(repr=False)
    id_token: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_in_s: float | None = None
    scope: str = ""


class OIDCClient:
    """Asks one provider as one client of it. The reader and the provider stay open.

    Parameters
    ----------
    secret
        The client's secret as it is now; empty for a public client.
    auth
        How the client shows its secret: as the provider says it can, or one of the two ways.
    clock
        Seconds of a clock that never jumps.
    """

    def __init__(
        self,
        provider: OIDCProvider,
        reader: DocumentReader,
        *,
        secret: Callable[[], str],
        auth: ClientAuth = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._reader = reader
        self._secret = secret
        self._auth = auth
        self._clock = clock
        self._silent_since: float | None = None

    def check_answering(self) -> None:
        """For whoever can wait: not to ask a provider that gave no answer a moment ago.

        Raises
        ------
        SourceUnavailableError
            It gave none.
        """
        since = self._silent_since
        if since is not None and self._clock() - since < RETRY_S:
            raise SourceUnavailableError("the provider gave no answer a moment ago")

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> Tokens:
        """Tokens for the code of a login.

        Raises
        ------
        GrantRefusedError
            The code is spent, too old, or another's.
        ClientRefusedError, SourceMisconfiguredError
            An admin must act.
        SourceUnavailableError
            No answer that can be used.
        """
        return await self._ask_tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    async def refresh(self, refresh_token: str) -> Tokens:
        """New tokens. The old refresh token may be spent by this. Raises as `exchange`."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self._ask_tokens(form)

    async def userinfo(self, access_token: str) -> dict[str, Any] | None:
        """What the provider says about the token's person; None: it has no such endpoint.

        Raises
        ------
        AccessRefusedError
            It does not take this token.
        SourceUnavailableError, SourceMisconfiguredError
            As `exchange`.
        """
        metadata = await self._provider.discover()
        if metadata.userinfo_endpoint is None:
            return None
        return await self._get(metadata.userinfo_endpoint, "userinfo", access_token)

    async def groups(self, url: str, access_token: str, *, name: str = "id") -> tuple[str, ...]:
        """All groups of the token's person at an address that answers in pages, as Graph does.

        Parameters
        ----------
        name
            Of the field of each group that is taken.

        Raises
        ------
        As `userinfo`; SourceUnavailableError also where the answer has no end.
        """
        found: dict[str, None] = {}
        at: str | None = url
        for _ in range(PAGES_MAX):
            assert at is not None
            page = await self._get(at, "groups", access_token)
            items = page.get("value")
            if not isinstance(items, list):
                raise SourceUnavailableError("groups: the answer has no list called value")
            for item in items:
                group = item.get(name) if isinstance(item, dict) else item
                if not isinstance(group, str) or not is_clean_text(group, max_length=1024):
                    raise SourceUnavailableError(f"groups: one of the answer has no {name}")
                found[group] = None
            if len(found) > GROUPS_MAX:
                raise SourceMisconfiguredError(f"groups: more than {GROUPS_MAX} of one person")
            at = page.get("@odata.nextLink")
            if at is None:
                return tuple(found)
            # The access token goes nowhere else.
            if not isinstance(at, str) or urlsplit(at)[:2] != urlsplit(url)[:2]:
                raise SourceUnavailableError("groups: the next page is at another site")
        raise SourceUnavailableError(f"groups: more than {PAGES_MAX} pages")

    async def check_credentials(self) -> None:
        """Show the provider who we are, with a refresh token that cannot be one. Raises as
        `exchange`, but for GrantRefusedError: that is what a known client is told."""
        try:
            await self._ask_tokens({"grant_type": "refresh_token", "refresh_token": "no-token"})
        except GrantRefusedError:
            return
        raise SourceUnavailableError("token endpoint: it gave tokens for none")

    async def _ask_tokens(self, form: Mapping[str, str]) -> Tokens:
        metadata = await self._provider.discover()
        headers, more = self._credentials(metadata.token_auth_methods)
        status, told = await self._send(
            metadata.token_endpoint, "token endpoint", headers=headers, form={**form, **more}
        )
        if status != 200:
            raise _refusal(status, told)
        return _read_tokens(told)

    def _credentials(self, methods: frozenset[str]) -> tuple[dict[str, str], dict[str, str]]:
        """Headers and fields that show who we are."""
        client_id, secret = self._provider.client_id, self._secret()
        if not secret:
            return {}, {"client_id": client_id}
        by_post = self._auth == "post" or (
            self._auth == "auto"
            and "client_secret_basic" not in methods
            and "client_secret_post" in methods
        )
        if by_post:
            return {}, {"client_id": client_id, "client_secret": secret}
        pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"  # RFC 6749, 2.3.1
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}

    async def _get(self, url: str, what: str, access_token: str) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {access_token}"}
        status, told = await self._send(url, what, headers=headers, form=None)
        if status in (400, 401, 403):
            raise AccessRefusedError(f"{what}: status {status}")
        if status != 200:
            raise SourceMisconfiguredError(f"{what}: the provider answered with status {status}")
        return told

    async def _send(
        self, url: str, what: str, *, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        try:
            found = await self._reader.send(url, what, headers=headers, form=form)
        except SourceUnavailableError:
            self._silent_since = self._clock()
            raise
        self._silent_since = None
        return found


def _refusal(status: int, told: Mapping[str, Any]) -> CollabError:
    """What an answer that is no success means, in words of ours."""
    code = told.get("error")
    said = code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else "no code"
    log.warning("The token endpoint refused: %s, status %d: %s", said, status, describe(told))
    if said == "invalid_grant":
        return GrantRefusedError("token endpoint: invalid_grant")
    if said in ("invalid_client", "unauthorized_client") or status in (401, 403):
        return ClientRefusedError(
            f"token endpoint: {said} (status {status}): the provider does not take this hub's"
            " client_id and secret. Compare both, and how the client shows them (client_auth)"
        )
    return ClientRefusedError(f"token endpoint: {said} (status {status})")


def describe(told: Mapping[str, Any]) -> str:
    """The provider's own words for an admin's log: short, printable, nothing like a token."""
    text = told.get("error_description")
    if not isinstance(text, str):
        return "no description"
    plain = "".join(c if c.isprintable() else " " for c in text[:400])
    return _LONG_WORD.sub("[...]", plain)


def _read_tokens(told: Mapping[str, Any]) -> Tokens:
    def token(name: str) -> str | None:
        value = told.get(name)
        if value is None or value == "":
            return None
        is_fit = isinstance(value, str) and value.isascii() and value.isprintable()
        if not is_fit or len(value) > TOKEN_MAX:
            raise SourceUnavailableError(f"token endpoint: its {name} is none")
        return str(value)

    access = token("access_token")
    if access is None:
        raise SourceUnavailableError("token endpoint: it gave no access_token")
    kind = told.get("token_type", "Bearer")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise SourceMisconfiguredError("token endpoint: its access tokens are not of type Bearer")
    expires, scope = told.get("expires_in"), told.get("scope")
    if isinstance(expires, str) and re.fullmatch(r"\d{1,12}", expires, re.ASCII):
        expires = int(expires)  # some providers write it as a text
    lasts: float | None = None
    if isinstance(expires, int | float) and not isinstance(expires, bool):
        lasts = max(0.0, min(float(expires), 1e9))
    return Tokens(
        access_token=access,
        id_token=token("id_token"),
        refresh_token=token("refresh_token"),
        expires_in_s=lasts,
        scope=scope if isinstance(scope, str) else "",
    )
