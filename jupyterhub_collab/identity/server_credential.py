"""The server credential: a signed statement of user, server, team and contest.

The hub's own token in a server tells all the groups of a person and never which team the server is
for. This one does. It is an EdDSA-signed JWT without an expiry: it is good as long as its server
runs and not a moment longer, which only the hub can say (introspection). A signature alone is
therefore never enough to let somebody in; it only keeps nonsense away from the hub.

The private key never leaves its file and the hub's memory.

Notes
-----
RFC 7519 (JWT), RFC 8037 (EdDSA in JOSE), RFC 7638 (key thumbprint), RFC 7662 (introspection).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import PermanentError, UserError

ALGORITHM: Final = "EdDSA"
AUDIENCE: Final = "jupyterhub-collab"
TYPE: Final = "collab-server+jwt"  # so that no other JWT of the hub's can stand in for one
MAX_BYTES: Final = 4096  # longer ones are not looked at
_CLAIMS: Final = ("iss", "aud", "sub", "server", "team", "contest", "jti", "iat")


class CredentialError(UserError):
    """This is not a credential of ours. Says why, without repeating it."""


class CredentialKeyError(PermanentError):
    """The key file cannot be used."""


@dataclass(frozen=True)
class ServerClaims:
    """What a credential says.

    Attributes
    ----------
    hub_id
        Who says so (iss).
    server_id
        One start of one server (jti).
    issued_at
        Aware, whole seconds.
    """

    hub_id: str
    username: str
    server_name: str
    team: str
    contest: str
    server_id: str
    issued_at: datetime


class CredentialIssuer:
    """Mints credentials with one private key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.key_id = key_id(key.public_key())

    def __repr__(self) -> str:
        return f"CredentialIssuer({self.key_id})"

    def mint(self, claims: ServerClaims) -> str:
        """The signed text. Never log it."""
        payload = {
            "iss": claims.hub_id,
            "aud": AUDIENCE,
            "sub": claims.username,
            "server": claims.server_name,
            "team": claims.team,
            "contest": claims.contest,
            "jti": claims.server_id,
            "iat": int(claims.issued_at.timestamp()),
        }
        headers = {"kid": self.key_id, "typ": TYPE}
        return jwt.encode(payload, self._key, algorithm=ALGORITHM, headers=headers)

    def verify(self, token: str, *, hub_id: str) -> ServerClaims:
        """As `verify`, with this issuer's own key."""
        return verify(token, {self.key_id: self._key.public_key()}, hub_id=hub_id)

    def to_jwks(self) -> dict[str, Any]:
        """Public key as a JSON Web Key Set, for those who check signatures before they ask."""
        return {"keys": [to_jwk(self._key.public_key())]}


def verify(token: str, keys: Mapping[str, Ed25519PublicKey], *, hub_id: str) -> ServerClaims:
    """What a credential says, if one of these keys signed it for this hub.

    That its server still runs is for introspection to say. No clock is asked: one that was put
    back would end the credentials of all servers that run.

    Raises
    ------
    CredentialError
        Anything else.
    """
    if not isinstance(token, str) or len(token) > MAX_BYTES:
        raise CredentialError("This is not a server credential.")
    try:
        header = jwt.get_unverified_header(token)
        if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
            raise CredentialError("This is not a server credential.")
        key = keys.get(str(header.get("kid")))
        if key is None:
            raise CredentialError("The server credential is signed with a key that is not known.")
        # The algorithm is ours to say, never the token's.
        found = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            audience=AUDIENCE,
            issuer=hub_id,
            options={"require": list(_CLAIMS), "verify_iat": False, "verify_exp": False},
        )
    except jwt.PyJWTError as e:
        raise CredentialError(f"The server credential is not valid: {e}.") from e
    except (ValueError, TypeError, UnicodeError) as e:
        raise CredentialError("This is not a server credential.") from e
    return _to_claims(found)


def _to_claims(found: Mapping[str, Any]) -> ServerClaims:
    if set(found) != set(_CLAIMS):
        raise CredentialError("The server credential says more or less than it should.")
    texts = {key: found[key] for key in ("sub", "server", "team", "contest", "jti", "iss")}
    issued = found["iat"]
    if not all(isinstance(text, str) for text in texts.values()) or type(issued) is not int:
        raise CredentialError("The server credential has a claim of the wrong type.")
    try:
        issued_at = datetime.fromtimestamp(issued, tz=timezone.utc)
    except (OverflowError, OSError, ValueError) as e:
        raise CredentialError("The server credential has a time that is none.") from e
    return ServerClaims(
        hub_id=texts["iss"],
        username=texts["sub"],
        server_name=texts["server"],
        team=texts["team"],
        contest=texts["contest"],
        server_id=texts["jti"],
        issued_at=issued_at,
    )


def to_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """Public key as a JSON Web Key."""
    x = _base64url(key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": x,
        "kid": key_id(key),
        "use": "sig",
        "alg": ALGORITHM,
    }


def from_jwks(jwks: Mapping[str, Any]) -> dict[str, Ed25519PublicKey]:
    """Keys of a JSON Web Key Set by their own thumbprints; other kinds of key are passed over.

    Raises
    ------
    CredentialError
        Not a key set, or a key in it is broken.
    """
    keys: dict[str, Ed25519PublicKey] = {}
    try:
        for item in jwks["keys"]:
            if item.get("kty") == "OKP" and item.get("crv") == "Ed25519":
                raw = base64.urlsafe_b64decode(item["x"] + "=" * (-len(item["x"]) % 4))
                key = Ed25519PublicKey.from_public_bytes(raw)
                keys[key_id(key)] = key
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise CredentialError("This is not a JSON Web Key Set.") from e
    return keys


def key_id(key: Ed25519PublicKey) -> str:
    """RFC 7638 thumbprint."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    members = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(text.encode()).digest())


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """Private key of a file (PEM), made if there is none, then readable by its owner alone.

    The file's group may read one that was put there: Kubernetes mounts a Secret so for a hub that
    is not root (fsGroup). Nobody else may read it, and nobody but the owner change it.

    It is written whole under another name, then linked into place: two hubs that start at once
    end up with one key, and a crash leaves no half of one.

    Raises
    ------
    CredentialKeyError
        It cannot be read or written, is not an Ed25519 key, or its mode allows more than that.
    """
    try:
        if not path.exists():
            _create_key(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
            raise CredentialKeyError(
                f"The key file {path} can be read or changed by others (mode {mode:o})."
                f" Make a new one, or: chmod 600 {path}"
            )
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as e:
        raise CredentialKeyError(f"The key file {path} cannot be used: {e.strerror}.") from e
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise CredentialKeyError(f"The key file {path} does not hold a private key.") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise CredentialKeyError(f"The key in {path} is not an Ed25519 key.")
    return key


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    whole = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(whole, path)
        except FileExistsError:
            return  # somebody else was first; theirs counts
    finally:
        whole.unlink(missing_ok=True)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
