"""A signed token (JWS compact form) from outside: its header, its signature, its claims one by one.

What `oidc` and `portal_token` share. The algorithm is ours to say, never the token's; keys come
from `jwks`, never from the token (``jwk``, ``jku``, ``x5c``, ``x5u`` are not looked at). Claims are
checked here and not by PyJWT: with a clock that is given, with every type checked, and with errors
that name the claim and never repeat its value, which may be personal.

Notes
-----
RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (best practice).
"""

from __future__ import annotations

import base64
import hmac
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from ..errors import UserError
from .strict_json import parse_object

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey

LEEWAY_S: Final = 30.0  # how far two clocks may be apart
TEXT_MAX: Final = 255  # characters of an identifier: OpenID Connect's own bound on a subject
_TIME_MAX: Final = 253402300799  # the last second of the year 9999, which datetime can still say
_SEGMENTS: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)

NOT_VERIFIED: Final = (
    "The sign-in could not be verified. Go back to the login page and try again."
    " If that does not help, tell the administrators of this hub when it happened."
)
TOO_LATE: Final = "The sign-in took too long. Go back to the login page and try again."
USED_ALREADY: Final = "This sign-in was used already. Go back to the login page and try again."


class TokenRefusedError(UserError):
    """Nobody is let in on this token.

    Attributes
    ----------
    reason
        For the administrator's log: which part of the token, and what is wrong with it. Holds no
        value of the token. The error's own text is for whoever came with the token, and tells
        less.
    """

    def __init__(self, reason: str, *, text: str = NOT_VERIFIED) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class UnverifiedToken:
    """The header of a token, read and not yet believed.

    Attributes
    ----------
    type
        ``typ`` in lower case without ``application/``; None when the header has none.
    """

    algorithm: str
    key_id: str | None
    type: str | None
    _text: str = field(repr=False)

    def open(self, key: PublicKey) -> dict[str, Any]:
        """Claims, if this key signed them. Nothing about them is checked yet.

        The caller has checked the algorithm against its own list, and that the key is for it.

        Raises
        ------
        TokenRefusedError
            It did not, or the claims are no JSON object.
        """
        try:
            payload = jwt.PyJWS().decode(self._text, key, algorithms=[self.algorithm])
        except (jwt.PyJWTError, ValueError, TypeError):
            # The cause may repeat parts of the token.
            raise TokenRefusedError("the signature is not that of the key it names") from None
        try:
            return parse_object(payload)
        except ValueError as e:
            raise TokenRefusedError(f"the claims cannot be read: {e}") from None


def read_token(token: object, *, max_bytes: int) -> UnverifiedToken:
    """Header of a token in compact form.

    Raises
    ------
    TokenRefusedError
        It is none, is longer than ``max_bytes``, or wants what we do not do (``crit``).
    """
    if not isinstance(token, str):
        raise TokenRefusedError("it is no text")
    if len(token) > max_bytes:
        raise TokenRefusedError(f"it is longer than {max_bytes} characters")
    if token.count(".") == 4:
        raise TokenRefusedError("it is encrypted: have the sender sign tokens and not encrypt them")
    if not _SEGMENTS.fullmatch(token):
        raise TokenRefusedError("it is not three parts of base64url (an unsigned token has two)")
    first, second, third = (_decode_segment(part) for part in token.split("."))
    assert second is not None
    assert third is not None
    try:
        header = parse_object(first)
    except ValueError as e:
        raise TokenRefusedError(f"the header cannot be read: {e}") from None
    if "crit" in header or "b64" in header:
        raise TokenRefusedError("the header asks for an extension (crit)")
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str):
        raise TokenRefusedError("header alg: missing or no text")
    if key_id is not None and not (isinstance(key_id, str) and 0 < len(key_id) <= TEXT_MAX):
        raise TokenRefusedError("header kid: no text, empty, or too long")
    if kind is not None and not isinstance(kind, str):
        raise TokenRefusedError("header typ: no text")
    if kind is not None:
        kind = kind.lower().removeprefix("application/")
    return UnverifiedToken(algorithm, key_id, kind, token)


def _decode_segment(part: str) -> bytes:
    """Bytes of one part, which has only one spelling: a token's text is then its identity too."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise TokenRefusedError("a part is no base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != part:
        raise TokenRefusedError("a part is no base64url in its only spelling")
    return data


def is_clean_text(value: object, *, max_length: int = TEXT_MAX) -> bool:
    """Whether a value is a text that may identify something: not empty, all of it printable."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= max_length
        and value.isprintable()  # also refuses lone surrogates, which cannot be stored
        and value == value.strip()
    )


def text_claim(claims: Mapping[str, Any], name: str) -> str:
    """A claim that must be there and must identify something.

    Raises
    ------
    TokenRefusedError
        It is not, or is no such text.
    """
    value = claims.get(name)
    if value is None:
        raise TokenRefusedError(f"claim {name}: missing")
    if not isinstance(value, str) or not is_clean_text(value):
        raise TokenRefusedError(f"claim {name}: not a printable text of 1 to {TEXT_MAX} characters")
    return value


def time_claim(claims: Mapping[str, Any], name: str) -> float | None:
    """Seconds since 1970 of a claim; None when it is not there.

    Raises
    ------
    TokenRefusedError
        It is no number of seconds, or before 1970 or after the year 9999.
    """
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefusedError(f"claim {name}: no number of seconds")
    if not (0 <= value <= _TIME_MAX) or not math.isfinite(value):
        raise TokenRefusedError(f"claim {name}: no moment between the years 1970 and 9999")
    return float(value)


def required_time_claim(claims: Mapping[str, Any], name: str) -> float:
    """As `time_claim`, of one that must be there."""
    value = time_claim(claims, name)
    if value is None:
        raise TokenRefusedError(f"claim {name}: missing")
    return value


def check_issued(claims: Mapping[str, Any], *, now: datetime, leeway_s: float) -> float:
    """``iat``, which must be there and not lie ahead, nor may ``nbf``.

    Raises
    ------
    TokenRefusedError
        Otherwise.
    """
    issued = required_time_claim(claims, "iat")
    not_before = time_claim(claims, "nbf")
    for name, moment in (("iat", issued), ("nbf", not_before)):
        if moment is not None and moment > now.timestamp() + leeway_s:
            ahead_s = moment - now.timestamp()
            raise TokenRefusedError(
                f"claim {name}: lies {ahead_s:.0f} s ahead; compare this machine's clock with the"
                " sender's"
            )
    return issued


def check_expiry(claims: Mapping[str, Any], *, now: datetime, leeway_s: float) -> float:
    """``exp``, which must be there and not be over.

    Raises
    ------
    TokenRefusedError
        Otherwise.
    """
    expires = required_time_claim(claims, "exp")
    over_s = now.timestamp() - expires
    if over_s >= leeway_s:
        raise TokenRefusedError(f"claim exp: over since {over_s:.0f} s", text=TOO_LATE)
    return expires


def audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """``aud`` as a list, in either of its two forms.

    Raises
    ------
    TokenRefusedError
        It is neither a text nor a list of texts, or is empty.
    """
    value = claims.get("aud")
    if value is None:
        raise TokenRefusedError("claim aud: missing")
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found:
        raise TokenRefusedError("claim aud: neither a text nor a list of texts")
    if not all(isinstance(item, str) and item for item in found):
        raise TokenRefusedError("claim aud: a list that does not hold texts only")
    return tuple(found)


def check_algorithm(token: UnverifiedToken, allowed: Collection[str]) -> None:
    """That a token is signed by an algorithm of ours.

    Raises
    ------
    TokenRefusedError
        It is not.
    """
    if token.algorithm not in allowed:
        raise TokenRefusedError(f"header alg: not one of {', '.join(sorted(allowed))}")


def is_same(one: str, other: str) -> bool:
    """Whether two secrets are the same, in a time that does not tell how much of them is."""
    return hmac.compare_digest(
        one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass")
    )


def to_moment(seconds: float) -> datetime:
    """Aware moment of what `time_claim` let through."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc)
