"""What is kept of a login through an OpenID Connect provider: in a cookie on the way, and after it.

On the way (`Flow`) it is in a signed cookie of the browser that began: what comes back from the
provider counts in that browser only, once, and for a few minutes. Afterwards (`ProviderSession`) it
is in JupyterHub's encrypted auth state: what the person is asked about by, and what a new ID token
is compared with.

Both come back from where others may have written; what cannot be read is nothing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from ...identity.oidc_client import Tokens

FLOW_S: Final = 900  # to find one's second factor; the nonce is good as long
COOKIE_PREFIX: Final = "collab-oidc-"
FLOWS_MAX: Final = 5  # tabs in which one browser logs in at once
_CORNER: Final = "collab_oidc"


@dataclass(frozen=True)
class Flow:
    """One login that is under way.

    Attributes
    ----------
    issuer
        To whom the browser was sent.
    next_url
        A path of this hub, or empty.
    """

    issuer: str
    redirect_uri: str
    next_url: str = ""
    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    def to_text(self) -> str:
        """For the cookie, which the hub signs."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str | bytes) -> Flow | None:
        """None: it is none."""
        try:
            said = json.loads(text)
            return cls(**said) if all(isinstance(v, str) for v in said.values()) else None
        except (ValueError, TypeError, AttributeError, RecursionError):
            return None


def cookie_name(state: str) -> str:
    """Of one flow, so that two tabs do not end each other's. Tells nothing of the state."""
    digest = hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{COOKIE_PREFIX}{digest[:24]}"


@dataclass(frozen=True)
class ProviderSession:
    """What the hub holds of a person's session at the provider.

    Attributes
    ----------
    claims
        Of the last ID token that was verified.
    expires_at
        Of the access token, in seconds since 1970; None: the provider did not say.
    """

    issuer: str
    claims: Mapping[str, Any] = field(repr=False)
    access_token: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    id_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    scope: str = ""

    @property
    def session_id(self) -> str | None:
        """The provider's own key of the session, if it says one."""
        found = self.claims.get("sid")
        return found if isinstance(found, str) and found else None

    def renewed(self, tokens: Tokens, *, at: float) -> ProviderSession:
        """With what the provider gave for the refresh token; the ID token is not verified yet."""
        return replace(
            self,
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token or self.refresh_token,
            expires_at=expires_at(tokens, at=at),
            scope=tokens.scope or self.scope,
        )

    def with_claims(self, claims: Mapping[str, Any], tokens: Tokens) -> ProviderSession:
        """With those of a new ID token that was verified."""
        return replace(self, claims=claims, id_token=tokens.id_token)

    def to_auth_state(self) -> dict[str, Any]:
        """For JupyterHub, which encrypts it. Tokens go by the names that OAuthenticator gives."""
        return {
            "access_token": self.access_token,
            "refresh_token": self.refresh_token,
            "id_token": self.id_token,
            "scope": self.scope.split(),
            _CORNER: {
                "issuer": self.issuer,
                "claims": dict(self.claims),
                "expires_at": self.expires_at,
            },
        }

    @classmethod
    def from_auth_state(cls, state: object, *, issuer: str) -> ProviderSession | None:
        """None: nothing of this issuer's is kept."""
        if not isinstance(state, Mapping) or not isinstance(state.get(_CORNER), Mapping):
            return None
        corner = state[_CORNER]
        claims, access, expires = (
            corner.get("claims"),
            state.get("access_token"),
            corner.get("expires_at"),
        )
        if corner.get("issuer") != issuer or not isinstance(claims, Mapping):
            return None
        if not isinstance(access, str):
            return None
        return cls(
            issuer=issuer,
            claims=claims,
            access_token=access,
            refresh_token=state.get("refresh_token"),
            id_token=state.get("id_token"),
            expires_at=expires if isinstance(expires, int | float) else None,
            scope=" ".join(state.get("scope") or ()),
        )


def expires_at(tokens: Tokens, *, at: float) -> float | None:
    """When the access token ends, in seconds since 1970."""
    return None if tokens.expires_in_s is None else at + tokens.expires_in_s
