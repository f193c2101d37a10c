"""A contest portal's word that this person sits in front of this browser, now.

The portal signs a token for one login that the hub began: the hub sets state and nonce, sends the
browser to the portal, and the portal has the browser post the token back. It is good for two
minutes, for one hub and contest, and once. Groups in it are facts to map, never rights.

The token, a JWT in compact form:

- header: ``alg`` EdDSA (Ed25519) or ES256; ``typ`` ``portal+jwt``; ``kid``, of a key in the
  portal's key set.
- claims, all required: ``iss``, the portal as the hub knows it; ``aud``, exactly
  ``<hub url>#<contest>``, such as ``https://hub.example.org#ocean-2027`` (see `to_audience`: one
  value, because several values in ``aud`` mean "for each of these" and not "for this in that");
  ``sub``, the portal's own key of the person, never given to another; ``iat`` and ``exp``, at most
  120 s apart; ``jti``, never used twice; ``nonce``, the one the hub sent.
- claims it may add: ``preferred_username``, ``groups`` (a list of texts), and whatever the hub's
  rules ask for.

It must never travel in an address, where logs and histories keep it. Nothing here logs one.

Notes
-----
Modelled on LTI 1.3 (1EdTech Security Framework 5.1) and RFC 9068.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..models.facts import Facts, Identity
from ..names import TEAM_ID_RULE, is_team_id
from ..policy.group_claim import GroupClaimError, read_groups
from .documents import SourceMisconfiguredError, check_address
from .jwks import KeySource, thumbprint
from .signed_token import (
    LEEWAY_S,
    USED_ALREADY,
    TokenRefusedError,
    audiences,
    check_algorithm,
    check_expiry,
    check_issued,
    is_clean_text,
    is_same,
    read_token,
    text_claim,
    to_moment,
)

ALGORITHMS: Final = frozenset({"EdDSA", "ES256"})
TYPE: Final = "portal+jwt"  # so that no other token signed by the portal can stand in for one
MAX_BYTES: Final = 8192
LIFETIME_MAX_S: Final = 120
LIFETIME_S: Final = 60
_OF_THE_TOKEN: Final = frozenset({"iss", "aud", "sub", "jti", "iat", "exp", "nbf", "nonce"})
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}

PortalKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey
Spend = Callable[[str, str, datetime], Awaitable[bool]]


def to_audience(hub_url: str, contest: str) -> str:
    """``aud`` of tokens for this contest on this hub: ``https://hub.example.org#ocean-2027``.

    The address is as `to_hub_audience` has it.

    Raises
    ------
    SourceMisconfiguredError
        One of the two is none.
    """
    hub = to_hub_audience(hub_url)
    if not is_team_id(contest):
        raise SourceMisconfiguredError(f"contest: {contest!r} is none: {TEAM_ID_RULE}")
    return f"{hub}#{contest}"


def to_hub_audience(hub_url: str) -> str:
    """``aud`` of what is for a hub and no contest: ``https://hub.example.org``.

    The address is what people have in their browsers' bars, up to and with the hub's base path;
    scheme and host in lower case, no default port, no slash at the end.

    Raises
    ------
    SourceMisconfiguredError
        It is none.
    """
    parts = urlsplit(check_address(hub_url, "hub address", plain_http=True))
    if parts.query or hub_url.endswith("?"):
        raise SourceMisconfiguredError("hub address: holds a query")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


async def open_portal_token(
    token: object, *, keys: KeySource, token_type: str, max_bytes: int
) -> dict[str, Any]:
    """Claims that one of the portal's keys signed, as this type of token; not checked yet.

    Raises
    ------
    TokenRefusedError
        It is no such token.
    SourceUnavailableError, SourceMisconfiguredError
        The keys cannot be had.
    """
    read = read_token(token, max_bytes=max_bytes)
    check_algorithm(read, ALGORITHMS)
    if read.type != token_type:
        raise TokenRefusedError(f"header typ: not {token_type}")
    if read.key_id is None:
        raise TokenRefusedError("header kid: missing")
    return read.open(await keys.find(read.key_id, read.algorithm))


class PortalVerifier:
    """Believes one portal.

    Parameters
    ----------
    name
        What the administrator calls it: the issuer in `Identity`, one of a kind on this hub.
    issuer
        What it calls itself (``iss``).
    hub_url
        See `to_audience`.
    keys
        `RemoteKeys` or `KeyFile`.
    spend
        Whether this token (issuer, id, refused from then on) is spent for the first time, in all
        processes: `SpentTokens.spend`. Whatever it raises lets nobody in.
    """

    def __init__(
        self,
        name: str,
        *,
        issuer: str,
        hub_url: str,
        keys: KeySource,
        spend: Spend,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        leeway_s: float = LEEWAY_S,
    ) -> None:
        if not is_clean_text(name) or not is_clean_text(issuer):
            raise SourceMisconfiguredError("portal: name and issuer must be printable texts")
        self.name = name
        self.issuer = issuer
        self._hub_url = hub_url
        self._keys = keys
        self._spend = spend
        self._now = now
        self._leeway_s = leeway_s

    async def verify(self, token: object, *, contest: str, nonce: str) -> Facts:
        """Who has come, from a token that is spent thereby.

        Parameters
        ----------
        contest, nonce
            Of the login that this hub began in this browser.

        Raises
        ------
        TokenRefusedError
            It is not this portal's word for this login, or was used before.
        SourceUnavailableError, SourceMisconfiguredError
            The keys cannot be had.
        """
        if not nonce:
            raise ValueError("a login without a nonce cannot be told from a replay")
        claims = await open_portal_token(
            token, keys=self._keys, token_type=TYPE, max_bytes=MAX_BYTES
        )
        expires = self._check(claims, audience=to_audience(self._hub_url, contest), nonce=nonce)
        facts = self._to_facts(claims)
        # Last of all: a token that is refused for something else is not spent.
        if not await self._spend(self.issuer, text_claim(claims, "jti"), expires):
            raise TokenRefusedError("claim jti: spent already", text=USED_ALREADY)
        return facts

    def _check(self, claims: Mapping[str, Any], *, audience: str, nonce: str) -> datetime:
        """Refuse, or say from when on the token is refused by its age."""
        if text_claim(claims, "iss") != self.issuer:
            raise TokenRefusedError("claim iss: not this portal, to the letter")
        if audiences(claims) != (audience,):
            raise TokenRefusedError(f"claim aud: not {audience} and nothing else")
        text_claim(claims, "sub")
        text_claim(claims, "jti")
        said = text_claim(claims, "nonce")
        issued = check_issued(claims, now=self._now(), leeway_s=self._leeway_s)
        expires = check_expiry(claims, now=self._now(), leeway_s=self._leeway_s)
        if not 0 < expires - issued <= LIFETIME_MAX_S:
            raise TokenRefusedError(
                f"claims iat and exp: {expires - issued:.0f} s apart; at most {LIFETIME_MAX_S}"
            )
        if not is_same(said, nonce):
            raise TokenRefusedError("claim nonce: not that of this login")
        return to_moment(expires) + timedelta(seconds=self._leeway_s)

    def _to_facts(self, claims: Mapping[str, Any]) -> Facts:
        subject = text_claim(claims, "sub")
        name = "preferred_username"
        try:
            groups = read_groups(claims)
        except GroupClaimError as e:
            raise TokenRefusedError(str(e)) from e
        return Facts(
            identity=Identity(self.name, subject),
            username=text_claim(claims, name) if name in claims else subject,
            at=to_moment(float(claims["iat"])),
            groups=groups or (),
            claims={key: value for key, value in claims.items() if key not in _OF_THE_TOKEN},
            emails=_vouched_email(claims),
        )


def _vouched_email(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The address that the portal registered; unless it says that it has not verified it."""
    email = claims.get("email")
    is_doubted = claims.get("email_verified", True) is not True
    return (email,) if isinstance(email, str) and not is_doubted else ()


def make_portal_token(
    key: PortalKey,
    *,
    issuer: str,
    hub_url: str,
    contest: str,
    subject: str,
    nonce: str,
    now: datetime,
    lifetime_s: int = LIFETIME_S,
    key_id: str | None = None,
    token_id: str | None = None,
    username: str | None = None,
    groups: Iterable[str] = (),
    claims: Mapping[str, Any] | None = None,
) -> str:
    """What a portal sends. Never log it.

    Parameters
    ----------
    now
        Aware.
    key_id
        The key's thumbprint unless given.
    claims
        More of them; none of those above.

    Raises
    ------
    ValueError
        The key is neither Ed25519 nor P-256, the lifetime not up to 120 s, or a claim of ours is
        among ``claims``.
    """
    if not 1 <= lifetime_s <= LIFETIME_MAX_S:
        raise ValueError(f"lifetime_s is from 1 to {LIFETIME_MAX_S}")
    issued = int(now.timestamp())
    payload: dict[str, Any] = {
        "iss": issuer,
        "aud": to_audience(hub_url, contest),
        "sub": subject,
        "jti": token_id or secrets.token_urlsafe(16),
        "iat": issued,
        "exp": issued + lifetime_s,
        "nonce": nonce,
    }
    payload |= {} if username is None else {"preferred_username": username}
    listed = list(groups)
    payload |= {"groups": listed} if listed else {}
    if claims and set(claims) & set(payload):
        raise ValueError("claims: names one that is given by itself")
    return sign(key, {**payload, **(claims or {})}, token_type=TYPE, key_id=key_id)


def sign(
    key: PortalKey, payload: Mapping[str, Any], *, token_type: str, key_id: str | None = None
) -> str:
    """A token of a portal's, signed. The key's id is its thumbprint unless given.

    Raises
    ------
    ValueError
        The key is neither Ed25519 nor P-256.
    """
    if isinstance(key, EllipticCurvePrivateKey):
        if not isinstance(key.curve, SECP256R1):
            raise ValueError("an elliptic curve key for portal tokens is a P-256 one")
        algorithm = "ES256"
    else:
        algorithm = "EdDSA"
    headers = {"kid": key_id or thumbprint(key.public_key()), "typ": token_type}
    return jwt.encode(dict(payload), key, algorithm=algorithm, headers=headers)
