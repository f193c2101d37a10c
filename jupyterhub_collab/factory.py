"""Wiring: the one place that builds managers from their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Engine as DatabaseEngine
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from .auditapi import Emitter, NoRecorder, Recorder
from .errors import PermanentError
from .hubapi.client import HubClient
from .kube.client import KubeClient
from .kube.informer import Change
from .kube.kinds import kind_named
from .managers.tenancy import GroupReader, TenancyManager, TenancySettings
from .managers.tenancy_audit import TenancyTeller
from .managers.tenancy_status import TeamStatus
from .manifests.team_name import former_kinds_of_names, kinds_of_names
from .models import Platform
from .reconcile.engine import Engine, Outcome
from .reconcile.observed import ClusterView


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


async def make_kube_client(
    kubeconfig: Path | str | None,
    *,
    timeout_s: float = 30.0,
    on_request: Callable[[str, str, int], None] | None = None,
) -> KubeClient:
    """Client of the cluster that a kubeconfig names; None: the one this pod runs in.

    Raises
    ------
    PermanentError
        It cannot be told which cluster, or as whom.
    """
    if kubeconfig is None:
        return KubeClient.in_cluster(timeout_s=timeout_s, on_request=on_request)
    return await KubeClient.from_kubeconfig(kubeconfig, timeout_s=timeout_s, on_request=on_request)


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


@dataclass(frozen=True)
class Tenancy:
    """The tenancy manager, the caches it looks at, and who tells the audit log of its work."""

    manager: TenancyManager
    view: ClusterView
    teller: TenancyTeller


def make_tenancy(
    kube: KubeClient,
    groups: GroupReader,
    platform: Platform,
    *,
    settings: TenancySettings | None = None,
    on_ready: Callable[[TeamStatus, Mapping[str, Any]], None] = lambda _status, _namespace: None,
    on_pass: Callable[[str, float, Outcome | None], None] = lambda _team, _seconds, _outcome: None,
    informer_options: Mapping[str, Any] | None = None,
    recorder: Recorder | None = None,
) -> Tenancy:
    """All that keeps teams' namespaces. `recorder`: what is told of it; None: nobody."""
    manager: TenancyManager | None = None

    def on_drift(team: str, change: Change) -> None:
        if manager is not None:
            manager.on_drift(team, change)

    view = ClusterView(
        kube,
        hub_id=platform.hub_id,
        namespace_prefix=platform.namespace_prefix,
        on_drift=on_drift,
        informer_options=informer_options,
        more_kinds=tuple(map(kind_named, kinds_of_names(platform))),
        former_kinds=tuple(map(kind_named, former_kinds_of_names(platform))),
    )
    teller = TenancyTeller(recorder or NoRecorder(), view)

    def on_end(team: str, seconds: float, outcome: Outcome | None) -> None:
        if manager is not None:
            teller.on_pass(team, manager.status(team), outcome)
        on_pass(team, seconds, outcome)

    manager = TenancyManager(
        Engine(kube, view, on_step=teller.on_step),
        view,
        groups,
        platform,
        settings=settings,
        on_ready=on_ready,
        on_pass=on_end,
    )
    return Tenancy(manager, view, teller)
