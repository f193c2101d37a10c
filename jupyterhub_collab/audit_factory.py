"""Wiring of the audit service: the parts of its keeper, from files and addresses.

It must not: start anything.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import yaml

from .anchors.anchor import Anchor
from .anchors.email import EmailAnchor, MailServer
from .anchors.file import FileAnchor
from .anchors.s3 import S3Anchor
from .anchors.webhook import WebhookAnchor
from .errors import PermanentError
from .models import audit_anchors as settings
from .policy.checkpoint import KeyTextError, LogSigner
from .policy.problems import DocumentError, to_document, to_field
from .policy.webhook_signature import SECRET_BYTES_MIN

_KEY_CHARS_MAX: Final = 1000


def read_signer(path: Path) -> LogSigner:
    """The log's private key.

    Raises
    ------
    PermanentError
        It cannot be read, is none, or others can read it.
    """
    try:
        with path.open() as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_KEY_CHARS_MAX)
    except (OSError, ValueError) as e:
        said = e.strerror if isinstance(e, OSError) else "it is no text"
        raise PermanentError(
            f"The audit log's key {path} cannot be read: {said}. Make one with"
            " `jupyterhub-collab audit keygen`."
        ) from e
    if mode & (stat.S_IWGRP | stat.S_IRWXO):
        raise PermanentError(f"The audit log's key {path} is open to others: chmod 600 {path}")
    try:
        return LogSigner.from_text(text.strip())
    except KeyTextError as e:
        raise PermanentError(f"The audit log's key {path} cannot be used. {e}") from e


def make_anchors(path: Path, *, now: Callable[[], datetime]) -> list[Anchor]:
    """Anchors as a file says (JSON or YAML).

    Raises
    ------
    PermanentError
        It cannot be read or is not what it should be; or a secret that it names cannot be read.
    """
    try:
        found = to_document(settings.AnchorsFile, yaml.safe_load(path.read_text("utf-8"))).anchors
    except (OSError, ValueError, yaml.YAMLError) as e:
        problems = e.problems if isinstance(e, DocumentError) else ()
        said = "; ".join(
            f"{to_field(p.path)}: found {p.found}, expected {p.expected}" for p in problems
        ) or " ".join(str(e).split())
        raise PermanentError(f"The file of anchors {path} cannot be used: {said}") from e
    names = [anchor.name for anchor in found]
    if len(set(names)) != len(names):
        raise PermanentError(f"The file of anchors {path}: each needs a name of its own.")
    return [_make_anchor(anchor, now) for anchor in found]


def _make_anchor(said: settings.AnchorSettings, now: Callable[[], datetime]) -> Anchor:
    if isinstance(said, settings.FolderAnchor):
        return FileAnchor(said.name, Path(said.folder))
    if isinstance(said, settings.WebhookAnchor):
        secret = _read_secret(said.secret_file, said.name).encode()
        if len(secret) < SECRET_BYTES_MIN:
            raise PermanentError(
                f"The secret of anchor {said.name} is shorter than {SECRET_BYTES_MIN} bytes. Make"
                " a longer one."
            )
        return WebhookAnchor(said.name, said.url, secret, interval_s=said.every_seconds)
    if isinstance(said, settings.EmailAnchor):
        password = _read_secret(said.password_file, said.name) if said.password_file else ""
        server = MailServer(said.host, said.port, said.user, password, said.tls, said.ca_file)
        return EmailAnchor(
            said.name,
            server,
            sender=said.sender,
            recipients=said.recipients,
            interval_s=said.every_seconds,
        )
    return S3Anchor(
        said.name,
        said.bucket,
        now=now,
        prefix=said.prefix,
        retain=timedelta(days=said.retain_days) if said.retain_days else None,
        mode=said.mode,
        endpoint=said.endpoint,
        region=said.region,
        ca_file=said.ca_file,
        interval_s=said.every_seconds,
    )


def _read_secret(path: str, anchor: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError) as e:
        said = e.strerror if isinstance(e, OSError) else "it is no text"
        raise PermanentError(
            f"The secret of anchor {anchor}, {path}, cannot be read: {said}"
        ) from e
