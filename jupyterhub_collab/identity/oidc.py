"""An OpenID Connect provider: what it publishes of itself, and whether a token is its word.

The authenticator runs the browser flow; this believes nothing in it that is not signed for this
client, this login (nonce) and this moment. A refresh and a back-channel log-out are believed under
rules of their own, so that none of the three tokens can stand in for another.

Notes
-----
OpenID Connect Core 1.0 (2: ID token, 3.1.3.7: validation, 12.2: refresh), Discovery 1.0,
Back-Channel Logout 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from ..errors import PermanentError
from ..models.facts import Facts, Identity
from ..policy.group_claim import read_groups
from .documents import (
    CachedDocument,
    DocumentReader,
    SourceMisconfiguredError,
    check_address,
)
from .jwks import ALGORITHMS, KeySet, RemoteKeys, check_algorithms
from .signed_token import (
    LEEWAY_S,
    TokenRefusedError,
    UnverifiedToken,
    audiences,
    check_algorithm,
    check_expiry,
    check_issued,
    is_clean_text,
    is_same,
    read_token,
    text_claim,
    time_claim,
    to_moment,
)

MAX_BYTES: Final = 64 * 1024  # an ID token with 200 groups has 10 KiB
METADATA_AGE_S: Final = 3600.0
METADATA_STALE_S: Final = 24 * 3600.0  # it hardly ever changes
LOGOUT_MAX_AGE_S: Final = 300.0  # a log-out is sent at once; an old one is a replay
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TYPE: Final = "logout+jwt"
_PLAIN_TYPES: Final = frozenset({None, "jwt"})
# What a token says of itself and not of the person.
_OF_THE_TOKEN: Final = frozenset(
    {"iss", "sub", "aud", "azp", "exp", "iat", "nbf", "jti", "nonce", "at_hash", "c_hash", "s_hash"}
)
# Of the login, which only the signed token can tell of.
_OF_THE_LOGIN: Final = frozenset({"acr", "amr", "auth_time", "sid"})
_EDDSA_HASH: Final = hashlib.sha512  # of Ed25519, which is all that we take
_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class ClaimError(PermanentError):
    """A genuine token lacks what this hub needs of it. Names the claim, never its value."""


@dataclass(frozen=True)
class ProviderMetadata:
    """What the discovery document says, as far as it is used. Every address has been checked."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    algorithms: frozenset[str]  # of ID tokens, ours and theirs
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    revocation_endpoint: str | None = None
    has_pkce: bool = False  # says that it does S256
    has_backchannel_logout: bool = False
    has_response_issuer: bool = False  # says who it is where it sends the browser back (RFC 9207)
    # How this hub may show at the token endpoint who it is; unsaid means basic (RFC 8414).
    token_auth_methods: frozenset[str] = frozenset({"client_secret_basic"})


@dataclass(frozen=True)
class LogoutClaims:
    """Whose sessions are over: all of a subject, or one session, or one of them both.

    Attributes
    ----------
    token_id, expires
        To spend the token, if a replay is to be refused within its time.
    """

    issuer: str
    subject: str | None = field(repr=False)
    session_id: str | None = field(repr=False)
    token_id: str = field(repr=False)
    issued_at: datetime
    expires: datetime


class OIDCProvider:
    """One provider, for one client of it. Close it when done; the reader stays open.

    Parameters
    ----------
    issuer
        Exactly as the provider writes it, trailing slash and all.
    client_id
        What the provider calls this hub.
    algorithms
        Of ID tokens, in so far as the provider uses them. Symmetric ones do not exist here.
    now, clock
        Aware UTC time, and seconds of a clock that never jumps.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        reader: DocumentReader,
        *,
        algorithms: Iterable[str] = ALGORITHMS,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        clock: Callable[[], float] = time.monotonic,
        leeway_s: float = LEEWAY_S,
    ) -> None:
        self.issuer = check_address(issuer, "issuer", plain_http=reader.plain_http)
        if not client_id:
            raise SourceMisconfiguredError("client_id: empty; the provider gives one to this hub")
        self.client_id = client_id
        self._reader = reader
        self._wanted = check_algorithms(algorithms)
        self._now = now
        self._clock = clock
        self._leeway_s = leeway_s
        self._keys: RemoteKeys | None = None
        self._metadata = CachedDocument(
            f"discovery document of {issuer}",
            self._load_metadata,
            clock=clock,
            max_age_s=METADATA_AGE_S,
            stale_s=METADATA_STALE_S,
            cool_down_s=60.0,
            retry_s=5.0,
        )

    async def discover(self) -> ProviderMetadata:
        """What the provider says of itself, at most a day old, an hour if it answers.

        Raises
        ------
        SourceUnavailableError
            It does not answer.
        SourceMisconfiguredError
            It calls itself otherwise, or has an address or algorithms that cannot be used.
        """
        return await self._metadata.get()

    async def read_keys(self) -> KeySet:
        """Keys that sign its tokens. Raises as `discover`."""
        return await self._keys_of(await self.discover()).load()

    async def verify_id_token(
        self,
        token: object,
        *,
        nonce: str,
        access_token: str | None = None,
        max_auth_age_s: float | None = None,
    ) -> dict[str, Any]:
        """Claims of the ID token that ends a login.

        Parameters
        ----------
        nonce
            The one that this hub sent with this login.
        access_token
            Came with it: the token is then checked to be of the same answer, if it says (at_hash).
        max_auth_age_s
            The person must have shown who they are within this time (``auth_time``).

        Raises
        ------
        TokenRefusedError
            It is not this provider's word about this login.
        SourceUnavailableError, SourceMisconfiguredError
            Nobody can tell; see `discover`.
        """
        if not nonce:
            raise ValueError("a login without a nonce cannot be told from a replay")
        claims = await self._verify_person(token, access_token)
        if not is_same(text_claim(claims, "nonce"), nonce):
            raise TokenRefusedError("claim nonce: not that of this login")
        self._check_auth_age(claims, max_auth_age_s)
        return claims

    async def verify_refreshed_id_token(
        self, token: object, *, previous: Mapping[str, Any], access_token: str | None = None
    ) -> dict[str, Any]:
        """Claims of an ID token that came with a refresh: of the same person, or none's.

        Parameters
        ----------
        previous
            Claims of the login's token, or of the last refresh.

        Raises
        ------
        As `verify_id_token`.
        """
        claims = await self._verify_person(token, access_token)
        if claims["sub"] != previous.get("sub"):
            raise TokenRefusedError("claim sub: not the person whose session was refreshed")
        if set(audiences(claims)) != set(audiences(previous)):
            raise TokenRefusedError("claim aud: not that of the token before")
        for name in ("auth_time", "nonce"):  # may be left out, must not change
            if name in claims and name in previous and claims[name] != previous[name]:
                raise TokenRefusedError(f"claim {name}: not that of the token before")
        return claims

    async def verify_logout_token(self, token: object) -> LogoutClaims:
        """Whose sessions the provider says are over (back-channel log-out).

        Raises
        ------
        As `verify_id_token`.
        """
        _, claims = await self._open(token, _PLAIN_TYPES | {_LOGOUT_TYPE})
        self._check_sender(claims)
        issued = check_issued(claims, now=self._now(), leeway_s=self._leeway_s)
        if self._now().timestamp() - issued >= LOGOUT_MAX_AGE_S + self._leeway_s:
            raise TokenRefusedError(f"claim iat: older than {LOGOUT_MAX_AGE_S:.0f} s")
        if "exp" in claims:  # drafts of the standard had none
            check_expiry(claims, now=self._now(), leeway_s=self._leeway_s)
        if "nonce" in claims:
            raise TokenRefusedError("claim nonce: a log-out has none; this is an ID token")
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(LOGOUT_EVENT), dict):
            raise TokenRefusedError("claim events: does not say log-out")
        subject = text_claim(claims, "sub") if "sub" in claims else None
        session = text_claim(claims, "sid") if "sid" in claims else None
        if subject is None and session is None:
            raise TokenRefusedError("claims sub and sid: both missing")
        return LogoutClaims(
            issuer=self.issuer,
            subject=subject,
            session_id=session,
            token_id=text_claim(claims, "jti"),
            issued_at=to_moment(issued),
            expires=to_moment(issued) + timedelta(seconds=LOGOUT_MAX_AGE_S + self._leeway_s),
        )

    async def close(self) -> None:
        """Stop reads that are on their way."""
        await self._metadata.close()
        if self._keys is not None:
            await self._keys.close()

    async def _verify_person(self, token: object, access_token: str | None) -> dict[str, Any]:
        """What every ID token must show."""
        read, claims = await self._open(token, _PLAIN_TYPES)
        self._check_sender(claims)
        check_issued(claims, now=self._now(), leeway_s=self._leeway_s)
        check_expiry(claims, now=self._now(), leeway_s=self._leeway_s)
        text_claim(claims, "sub")
        if "events" in claims:
            raise TokenRefusedError("claim events: an ID token has none; this is a log-out")
        if access_token is not None and "at_hash" in claims:
            expected = _access_token_hash(access_token, read.algorithm)
            if not is_same(text_claim(claims, "at_hash"), expected):
                raise TokenRefusedError("claim at_hash: not of the access token that came with it")
        return claims

    async def _open(
        self, token: object, types: Iterable[str | None]
    ) -> tuple[UnverifiedToken, dict[str, Any]]:
        read = read_token(token, max_bytes=MAX_BYTES)
        if read.type not in types:
            raise TokenRefusedError("header typ: another kind of token")
        metadata = await self.discover()
        check_algorithm(read, metadata.algorithms)
        key = await self._keys_of(metadata).find(read.key_id, read.algorithm)
        return read, read.open(key)

    def _check_sender(self, claims: Mapping[str, Any]) -> None:
        if text_claim(claims, "iss") != self.issuer:
            raise TokenRefusedError("claim iss: not this provider, to the letter")
        meant = audiences(claims)
        if self.client_id not in meant:
            raise TokenRefusedError("claim aud: not this client")
        if len(meant) > 1 and "azp" not in claims:
            raise TokenRefusedError("claim azp: missing, though claim aud names several")
        if "azp" in claims and claims["azp"] != self.client_id:
            raise TokenRefusedError("claim azp: not this client")

    def _check_auth_age(self, claims: Mapping[str, Any], max_auth_age_s: float | None) -> None:
        moment = time_claim(claims, "auth_time")
        if max_auth_age_s is None:
            return
        if moment is None:
            raise TokenRefusedError("claim auth_time: missing, though max_age was asked for")
        if self._now().timestamp() - moment >= max_auth_age_s + self._leeway_s:
            raise TokenRefusedError(f"claim auth_time: longer ago than {max_auth_age_s:.0f} s")

    def _keys_of(self, metadata: ProviderMetadata) -> RemoteKeys:
        keys = self._keys
        if keys is None or keys.url != metadata.jwks_uri or keys.algorithms != metadata.algorithms:
            keys = self._keys = RemoteKeys(
                metadata.jwks_uri,
                self._reader,
                algorithms=metadata.algorithms,
                clock=self._clock,
            )
        return keys

    async def _load_metadata(self) -> ProviderMetadata:
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._reader.read(url, "discovery document")
        return parse_metadata(
            document,
            issuer=self.issuer,
            algorithms=self._wanted,
            plain_http=self._reader.plain_http,
        )


def parse_metadata(
    document: Mapping[str, Any],
    *,
    issuer: str,
    algorithms: Iterable[str],
    plain_http: bool = False,
) -> ProviderMetadata:
    """A discovery document, if it is this issuer's and its addresses can be used.

    Raises
    ------
    SourceMisconfiguredError
        Otherwise; names the field.
    """
    said = document.get("issuer")
    if said != issuer:
        shown = repr(said[:200]) if isinstance(said, str) else "none"
        raise SourceMisconfiguredError(
            f"discovery document: its issuer is {shown}, not {issuer!r}. Set the issuer exactly as"
            " the provider writes it; where one address serves many tenants, use your tenant's"
        )
    theirs = document.get("id_token_signing_alg_values_supported")
    if not isinstance(theirs, list) or not all(isinstance(item, str) for item in theirs):
        raise SourceMisconfiguredError(
            "discovery document: id_token_signing_alg_values_supported is no list of texts"
        )
    wanted = frozenset(algorithms)
    both = wanted & frozenset(theirs)
    if not both:
        raise SourceMisconfiguredError(
            f"discovery document: the provider signs ID tokens with"
            f" {', '.join(sorted(theirs)) or 'nothing'}; allowed here: {', '.join(sorted(wanted))}"
        )

    def address(name: str) -> str:
        return check_address(
            document.get(name), f"discovery document: {name}", plain_http=plain_http
        )

    def optional(name: str) -> str | None:
        return None if document.get(name) is None else address(name)

    methods = document.get("code_challenge_methods_supported")
    client_auth: Any = document.get("token_endpoint_auth_methods_supported")
    if not isinstance(client_auth, list):
        client_auth = ["client_secret_basic"]
    return ProviderMetadata(
        issuer=issuer,
        authorization_endpoint=address("authorization_endpoint"),
        token_endpoint=address("token_endpoint"),
        jwks_uri=address("jwks_uri"),
        algorithms=both,
        userinfo_endpoint=optional("userinfo_endpoint"),
        end_session_endpoint=optional("end_session_endpoint"),
        revocation_endpoint=optional("revocation_endpoint"),
        has_pkce=isinstance(methods, list) and "S256" in methods,
        has_backchannel_logout=document.get("backchannel_logout_supported") is True,
        has_response_issuer=(
            document.get("authorization_response_iss_parameter_supported") is True
        ),
        token_auth_methods=frozenset(item for item in client_auth if isinstance(item, str)),
    )


def to_facts(
    claims: Mapping[str, Any],
    *,
    userinfo: Mapping[str, Any] | None = None,
    groups: Sequence[str] | None = None,
    groups_claim: str | Sequence[str] = "groups",
    username_claim: str = "preferred_username",
    groups_required: bool = False,
    at: datetime | None = None,
) -> Facts:
    """What the provider says about a person.

    Where userinfo and the ID token say different things, userinfo counts: it was asked later.

    Parameters
    ----------
    claims
        Of a verified ID token.
    userinfo
        The userinfo endpoint's answer, asked with the access token of the same login.
    groups
        All the person's groups, when they were asked for elsewhere (after an overage); claims are
        then not looked at for them.
    groups_required
        Whether claims that say nothing of groups are an error and not "in none": for providers
        that always send them, so that a scope lost by mistake throws nobody out.
    at
        When the provider said so: of userinfo, when it was asked. Else ``iat``.

    Raises
    ------
    TokenRefusedError
        userinfo is of another person.
    GroupOverageError, GroupClaimError
        There are groups, and they cannot be read.
    ClaimError
        The user name or required groups are missing.
    """
    told = dict(userinfo or {})
    subject = text_claim(claims, "sub")
    if userinfo is not None and told.get("sub") != subject:
        raise TokenRefusedError("userinfo, claim sub: not the person of the ID token")
    if groups is not None:
        found: tuple[str, ...] | None = tuple(dict.fromkeys(groups))
    else:
        found = read_groups(told, groups_claim)
        if found is None:
            found = read_groups(claims, groups_claim)
    if found is None and groups_required:
        shown = groups_claim if isinstance(groups_claim, str) else ".".join(groups_claim)
        raise ClaimError(
            f"claim {shown}: missing from ID token and userinfo, though this hub needs it. Have the"
            " provider send it; perhaps it wants a scope"
        )
    everything = {
        **{name: value for name, value in claims.items() if name not in _OF_THE_TOKEN},
        **{
            name: value for name, value in told.items() if name not in _OF_THE_TOKEN | _OF_THE_LOGIN
        },
    }
    username = subject if username_claim == "sub" else everything.get(username_claim)
    if not isinstance(username, str) or not is_clean_text(username):
        raise ClaimError(
            f"claim {username_claim}: missing, or not a printable text of 1 to 255 characters."
            " Have the provider send it, or set another claim for the user name"
        )
    issued = time_claim(claims, "iat")
    if at is None and issued is None:
        raise TokenRefusedError("claim iat: missing")
    return Facts(
        identity=Identity(text_claim(claims, "iss"), subject),
        username=username,
        at=at if at is not None else to_moment(issued or 0.0),
        groups=found or (),
        claims=everything,
        emails=_vouched_email(told if "email" in told else claims),
    )


def _vouched_email(said: Mapping[str, Any]) -> tuple[str, ...]:
    """The address, where the same document says that it is verified: the other may mean another.

    Some providers write the boolean as a text.
    """
    email, verified = said.get("email"), said.get("email_verified")
    is_verified = verified is True or verified == "true"
    return (email,) if is_verified and isinstance(email, str) else ()


def _access_token_hash(access_token: str, algorithm: str) -> str:
    """``at_hash``: left half of the hash that goes with the algorithm, base64url."""
    make = _EDDSA_HASH if algorithm == "EdDSA" else _HASHES[algorithm[-3:]]
    digest = make(access_token.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
