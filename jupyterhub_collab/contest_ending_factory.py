"""Wiring of the last steps of contests: a place for archives from its address, keys from files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from .auditapi import Recorder
from .errors import PermanentError
from .managers.contest_archives import KEY_BYTES_MIN, ArchiveLimits, ContestArchives
from .policy.checkpoint import KeyTextError, LogSigner
from .storage.archives import ArchiveFolder, ArchivePlace
from .storage.archives_s3 import ArchiveBucket
from .storage.contests import ContestStore

_AMAZON: Final = "https://s3.amazonaws.com"
_SETTINGS: Final = ("endpoint", "region", "lock", "ca_file")
_LOCKS: Final = ("", "COMPLIANCE", "GOVERNANCE")
_HOW: Final = (
    "Write file:///srv/archives, or s3://bucket/prefix?endpoint=https://store.example.org"
    "&region=eu&lock=COMPLIANCE (docs/teardown.md)."
)


def make_archive_place(address: str, *, spool: Path) -> ArchivePlace | None:
    """The place for copies of volumes; None: none is configured (no address).

    Parameters
    ----------
    spool
        Local folder in which copies for an object store are received.

    Raises
    ------
    PermanentError
        The address is none, or minio is not installed.
    """
    if not address:
        return None
    parts = urlsplit(address)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return ArchiveFolder(Path(unquote(parts.path)))
    said = parse_qs(parts.query, keep_blank_values=True)
    settings = {name: values[-1] for name, values in said.items()}
    lock = settings.get("lock", "").upper()
    is_right = not set(settings) - set(_SETTINGS) and lock in _LOCKS
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or not is_right:
        raise PermanentError(f"The place for archives cannot be used. {_HOW}")
    prefix = unquote(parts.path).strip("/")
    return ArchiveBucket(
        parts.netloc,
        endpoint=settings.get("endpoint", _AMAZON),
        spool=spool,
        prefix=f"{prefix}/" if prefix else "",
        lock=lock,
        region=settings.get("region"),
        ca_file=settings.get("ca_file"),
    )


def make_contest_archives(
    address: str,
    store: ContestStore,
    recorder: Recorder,
    *,
    state: Path,
    prefix: str,
    now: Callable[[], datetime],
    limits: ArchiveLimits | None = None,
) -> ContestArchives | None:
    """Archives of a contests service that keeps its state in a folder; None: nothing is archived.

    Parameters
    ----------
    prefix
        Path below which the service answers, with a slash at both ends.

    Raises
    ------
    PermanentError
        As `make_archive_place`; or the key in the folder cannot be read or made.
    """
    place = make_archive_place(address, spool=state / "archives-incoming")
    if place is None:
        return None
    key = read_or_make_key(state / "archives.key")
    return ContestArchives(place, store, recorder, key=key, prefix=prefix, now=now, limits=limits)


def read_or_make_key(path: Path) -> bytes:
    """The secret that tokens are made with; made where there is none. Raises PermanentError."""
    text = _read_or_make(path, lambda: secrets.token_hex(KEY_BYTES_MIN))
    if len(text) < 2 * KEY_BYTES_MIN:
        raise PermanentError(f"{path} is no key: remove it, and a new one is made.")
    return text.encode()


def read_or_make_signer(path: Path, origin: str) -> LogSigner:
    """The key that signs certificates; made where there is none, with its public half beside it.

    Parameters
    ----------
    origin
        Of a new one: ``hub.example.org/contests``.

    Raises
    ------
    PermanentError
        It cannot be read or made.
    """
    try:
        text = _read_or_make(path, lambda: LogSigner.generate(origin).to_text())
        signer = LogSigner.from_text(text)
    except KeyTextError as error:
        raise PermanentError(f"The certificates' key {path} cannot be used: {error}") from error
    public = path.with_name(f"{path.name}.pub")
    with suppress(OSError):  # whoever needs it has it from the private one
        public.write_text(signer.verifier.to_text() + "\n", encoding="utf-8")
    return signer


def _read_or_make(path: Path, make: Callable[[], str]) -> str:
    try:
        with suppress(FileExistsError):  # of two that start at once the first makes it
            opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(opened, "w", encoding="utf-8") as file:
                file.write(make() + "\n")
                file.flush()
                os.fsync(file.fileno())
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise PermanentError(f"The key {path} cannot be read or made: {error}") from error
