"""Checkpoints: signed heads of the audit log, in the form that transparency logs share.

A checkpoint is a few lines of text with an Ed25519 signature below, as C2SP has it (tlog-checkpoint
on signed-note): the log's name, its size, its head in Base64, when it was made. Tools of other
logs read them. Whoever keeps one outside can tell any change of the log before it.

It must not: read keys from files, or the clock.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .merkle import HASH_BYTES

_ED25519: Final = b"\x01"  # C2SP's number of the algorithm
_DASH: Final = "\u2014"
_NAME: Final = re.compile(r"[^\s+\u2014]{1,200}")
_TIME: Final = "time "
_MAX_CHARS: Final = 4096


class CheckpointError(ValueError):
    """Not a checkpoint, not of this log, or not signed by its key."""


class KeyTextError(ValueError):
    """Not the text of a key. The message never repeats it."""


@dataclass(frozen=True)
class Checkpoint:
    """A head of a log.

    Attributes
    ----------
    origin
        Name of the log, without white space: ``collab.example.org/audit``.
    size
        Number of events.
    root
        Head of the tree over them, 32 bytes.
    at
        When it was made, UTC, in whole seconds.
    """

    origin: str
    size: int
    root: bytes
    at: datetime

    def to_text(self) -> str:
        """What is signed. C2SP tlog-checkpoint; the time is an extension line."""
        at = self.at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n{_TIME}{at}\n"


@dataclass(frozen=True)
class LogVerifier:
    """Public key of a log: checks checkpoints."""

    origin: str
    public_key: bytes

    @classmethod
    def from_text(cls, text: str) -> LogVerifier:
        """From ``<origin>+<id>+<key>``, as C2SP's signed-note has it. Raises KeyTextError."""
        origin, public_key = _read_key(text.strip(), "")
        return cls(origin, public_key)

    def to_text(self) -> str:
        """As `from_text` takes it."""
        return _key_text("", self.origin, self.public_key, self.public_key)

    def open(self, note: str) -> Checkpoint:
        """Checkpoint that this key signed.

        Raises
        ------
        CheckpointError
            It did not, or this is no checkpoint of this log.
        """
        if len(note) > _MAX_CHARS:
            raise CheckpointError(f"longer than {_MAX_CHARS} characters")
        text, _ = _split(note)
        checkpoint = _read_text(text)
        if checkpoint.origin != self.origin:
            raise CheckpointError(f"of the log {checkpoint.origin}, not of {self.origin}")
        self.open_text(note)
        return checkpoint

    def open_text(self, note: str) -> str:
        """Text above the signatures, whatever it is, that this key signed. Raises CheckpointError.

        Whoever signs texts of another kind uses another key, or makes sure that no text can pass
        for one of the other kind.
        """
        text, signatures = _split(note)
        wanted = _key_id(self.origin, self.public_key)
        key = Ed25519PublicKey.from_public_bytes(self.public_key)
        for line in signatures.splitlines():
            parts = line.split(" ")
            if len(parts) != 3 or parts[:2] != [_DASH, self.origin]:
                continue
            found = _unbase64(parts[2])
            if found[:4] != wanted:
                continue
            try:
                key.verify(found[4:], text.encode())
            except InvalidSignature as e:
                raise CheckpointError("its signature is not valid") from e
            return text
        raise CheckpointError("not signed by this key")


class LogSigner:
    """Private key of a log: signs checkpoints."""

    def __init__(self, origin: str, private_key: Ed25519PrivateKey) -> None:
        if not _NAME.fullmatch(origin):
            raise KeyTextError(
                f"The log's name {origin!r} must have 1 to 200 characters, no white space and no +."
            )
        self.origin, self._key = origin, private_key

    @classmethod
    def generate(cls, origin: str) -> LogSigner:
        """A new key. Raises KeyTextError for a name that cannot be one."""
        return cls(origin, Ed25519PrivateKey.generate())

    @classmethod
    def from_text(cls, text: str) -> LogSigner:
        """From ``PRIVATE+KEY+<origin>+<id>+<key>``. Raises KeyTextError."""
        prefix = "PRIVATE+KEY+"
        if not text.startswith(prefix):
            raise KeyTextError("It is not the private key of a log.")
        origin, seed = _read_key(text.strip().removeprefix(prefix), "private ")
        return cls(origin, Ed25519PrivateKey.from_private_bytes(seed))

    def to_text(self) -> str:
        """As `from_text` takes it. A secret."""
        seed = self._key.private_bytes_raw()
        return _key_text("PRIVATE+KEY+", self.origin, self.verifier.public_key, seed)

    @property
    def verifier(self) -> LogVerifier:
        """The public half."""
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return LogVerifier(self.origin, public)

    def sign(self, size: int, root: bytes, at: datetime) -> str:
        """A signed checkpoint."""
        return self.sign_text(Checkpoint(self.origin, size, root, at).to_text())

    def sign_text(self, text: str) -> str:
        """A signed note of any text without blank lines that ends its last line."""
        if "\n\n" in text or not text.endswith("\n"):
            raise ValueError("not a text that a note can have")
        signature = _key_id(self.origin, self.verifier.public_key) + self._key.sign(text.encode())
        return f"{text}\n{_DASH} {self.origin} {_base64(signature)}\n"


def _split(note: str) -> tuple[str, str]:
    """What is signed, and the signatures."""
    text, blank, signatures = note.partition("\n\n")
    if not blank:
        raise CheckpointError("no signature below it")
    return text + "\n", signatures


def _read_text(text: str) -> Checkpoint:
    lines = text.split("\n")
    if len(lines) < 5 or lines[-1] or not all(lines[:-1]):
        raise CheckpointError("it does not have the lines of one")
    origin, size, root = lines[:3]
    times = [line for line in lines[3:-1] if line.startswith(_TIME)]
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size) or len(times) != 1:
        raise CheckpointError("its size or its time cannot be read")
    hashed = _unbase64(root)
    if len(hashed) != HASH_BYTES:
        raise CheckpointError("its head is not a hash")
    try:
        at = datetime.strptime(times[0] + "+0000", f"{_TIME}%Y-%m-%dT%H:%M:%SZ%z")
    except ValueError as e:
        raise CheckpointError("its time cannot be read") from e
    return Checkpoint(origin, int(size), hashed, at)


def _key_id(origin: str, public_key: bytes) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + _ED25519 + public_key).digest()[:4]


def _key_text(prefix: str, origin: str, public_key: bytes, key: bytes) -> str:
    return f"{prefix}{origin}+{_key_id(origin, public_key).hex()}+{_base64(_ED25519 + key)}"


def _read_key(text: str, what: str) -> tuple[str, bytes]:
    """Origin and 32 bytes."""
    refused = KeyTextError(f"It is not the {what}key of a log: <name>+<id>+<Base64> is one.")
    parts = text.split("+", 2)
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]):
        raise refused
    try:
        key = base64.b64decode(parts[2], validate=True)
    except (binascii.Error, ValueError):
        raise refused from None
    if key[:1] != _ED25519 or len(key) != 33:
        raise refused
    public = key[1:]
    if what:
        private = Ed25519PrivateKey.from_private_bytes(public)
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    if _key_id(parts[0], public).hex() != parts[1]:
        raise refused
    return parts[0], key[1:]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise CheckpointError("its Base64 cannot be read") from e
