"""One run of `up`, from the data folder's lease to the orderly end.

Order: folder, leftovers of a crash, ports, ground, samples, settings, programs, contests. What a
person can put right is a UserError with one sentence; everything started by then is stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

from rich.console import Console

from ...hub.demo_accounts import HOST_ACCOUNT
from ...hub.demo_settings import DOMAIN, DemoSettings
from ...models import ContestManifest, Platform
from .audit import put_audit
from .contests import apply_manifest, read_manifest
from .data_folder import DataFolder, choose_ports, open_data_folder, write_file
from .directory import make_directory_program, put_directory
from .ground import (
    NAMES_SUFFIX,
    Ground,
    ensure_hub_namespace,
    find_archives_url,
    make_embedded_ground,
    make_platform,
    make_real_ground,
    put_names,
)
from .lease import end_leftover
from .ports import check_port
from .program import Program
from .programs import make_programs
from .proxy import install_proxy
from .samples import CSI_DRIVER, SampleSettings, put_samples
from .supervisor import Supervisor

BIND_ADDRESS = "127.0.0.1"
DEFAULT_IMAGE = "jupyterhub-collab/singleuser-basic:0.1.0"


@dataclass(frozen=True)
class UpOptions:
    """What a person said.

    Attributes
    ----------
    manifests
        Contest manifests to apply; the samples when there is none.
    kubeconfig
        A real cluster; None: the embedded one.
    platform
        File of further platform settings, for a real cluster.
    auth
        ``demo``: accounts of the hub's own; ``ldap``: a real directory, started with the rest.
    sample_driver, sample_datasets
        CSI driver that mounts the samples' data on a real cluster, and their place there.
    """

    data: Path
    port: int
    manifests: tuple[Path, ...] = ()
    kubeconfig: Path | None = None
    provisioner_kubeconfig: Path | None = None
    hub_address: str | None = None
    platform: Path | None = None
    auth: str = "demo"
    image: str = DEFAULT_IMAGE
    sample_driver: str = CSI_DRIVER
    sample_datasets: str | None = None


def run_up(options: UpOptions, console: Console) -> None:
    """Run until told to stop. Raises UserError with one sentence."""
    began = time.monotonic()
    opened = open_data_folder(options.data)
    try:
        for note in opened.notes:
            console.print(f"[yellow]![/] {note}")
        _end_leftovers(opened.folder, console)
        prepared = _prepare(options, opened.folder, console)
        asyncio.run(_run(prepared, console, began))
    finally:
        opened.lease.release()


@dataclass(frozen=True)
class _Prepared:
    folder: DataFolder
    settings: DemoSettings
    ground: Ground
    programs: list[Program]
    manifests: list[ContestManifest]
    platform: Platform


def _end_leftovers(folder: DataFolder, console: Console) -> None:
    """Programs whose supervisor was killed, where the kernel did not end them with it."""
    for lock in sorted((folder.root / "leases").glob("*.lock")):
        ended = end_leftover(lock)
        if ended is not None:
            console.print(f"[yellow]![/] Ended {ended.name} (process {ended.pid}) of the last run.")


def _prepare(options: UpOptions, folder: DataFolder, console: Console) -> _Prepared:
    check_port(BIND_ADDRESS, options.port, option="--port")
    local = dict.fromkeys(("proxy_api", "provisioner", "audit", "contests"), BIND_ADDRESS)
    if options.auth == "ldap":
        local["directory"] = BIND_ADDRESS
    if options.kubeconfig is None:
        wanted = dict.fromkeys(("hub", "cluster", "names"), BIND_ADDRESS) | local
        ports = choose_ports(folder, wanted, public_port=options.port)
        ground = make_embedded_ground(folder.cluster, port=ports["cluster"])
    else:
        ground = make_real_ground(
            options.kubeconfig,
            provisioner_kubeconfig=options.provisioner_kubeconfig,
            hub_address=options.hub_address,
        )
        wanted = {**local, "hub": ground.hub_address}
        ports = choose_ports(folder, wanted, public_port=options.port)
    platform = make_platform(
        ground,
        hub_port=ports["hub"],
        port=options.port,
        public_url=f"http://{DOMAIN}:{options.port}",
        extra=options.platform,
        image=options.image,
        contests_port=ports["contests"],
    )
    archives_url = find_archives_url(ground, platform)
    if archives_url:
        port = urlsplit(archives_url).port or 80
        check_port(ground.hub_address, port, option="contests.port in the platform's settings")
    sample = SampleSettings(
        options.image,
        options.sample_driver,
        options.sample_datasets,
        NAMES_SUFFIX if ground.embedded else None,
    )
    files = list(options.manifests) or put_samples(folder, sample)
    manifests = [read_manifest(file, platform) for file in files]
    directory = None
    if options.auth == "ldap":
        port = ports["directory"]
        directory = put_directory(folder, manifests, host=HOST_ACCOUNT, port=port)
    settings = DemoSettings(
        data=str(folder.root),
        bind_address=BIND_ADDRESS,
        port=options.port,
        hub_address=ground.hub_address,
        hub_port=ports["hub"],
        proxy_api_port=ports["proxy_api"],
        provisioner_port=ports["provisioner"],
        audit_port=ports["audit"],
        contests_port=ports["contests"],
        names_port=ports.get("names"),
        kubeconfig=str(ground.kubeconfig),
        platform_file=str(folder.platform),
        embedded=ground.embedded,
        warning=ground.warning,
        directory=None if directory is None else directory.to_settings(),
    )
    write_file(folder.platform, platform.model_dump_json(by_alias=True, exclude_none=True))
    write_file(folder.settings, settings.to_json())
    write_file(folder.root / "run" / "environment", _environment(folder, settings))
    with console.status("Installing the proxy (first start only)"):
        script = install_proxy(tell=lambda line: _say(console, f"[dim]{line}[/]"))
    put_audit(folder)
    if settings.names_port is not None:
        put_names(folder.cluster, port=settings.names_port, proxy_api_port=settings.proxy_api_port)
    programs = make_programs(
        folder, settings, ground, proxy_script=script, archives_url=archives_url
    )
    if directory is not None:
        programs.insert(0, make_directory_program(directory))
    return _Prepared(folder, settings, ground, programs, manifests, platform)


def _environment(folder: DataFolder, settings: DemoSettings) -> str:
    """For a shell that wants to run kubectl, plan or apply against this run."""
    return (
        f"export JUPYTERHUB_COLLAB_HUB_URL={settings.hub_url}\n"
        f"export JUPYTERHUB_COLLAB_CONTESTS_URL={settings.contests_url}\n"
        f"export JUPYTERHUB_COLLAB_TOKEN=$(cat {quote(str(folder.secret('contest-host-token')))})\n"
        f"export KUBECONFIG={quote(settings.kubeconfig)}\n"
    )


async def _run(prepared: _Prepared, console: Console, began: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    folder = prepared.folder
    supervisor = Supervisor(
        lease=folder.lease,
        log=lambda name: folder.logs / f"{name}.log",
        tell=lambda line: console.print(f"[yellow]![/] {line}"),
    )
    work = asyncio.create_task(_bring_up(prepared, supervisor, console))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
            _print_where(prepared, console, time.monotonic() - began)
            await stopping
        console.print("\nStopping.")
    finally:
        work.cancel()
        stopping.cancel()
        await asyncio.gather(work, stopping, return_exceptions=True)
        await _end(prepared, supervisor, console)


async def _bring_up(prepared: _Prepared, supervisor: Supervisor, console: Console) -> None:
    if prepared.ground.warning:
        console.print(f"[bold yellow]![/] {prepared.ground.warning}")
    beside: list[asyncio.Task[None]] = []
    try:
        for program in prepared.programs:
            if program.is_beside:
                beside.append(asyncio.create_task(_start(program, supervisor, console)))
                await asyncio.sleep(0)  # it is first in the order, and so the last to be stopped
                continue
            if program.name == "hub":
                await asyncio.gather(*beside)
            if program.name == "provisioner":
                await ensure_hub_namespace(prepared.ground, prepared.platform)
            with console.status(f"Starting: {program.title.lower()}"):
                await _start(program, supervisor, console)
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    url = prepared.settings.contests_url
    token = prepared.folder.read_token("contest-host")
    for manifest in prepared.manifests:
        with console.status(f"Applying {manifest.contest.title}"):
            outcome = await apply_manifest(manifest, url=url, token=token)
        _say(console, outcome)


async def _start(program: Program, supervisor: Supervisor, console: Console) -> None:
    began = time.monotonic()
    await supervisor.start(program)
    _say(console, f"{program.title} ready [dim]({time.monotonic() - began:.1f} s)[/]")


async def _end(prepared: _Prepared, supervisor: Supervisor, console: Console) -> None:
    """Stop programs, the last started first; the embedded node takes its servers with it."""
    await supervisor.stop()
    servers = (
        ""
        if prepared.ground.embedded
        else " Members' servers go on in the cluster; the next start finds them."
    )
    console.print(f"[green]✓[/] Stopped.{servers} All state is in {prepared.folder.root}.")


def _print_where(prepared: _Prepared, console: Console, took_s: float) -> None:
    root = prepared.folder.root
    shown = os.path.relpath(root)
    shown = shown if not shown.startswith("..") else str(root)
    console.print()
    console.print(
        f"  [bold]Open  {prepared.settings.public_url}[/]   [dim](up in {took_s:.0f} s)[/]"
    )
    console.print(
        "  Choose an account on the login page; ada is in two teams, host is the admin.\n"
        f"  Contests: {shown}/contests    Logs: {shown}/logs\n"
        f"  For plan, apply and kubectl in another shell: source {shown}/run/environment\n"
        "  Ctrl-C stops everything; the next start finds it all again."
    )
    console.print()


def _say(console: Console, line: str) -> None:
    console.print(f"[green]✓[/] {line}")
