"""`jupyterhub-collab doctor`: is this machine ready for `up`, and what must one know; a line each.

It must not: change anything, or start anything. How people log in is in `doctor_auth`.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import ClassVar

import typer
from rich.console import Console
from rich.markup import escape

from ..constants import (
    ANNOTATION_DESTROY,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
    PLATFORM_CONFIG_MAP,
    PLATFORM_FILE,
)
from ..embedded import WARNING
from ..errors import CollabError, KubeError, UserError
from ..kube.client import KubeClient
from ..kube.errors import NotFoundError, PermanentKubeError
from ..kube.kinds import (
    ADMISSION_POLICY,
    ADMISSION_POLICY_BINDING,
    CONFIG_MAP,
    NAMESPACE,
    PERSISTENT_VOLUME,
)
from ..manifests.guard import find_problems
from ..manifests.manifest import Manifest
from ..models import Platform
from .demo_options import DEFAULT_DATA, Data, Kubeconfig, Port
from .lazy_group import LazyGroup
from .up.ground import check_reachable, read_server
from .up.lease import read_live_holder
from .up.ports import check_port
from .up.proxy import cache_folder, find_node, find_npm

OLDEST_PYTHON = (3, 10)
_OURS = f"{LABEL_MANAGED_BY}={MANAGED_BY}"
_NO_SETTINGS = f"no ConfigMap {PLATFORM_CONFIG_MAP} says its settings"
_NAMED = 5  # of teams, where there may be thousands
_NEEDED = ("jupyterlab", "ipykernel", "pandas", "matplotlib", "vega_datasets")


class Parts(LazyGroup):
    """What `doctor` checks when asked for by name."""

    modules: ClassVar[Mapping[str, str]] = {"auth": "doctor_auth"}


doctors = typer.Typer(cls=Parts, invoke_without_command=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(doctors, name="doctor")


@doctors.callback()
def doctor(
    context: typer.Context,
    data: Data = DEFAULT_DATA,
    port: Port = 8000,
    kubeconfig: Kubeconfig = None,
) -> None:
    """Check what `up` needs; one line each. Exit code 1 when something is wrong.

    `doctor auth` checks how people log in to a hub.
    """
    if context.invoked_subcommand is not None:
        return
    options = DoctorOptions(data=data, port=port, kubeconfig=kubeconfig)
    if not run_doctor(options, Console(highlight=False, soft_wrap=True)):
        raise typer.Exit(1)


class Verdict(str, Enum):
    """How a check went."""

    GOOD = "[green]✓[/]"
    NOTE = "[yellow]![/]"
    BAD = "[red]✗[/]"


@dataclass(frozen=True)
class Finding:
    """One line."""

    verdict: Verdict
    text: str


@dataclass(frozen=True)
class DoctorOptions:
    """What `up` would be started with."""

    data: Path
    port: int
    kubeconfig: Path | None


def run_doctor(options: DoctorOptions, console: Console) -> bool:
    """Print a line a check; whether `up` would start."""
    checks: tuple[Callable[[DoctorOptions], Finding], ...] = (
        check_python,
        check_node,
        check_proxy,
        check_packages,
        check_data,
        check_port_free,
        check_localhost,
        check_cluster,
        check_network_policies,
        check_admission_policies,
        check_retention,
    )
    found = [check(options) for check in checks]
    for finding in found:
        console.print(f"{finding.verdict.value} {escape(finding.text)}")
    return all(finding.verdict is not Verdict.BAD for finding in found)


def check_python(options: DoctorOptions) -> Finding:
    """Is this Python new enough."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return Finding(Verdict.BAD, f"Python {version} is too old; 3.10 or newer is needed.")
    return Finding(Verdict.GOOD, f"Python {version}")


def check_node(options: DoctorOptions) -> Finding:
    """Is there a Node.js with npm to run the proxy."""
    try:
        node = find_node()
        find_npm(node)
    except UserError as e:
        return Finding(Verdict.BAD, str(e))
    return Finding(Verdict.GOOD, f"Node.js and npm: {node}")


def check_proxy(options: DoctorOptions) -> Finding:
    """Is the proxy installed, or will the first start do it."""
    folder = cache_folder()
    if folder.exists():
        return Finding(Verdict.GOOD, f"Proxy installed in {folder}")
    return Finding(
        Verdict.NOTE, "The proxy is not installed; the first start does it and needs npm."
    )


def check_packages(options: DoctorOptions) -> Finding:
    """Are the packages there that servers of the embedded cluster run with."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing and options.kubeconfig is None:
        return Finding(
            Verdict.BAD,
            f"Missing: {', '.join(missing)}; install with `pip install 'jupyterhub-collab[demo]'`.",
        )
    return Finding(Verdict.GOOD, "JupyterLab and the sample's packages")


def check_data(options: DoctorOptions) -> Finding:
    """Is the data folder absent, free, or in use."""
    root = options.data.expanduser().absolute()
    if not root.exists():
        return Finding(Verdict.GOOD, f"Data folder {root}: will be made")
    if not root.is_dir():
        return Finding(Verdict.BAD, f"{root} is not a folder; choose another with --data.")
    holder = read_live_holder(root / "up.lock")
    if holder is not None:
        return Finding(Verdict.NOTE, f"Data folder {root}: in use by process {holder.pid}")
    marker = root / "collab.json"
    if marker.exists():
        try:
            json.loads(marker.read_text())
        except (OSError, ValueError):
            return Finding(Verdict.BAD, f"Data folder {root}: damaged, collab.json is unreadable")
        return Finding(Verdict.GOOD, f"Data folder {root}: whole, not in use")
    if (root / ".preparing").exists():
        return Finding(Verdict.NOTE, f"Data folder {root}: its first start was cut short")
    if any(root.iterdir()):
        return Finding(Verdict.BAD, f"{root} holds other files; choose another with --data.")
    return Finding(Verdict.GOOD, f"Data folder {root}: empty")


def check_port_free(options: DoctorOptions) -> Finding:
    """Can the proxy listen."""
    try:
        check_port("127.0.0.1", options.port, option="--port")
    except UserError as e:
        in_use = read_live_holder(options.data.expanduser().absolute() / "up.lock")
        return Finding(Verdict.NOTE if in_use else Verdict.BAD, str(e))
    return Finding(Verdict.GOOD, f"Port {options.port} is free")


def check_localhost(options: DoctorOptions) -> Finding:
    """Do programs other than browsers resolve ``*.localhost`` here (browsers do by themselves)."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo("ada.hub.localhost", options.port)}
    except OSError:
        found = set()
    if found and found <= {"127.0.0.1", "::1"}:
        return Finding(Verdict.GOOD, "*.localhost leads to this machine")
    return Finding(
        Verdict.NOTE,
        "*.localhost leads nowhere outside browsers; Chromium, Chrome, Edge and Firefox resolve "
        "it by themselves.",
    )


def check_cluster(options: DoctorOptions) -> Finding:
    """Does the cluster answer."""
    if options.kubeconfig is None:
        return Finding(Verdict.NOTE, WARNING)
    try:
        server = read_server(options.kubeconfig)
        asyncio.run(check_reachable(options.kubeconfig))
    except CollabError as e:
        return Finding(Verdict.BAD, str(e))
    return Finding(Verdict.GOOD, f"Cluster {server} answers")


def check_network_policies(options: DoctorOptions) -> Finding:
    """Are NetworkPolicies enforced: known for the embedded cluster, not asked of another."""
    if options.kubeconfig is None:
        return Finding(Verdict.NOTE, "NetworkPolicies: kept, not enforced, by the embedded cluster")
    return Finding(
        Verdict.NOTE,
        "NetworkPolicies: the API server cannot tell whether this cluster's network enforces "
        "them; check that its CNI plug-in does.",
    )


def check_admission_policies(options: DoctorOptions) -> Finding:
    """Are our admission policies there, whole and of this version."""
    if options.kubeconfig is None:
        return Finding(Verdict.NOTE, "Admission policies: none on the embedded cluster")
    try:
        policies, platforms, unread = asyncio.run(_read_policies(options.kubeconfig))
    except CollabError as e:
        return Finding(Verdict.NOTE, f"Admission policies: {_unread(e)}.")
    problems = find_problems(policies, platforms)
    cure = "let an administrator of the cluster apply what `jupyterhub-collab rbac` prints"
    if not problems:
        return Finding(
            Verdict.BAD,
            "Admission policies: THERE ARE NONE. Nothing holds hub and provisioner if somebody "
            f"takes them over; {cure}.",
        )
    bad = [f"of hub {hub} {problem}" for hub, problem in sorted(problems.items()) if problem]
    if bad:
        return Finding(Verdict.BAD, f"Admission policies {'; '.join(bad)}; {cure}.")
    text = f"Admission policies hold {', '.join(sorted(problems))}"
    for hub in sorted(problems.keys() - platforms.keys()):
        text += f"; of {hub} the version alone was compared: {unread.get(hub, _NO_SETTINGS)}"
    classless = sorted(hub for hub, found in platforms.items() if found.storage_class is None)
    if classless:
        text += (
            f". {', '.join(classless)} names no storage_class: unless a contest names one, a hub "
            "that somebody took over may choose any, and bind volumes that lie ready in it"
        )
    return Finding(Verdict.NOTE if classless else Verdict.GOOD, text)


def check_retention(options: DoctorOptions) -> Finding:
    """Which teams an administrator released: the provisioner deletes them when a host says so."""
    if options.kubeconfig is None:
        return Finding(Verdict.NOTE, "Decisions to destroy: no second key on the embedded cluster")
    try:
        released = asyncio.run(_read_released(options.kubeconfig))
    except CollabError as e:
        return Finding(Verdict.NOTE, f"Decisions to destroy: {_unread(e)}.")
    if not released:
        return Finding(Verdict.GOOD, "Decisions to destroy: none stands")
    teams = "; ".join(f"{contest}: {_some(names)}" for contest, names in sorted(released.items()))
    return Finding(
        Verdict.NOTE,
        f"Decisions to destroy ({ANNOTATION_DESTROY}) stand for teams of {teams}. Take back what "
        f"is not meant: kubectl annotate namespace,persistentvolume ... {ANNOTATION_DESTROY}-",
    )


def _unread(error: CollabError) -> str:
    if isinstance(error, KubeError) and error.status == 403:
        return "this kubeconfig may not read them; ask as an administrator of the cluster"
    return "not asked, the cluster does not answer"  # which another line says


async def _read_policies(
    kubeconfig: Path,
) -> tuple[list[Manifest], dict[str, Platform], dict[str, str]]:
    """Policies and bindings of ours, of all hubs; settings of hubs inside the cluster, and why not.

    Settings, and why they could not be had, are by hub id.
    """
    found: list[Manifest] = []
    async with await KubeClient.from_kubeconfig(kubeconfig, timeout_s=10) as client:
        for kind in (ADMISSION_POLICY, ADMISSION_POLICY_BINDING):
            items = await client.list(kind, label_selector=_OURS)
            found += [{**item, "kind": kind.name} for item in items]
        platforms: dict[str, Platform] = {}
        unread: dict[str, str] = {}
        # A policy's name ends with its hub's namespace.
        homes = {(_hub_of(p), p["metadata"]["name"].partition(".")[2]) for p in found}
        for hub, home in sorted(homes):
            read = await _read_platform(client, hub, home)
            if isinstance(read, Platform):
                platforms[hub] = read
            else:
                unread[hub] = read
    return found, platforms, unread


def _hub_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["labels"].get(LABEL_HUB, ""))


async def _read_platform(client: KubeClient, hub: str, home: str) -> Platform | str:
    """A hub's settings; in words why they could not be had."""
    where = f"the ConfigMap {PLATFORM_CONFIG_MAP} in {home}"
    try:
        config = await client.get(CONFIG_MAP, PLATFORM_CONFIG_MAP, home)
        platform = Platform.model_validate_json(config["data"][PLATFORM_FILE])
    except NotFoundError:  # a hub outside the cluster has none
        return _NO_SETTINGS
    except PermanentKubeError as error:
        if error.status != 403:
            raise
        return f"this kubeconfig may not read {where}"
    except (KeyError, ValueError):
        return f"{where} holds no settings that this program can read"
    return platform if platform.hub_id == hub else f"{where} is of the hub {platform.hub_id!r}"


async def _read_released(kubeconfig: Path) -> dict[str, set[str]]:
    """Teams of which something is released for their contest's end, by hub and contest."""
    released: dict[str, set[str]] = {}
    async with await KubeClient.from_kubeconfig(kubeconfig, timeout_s=10) as client:
        for kind in (NAMESPACE, PERSISTENT_VOLUME):
            for item in await client.list(kind, label_selector=_OURS):
                labels = item["metadata"]["labels"]
                word = (item["metadata"].get("annotations") or {}).get(ANNOTATION_DESTROY)
                if word is not None and word == labels.get(LABEL_CONTEST):
                    contest = f"{_hub_of(item)}'s contest {word}"
                    released.setdefault(contest, set()).add(labels.get(LABEL_TEAM, "?"))
    return released


def _some(names: set[str]) -> str:
    first = sorted(names)[:_NAMED]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
