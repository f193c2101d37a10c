"""A contest portal's word that somebody may no longer be let in, nor stay.

The portal signs a token of a type of its own and posts it to the hub. Header as of portal tokens
(`portal_token`), ``typ`` ``portal-revocation+jwt``; claims, all required: ``iss``; ``aud``, the
hub's address without a contest (`to_hub_audience`); ``iat``, at most 120 s ago; ``jti``, never used
twice; and either ``sub``, one person, or ``subs``, a list of up to 1,000.

It ends what was had by tokens that were issued up to ``iat``, and those that are still under way;
a token that the portal issues later lets that person in again. Both moments are the portal's own,
so no two clocks need to agree.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from ..models.facts import Identity
from .jwks import KeySource
from .portal_token import PortalKey, Spend, open_portal_token, sign, to_hub_audience
from .signed_token import (
    LEEWAY_S,
    TOO_LATE,
    USED_ALREADY,
    TokenRefusedError,
    audiences,
    check_issued,
    is_clean_text,
    text_claim,
    to_moment,
)

TYPE: Final = "portal-revocation+jwt"
AGE_MAX_S: Final = 120
MAX_BYTES: Final = 65_536  # 1,000 people of 40 characters
SUBJECTS_MAX: Final = 1000


@dataclass(frozen=True)
class Revocation:
    """Whom a portal revokes.

    Attributes
    ----------
    at
        By the portal's clock. What it issued later counts.
    """

    identities: tuple[Identity, ...] = field(repr=False)
    at: datetime


async def verify_revocation(
    token: object,
    *,
    name: str,
    issuer: str,
    hub_url: str,
    keys: KeySource,
    spend: Spend,
    now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    leeway_s: float = LEEWAY_S,
) -> Revocation:
    """Whom a token revokes, which is spent thereby. Parameters as of `PortalVerifier`.

    Raises
    ------
    TokenRefusedError
        It is not this portal's word for this hub, is too old, or was used before.
    SourceUnavailableError, SourceMisconfiguredError
        The keys cannot be had.
    """
    claims = await open_portal_token(token, keys=keys, token_type=TYPE, max_bytes=MAX_BYTES)
    if text_claim(claims, "iss") != issuer:
        raise TokenRefusedError("claim iss: not this portal, to the letter")
    if audiences(claims) != (to_hub_audience(hub_url),):
        raise TokenRefusedError(f"claim aud: not {to_hub_audience(hub_url)} and nothing else")
    token_id = text_claim(claims, "jti")
    issued = check_issued(claims, now=now(), leeway_s=leeway_s)
    over_s = now().timestamp() - issued - AGE_MAX_S
    if over_s >= leeway_s:
        raise TokenRefusedError(f"claim iat: {over_s:.0f} s too long ago", text=TOO_LATE)
    subjects = _subjects_of(claims)
    refused_from = to_moment(issued) + timedelta(seconds=AGE_MAX_S + leeway_s)
    if not await spend(issuer, token_id, refused_from):
        raise TokenRefusedError("claim jti: spent already", text=USED_ALREADY)
    return Revocation(tuple(Identity(name, s) for s in subjects), to_moment(issued))


def _subjects_of(claims: Mapping[str, Any]) -> list[str]:
    if ("sub" in claims) == ("subs" in claims):
        raise TokenRefusedError("claims sub and subs: not exactly one of them")
    if "sub" in claims:
        return [text_claim(claims, "sub")]
    found = claims["subs"]
    if not isinstance(found, list) or not 0 < len(found) <= SUBJECTS_MAX:
        raise TokenRefusedError(f"claim subs: not a list of 1 to {SUBJECTS_MAX}")
    if not all(is_clean_text(subject) for subject in found):
        raise TokenRefusedError("claim subs: holds what is no printable text")
    return sorted(set(found))


def make_revocation_token(
    key: PortalKey,
    *,
    issuer: str,
    hub_url: str,
    subjects: Iterable[str],
    now: datetime,
    key_id: str | None = None,
    token_id: str | None = None,
) -> str:
    """What a portal sends. Never log it. Raises ValueError where `sign` does, or for nobody."""
    listed = sorted(set(subjects))
    if not 0 < len(listed) <= SUBJECTS_MAX:
        raise ValueError(f"subjects: from 1 to {SUBJECTS_MAX}")
    payload: dict[str, Any] = {
        "iss": issuer,
        "aud": to_hub_audience(hub_url),
        "jti": token_id or secrets.token_urlsafe(16),
        "iat": int(now.timestamp()),
    }
    payload |= {"sub": listed[0]} if len(listed) == 1 else {"subs": listed}
    return sign(key, payload, token_type=TYPE, key_id=key_id)
