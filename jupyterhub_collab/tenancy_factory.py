"""Wiring of what reaches the cluster: its client, and all that keeps teams' namespaces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .auditapi import NoRecorder, Recorder
from .kube.client import KubeClient
from .kube.informer import Change
from .kube.kinds import kind_named
from .managers.group_reader import Groups
from .managers.tenancy import TenancyManager, TenancySettings
from .managers.tenancy_audit import TenancyTeller
from .managers.tenancy_status import TeamStatus
from .manifests.team_name import former_kinds_of_names, kinds_of_names
from .models import Platform
from .reconcile.engine import Engine, Outcome
from .reconcile.observed import ClusterView


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


@dataclass(frozen=True)
class Tenancy:
    """The tenancy manager, the caches it looks at, and who tells the audit log of its work."""

    manager: TenancyManager
    view: ClusterView
    teller: TenancyTeller


def make_tenancy(
    kube: KubeClient,
    groups: Groups,
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
