"""`jupyterhub-collab recover`: give running servers back after the hub's database was lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import UserError
from ..hubapi.client import HubClient, to_api_url
from ..managers.recovery import Recovered, RecoveryManager
from ..tenancy_factory import make_kube_client
from .contests_service import HUB_URL_VARIABLE, HubUrl, TokenFile, read_token


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(recover)


def recover(
    hub_url: HubUrl = None,
    token_file: TokenFile = None,
    kubeconfig: Annotated[
        Path | None,
        typer.Option(envvar="KUBECONFIG", help="The cluster, as who may read teams' Secrets."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which servers these are.")
    ] = False,
) -> None:
    """Give servers that run, and that the hub does not know, back to their members.

    After the hub's database was lost: start the hub, apply the contests' manifests, then this.
    Nothing is deleted; safe to repeat. Exit code 1 when a server was left as it is.
    """
    if not hub_url:
        raise UserError(f"no hub: give --hub-url URL or set {HUB_URL_VARIABLE}")
    if kubeconfig is None:
        raise UserError("no cluster: give --kubeconfig FILE or set KUBECONFIG")
    api_url, token, cluster = to_api_url(hub_url), read_token(token_file), kubeconfig
    console = Console(highlight=False, soft_wrap=True)

    def report(found: Recovered) -> None:
        server = f"server {found.server_name}" if found.server_name else "server"
        what = f"{server} of {found.username} in team {found.team}"
        if found.problem is not None:
            console.print(f"{what}: left as it is. {found.problem}", markup=False)
        else:
            done = "would be given back" if dry_run else "given back"
            console.print(f"{what}: {done}", markup=False)

    async def run() -> list[Recovered]:
        async with HubClient(api_url, token) as hub, await make_kube_client(cluster) as kube:
            return await RecoveryManager(hub, kube).run(dry_run=dry_run, report=report)

    done = asyncio.run(run())
    if not done:
        console.print("The hub knows every server that runs.")
    if any(found.problem is not None for found in done):
        raise typer.Exit(1)
