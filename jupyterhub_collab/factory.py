"""Wiring that every service needs. Nothing here reaches the cluster, nor loads what does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from .auditapi import Emitter
from .errors import PermanentError
from .hubapi.client import HubClient


def make_database_engine(url: str, *, what: str) -> DatabaseEngine:
    """A service's database: SQLite in a file, or PostgreSQL.

    Parameters
    ----------
    what
        Whose it is, for people: ``the audit log's``.

    Raises
    ------
    PermanentError
        It is no such address, or its driver is not installed.
    """
    try:
        found = make_url(url)
        kind = found.get_backend_name()
        if kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not found.database):
            raise PermanentError(
                f"{what[:1].upper()}{what[1:]} database cannot be {kind}: name a file"
                " (sqlite:////path) or PostgreSQL (postgresql+psycopg://user@host/name)."
            )
        return create_engine(found, pool_pre_ping=kind == "postgresql")
    except (ArgumentError, NoSuchModuleError, ImportError) as e:
        raise PermanentError(  # without the address: a password may be in it
            f"The address of {what} database cannot be used ({type(e).__name__}). It looks"
            " like sqlite:////path or postgresql+psycopg://user@host/name."
        ) from e


def make_hub_client(
    api_url: str, token: str, *, before_change: Callable[[], None] = lambda: None
) -> HubClient:
    """Client of the hub's REST API, such as JUPYTERHUB_API_URL names it."""
    return HubClient(api_url, token, before_change=before_change)


def make_emitter(url: str, *, token_file: str, spool: str, ca_file: str = "") -> Emitter | None:
    """What tells a program's audit events; None: no audit service is configured (no URL).

    Raises
    ------
    PermanentError
        The token cannot be read, or is none.
    """
    if not url:
        return None
    if not token_file:
        raise PermanentError(
            "The audit service has an address (COLLAB_AUDIT_URL) but there is no token for it. Set"
            " COLLAB_AUDIT_TOKEN_FILE to the file that `jupyterhub-collab audit` made."
        )
    try:
        token = Path(token_file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise PermanentError(f"The token for the audit service cannot be read: {error}") from error
    return Emitter(
        Path(spool),
        url,
        token,
        now=lambda: datetime.now(timezone.utc),
        ca_file=Path(ca_file) if ca_file else None,
    )
