"""`jupyterhub-collab rbac`: what a cluster needs once, before the first team."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ..errors import UserError
from ..factory import make_kube_client, make_platform
from ..manifests.guard import make_guard
from ..manifests.manifest import Manifest
from ..manifests.rbac import make_rbac


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(rbac)


def rbac(
    platform: Annotated[Path, typer.Option(help="Settings of the platform (JSON).")],
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply them as the kubeconfig's user, not print them.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="KUBECONFIG", help="The cluster to apply them to.")
    ] = None,
    guard: Annotated[
        bool,
        typer.Option(help="The admission policy that holds the provisioner to the teams."),
    ] = True,
) -> None:
    """Print or apply service accounts, roles and bindings of hub and provisioner.

    The hub's namespace must exist. Applying needs an administrator of the cluster.
    """
    settings = make_platform(platform)
    manifests = (*make_rbac(settings), *(make_guard(settings) if guard else ()))
    if not apply:
        print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
        return
    if kubeconfig is None:
        raise UserError("no cluster: give --kubeconfig FILE or set KUBECONFIG")
    asyncio.run(_apply(manifests, kubeconfig))


async def _apply(manifests: tuple[Manifest, ...], kubeconfig: Path) -> None:
    async with await make_kube_client(kubeconfig) as kube:
        for manifest in manifests:
            await kube.apply(manifest)
            print(f"{manifest['kind']} {manifest['metadata']['name']} applied")
