"""Public keys of those whose signed tokens let people in: a JSON Web Key Set, by address or file.

A key is used for the algorithms it is for and no others, and only asymmetric ones exist here: a
public key can never pass for the secret of an HMAC. A key that cannot be used (broken, too weak,
for encryption) is passed over by name; the rest of the set still counts. A set that is well-formed
and holds none counts too: then nobody is let in, as its owner says.

Notes
-----
RFC 7517 (JWK), RFC 7518 (algorithms), RFC 7638 (thumbprint), RFC 8037 (EdDSA).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from .documents import (
    MAX_BYTES,
    CachedDocument,
    DocumentReader,
    SourceMisconfiguredError,
    SourceUnavailableError,
    check_address,
)
from .signed_token import PublicKey, TokenRefusedError, is_clean_text
from .strict_json import parse_object

RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
CURVE_ALGORITHMS: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
ALGORITHMS: Final = RSA_ALGORITHMS | set(CURVE_ALGORITHMS.values()) | {"EdDSA"}

MAX_AGE_S: Final = 600.0  # a key taken out of the set is refused after this at the latest
STALE_S: Final = 3600.0  # and after this much more while the set cannot be read
COOL_DOWN_S: Final = 30.0  # strangers with made-up key ids cause one read in this time
RETRY_S: Final = 5.0
MAX_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8193)  # weaker is broken soon; larger only costs time to verify
_PRIVATE_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
log = logging.getLogger(__name__)


class KeySource(Protocol):
    """Where keys of one issuer come from: `RemoteKeys` or `KeyFile`."""

    async def find(self, key_id: str | None, algorithm: str) -> PublicKey:
        """The key of that id for that algorithm; without an id, the only one for it.

        Raises
        ------
        TokenRefusedError
            There is none.
        SourceUnavailableError, SourceMisconfiguredError
            Nobody can tell.
        """


@dataclass(frozen=True)
class VerificationKey:
    """One key and what it is for."""

    key_id: str | None
    algorithms: frozenset[str]
    key: PublicKey


@dataclass(frozen=True)
class KeySet:
    """Keys that can be used, and those that cannot, each with a name and why."""

    keys: tuple[VerificationKey, ...]
    skipped: tuple[str, ...] = ()

    def find(self, key_id: str | None, algorithm: str) -> PublicKey | None:
        """See `KeySource.find`; None when there is none."""
        fitting = [item for item in self.keys if algorithm in item.algorithms]
        if key_id is None:
            return fitting[0].key if len(fitting) == 1 else None
        return next((item.key for item in fitting if item.key_id == key_id), None)


class _UnfitError(Exception):
    """A key of a set that is passed over. Says why."""


def check_algorithms(algorithms: Iterable[str]) -> frozenset[str]:
    """An administrator's list of algorithms.

    Raises
    ------
    SourceMisconfiguredError
        It is empty, or names one that is symmetric, "none", or unknown.
    """
    wanted = frozenset([algorithms] if isinstance(algorithms, str) else algorithms)
    if not wanted or not wanted <= ALGORITHMS:
        raise SourceMisconfiguredError(
            f"algorithms: found {', '.join(sorted(map(repr, wanted - ALGORITHMS))) or 'none'};"
            f" expected some of {', '.join(sorted(ALGORITHMS))}"
        )
    return wanted


def parse_key_set(document: Mapping[str, Any], *, algorithms: Collection[str]) -> KeySet:
    """Keys of a JSON Web Key Set for these algorithms.

    Raises
    ------
    ValueError
        It is no key set, or holds more than `MAX_KEYS`.
    """
    items = document.get("keys")
    if not isinstance(items, list):
        raise ValueError("it is no JSON Web Key Set: it has no list of keys")
    if len(items) > MAX_KEYS:
        raise ValueError(f"it holds more than {MAX_KEYS} keys")
    keys: list[VerificationKey] = []
    skipped: list[str] = []
    for number, item in enumerate(items, start=1):
        try:
            key = _read_key(item, frozenset(algorithms))
            for other in keys:
                if other.key_id == key.key_id is not None and other.algorithms & key.algorithms:
                    raise _UnfitError("an earlier key has the same id")
        except _UnfitError as e:
            skipped.append(f"key {number} ({_name_of(item)}): {e}")
        else:
            keys.append(key)
    return KeySet(tuple(keys), tuple(skipped))


def _name_of(item: object) -> str:
    key_id = item.get("kid") if isinstance(item, dict) else None
    return repr(key_id[:64]) if isinstance(key_id, str) else "without an id"


def _read_key(item: object, wanted: frozenset[str]) -> VerificationKey:
    """One key of a set.

    Raises
    ------
    _UnfitError
        It cannot or must not be used.
    """
    if not isinstance(item, dict):
        raise _UnfitError("no JSON object")
    if _PRIVATE_MEMBERS & set(item):
        raise _UnfitError("it is symmetric or holds its private part")
    if item.get("use", "sig") != "sig":
        raise _UnfitError("not for signatures (use)")
    operations = item.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise _UnfitError("not to verify with (key_ops)")
    key_id = item.get("kid")
    if key_id is not None and not is_clean_text(key_id):
        raise _UnfitError("its id (kid) is no text of 1 to 255 characters")
    fitting = _algorithms_of(item)
    if "alg" in item:
        fitting &= {item["alg"]} if isinstance(item["alg"], str) else set()
    if not fitting & wanted:
        raise _UnfitError("for no algorithm that is allowed here (kty, crv, alg)")
    return VerificationKey(key_id, fitting & wanted, _make_key(item))


def _algorithms_of(item: Mapping[str, Any]) -> frozenset[str]:
    kind, curve = item.get("kty"), item.get("crv")
    if kind == "RSA":
        return RSA_ALGORITHMS
    if kind == "EC" and isinstance(curve, str) and curve in CURVE_ALGORITHMS:
        return frozenset({CURVE_ALGORITHMS[curve]})
    if kind == "OKP" and curve == "Ed25519":
        return frozenset({"EdDSA"})
    return frozenset()


def _make_key(item: dict[str, Any]) -> PublicKey:
    try:
        key: object
        if item["kty"] == "RSA":
            key = RSAAlgorithm.from_jwk(item)
        elif item["kty"] == "EC":
            key = ECAlgorithm.from_jwk(item)
        else:
            key = OKPAlgorithm.from_jwk(item)
    except (
        jwt.PyJWTError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        UnsupportedAlgorithm,
    ) as e:
        raise _UnfitError("broken") from e
    if isinstance(key, RSAPublicKey):
        if key.key_size not in _RSA_BITS:
            raise _UnfitError(f"{key.key_size} bits; from 2048 to 8192 are used")
        if not 3 <= key.public_numbers().e < 2**64:
            raise _UnfitError("its exponent (e) is not between 3 and 2^64")
        return key
    if isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey):
        return key
    raise _UnfitError("no public key")


class RemoteKeys:
    """A key set at an address, kept for `MAX_AGE_S`. Close it when done; the reader stays open.

    A key id that is not known has the set read anew, at most once in `COOL_DOWN_S`: so a new key
    counts at once, and made-up ids cost its owner little. Right after such a read a key that is
    newer still is refused for the rest of that time.

    Parameters
    ----------
    clock
        Seconds of a clock that never jumps.
    """

    def __init__(
        self,
        url: str,
        reader: DocumentReader,
        *,
        algorithms: Iterable[str],
        clock: Callable[[], float] = time.monotonic,
        max_age_s: float = MAX_AGE_S,
        stale_s: float = STALE_S,
        cool_down_s: float = COOL_DOWN_S,
    ) -> None:
        self.url = check_address(url, "jwks_uri", plain_http=reader.plain_http)
        self.algorithms = check_algorithms(algorithms)
        self._reader = reader
        self._skipped: tuple[str, ...] = ()
        self._set = CachedDocument(
            f"key set {url}",
            self._load,
            clock=clock,
            max_age_s=max_age_s,
            stale_s=stale_s,
            cool_down_s=cool_down_s,
            retry_s=RETRY_S,
        )

    async def find(self, key_id: str | None, algorithm: str) -> PublicKey:
        """See `KeySource.find`."""
        key = (await self._set.get()).find(key_id, algorithm)
        if key is not None:
            return key
        found = await self._set.get_newer()
        key = found.find(key_id, algorithm)
        if key is None:
            raise _unknown_key(key_id, self.url, found)
        return key

    async def load(self) -> KeySet:
        """All of them. Raises SourceUnavailableError and SourceMisconfiguredError."""
        return await self._set.get()

    async def close(self) -> None:
        """Stop a read that is on its way."""
        await self._set.close()

    async def _load(self) -> KeySet:
        document = await self._reader.read(self.url, "key set")
        try:
            found = parse_key_set(document, algorithms=self.algorithms)
        except ValueError as e:
            raise SourceUnavailableError(f"key set {self.url}: {e}") from None
        if found.skipped != self._skipped:
            self._skipped = found.skipped
            log.info("Keys of %s that are not used: %s", self.url, "; ".join(found.skipped))
        return found


class KeyFile:
    """A key set in a file, read again when the file changes: a JSON Web Key Set, or public keys in
    PEM, whose ids are their thumbprints.

    Whoever can write it can sign in as anybody, so only its owner may.
    """

    def __init__(self, path: Path, *, algorithms: Iterable[str]) -> None:
        self.path = path
        self.algorithms = check_algorithms(algorithms)
        self._read: tuple[tuple[int, ...], KeySet] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> PublicKey:
        """See `KeySource.find`."""
        found = await self.load()
        key = found.find(key_id, algorithm)
        if key is None:
            raise _unknown_key(key_id, str(self.path), found)
        return key

    async def load(self) -> KeySet:
        """All of them. Raises SourceMisconfiguredError."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> KeySet:
        try:
            with self.path.open("rb") as file:
                # Of the open file: the path may name another one a moment later.
                status = os.fstat(file.fileno())
                if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise SourceMisconfiguredError(
                        f"The key file {self.path} can be changed by others"
                        f" (mode {stat.S_IMODE(status.st_mode):o}). chmod go-w {self.path}"
                    )
                version = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
                read = self._read
                if read is not None and read[0] == version:
                    return read[1]
                data = file.read(MAX_BYTES + 1)
        except OSError as e:
            raise SourceMisconfiguredError(
                f"The key file {self.path} cannot be read: {e.strerror}."
            ) from e
        try:
            if len(data) > MAX_BYTES:
                raise ValueError(f"it has more than {MAX_BYTES} bytes")
            document = to_key_set(*_read_pem(data)) if _is_pem(data) else parse_object(data)
            found = parse_key_set(document, algorithms=self.algorithms)
        except ValueError as e:
            raise SourceMisconfiguredError(
                f"The key file {self.path} is no key set: {e}."
            ) from None
        if found.skipped:
            log.info("Keys of %s that are not used: %s", self.path, "; ".join(found.skipped))
        self._read = (version, found)
        return found


_PEM_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


def _is_pem(data: bytes) -> bool:
    return b"-----BEGIN" in data and not data.lstrip().startswith(b"{")


def _read_pem(data: bytes) -> list[PublicKey]:
    """Public keys. Raises ValueError."""
    keys: list[PublicKey] = []
    for block in _PEM_BLOCK.finditer(data):
        if block[1] != b"PUBLIC KEY":
            raise ValueError(
                f"it holds a {block[1].decode()} in PEM; only PUBLIC KEY belongs there"
            )
        try:
            key = serialization.load_pem_public_key(block[0])
        except UnsupportedAlgorithm as e:
            raise ValueError("it holds a public key of an unknown kind") from e
        if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
            raise ValueError("it holds a public key that signs nothing here")
        keys.append(key)
    if not keys:
        raise ValueError("its PEM is cut off")
    return keys


def _unknown_key(key_id: str | None, where: str, found: KeySet) -> TokenRefusedError:
    how = "names none, and not exactly one fits" if key_id is None else "names one that is not"
    among = f"; not used there: {'; '.join(found.skipped)}" if found.skipped else ""
    return TokenRefusedError(f"header kid: {how} in {where} ({len(found.keys)} usable{among})")


def thumbprint(key: PublicKey) -> str:
    """RFC 7638 thumbprint: a key id that nobody has to think up."""
    members = {k: v for k, v in to_jwk(key).items() if k in ("crv", "e", "kty", "n", "x", "y")}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return _base64url(hashlib.sha256(text.encode()).digest())


def to_jwk(key: PublicKey, *, key_id: str | None = None) -> dict[str, str]:
    """Public key as a JSON Web Key, with ``kid`` when one is given."""
    more = {"use": "sig"} if key_id is None else {"use": "sig", "kid": key_id}
    if isinstance(key, Ed25519PublicKey):
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(raw), **more}
    if isinstance(key, EllipticCurvePublicKey):
        found = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        found = RSAAlgorithm.to_jwk(key, as_dict=True)
    members = ("kty", "crv", "x", "y", "n", "e")
    return {**{name: str(found[name]) for name in members if name in found}, **more}


def to_key_set(*keys: PublicKey) -> dict[str, Any]:
    """Public keys as a JSON Web Key Set, their thumbprints as ids."""
    return {"keys": [to_jwk(key, key_id=thumbprint(key)) for key in keys]}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
