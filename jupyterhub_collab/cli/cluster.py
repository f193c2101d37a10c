"""`jupyterhub-collab rbac`: what a cluster needs once, before the first team."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ..errors import UserError
from ..manifests.guard import make_guard
from ..manifests.manifest import Manifest
from ..manifests.rbac import make_rbac
from ..models import Platform
from ..platform_file import make_platform
from ..tenancy_factory import make_kube_client
from .up.ground import Ground
from .up.ground import make_platform as make_platform_of_run


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(rbac)


def rbac(
    platform: Annotated[
        Path | None, typer.Option(help="Settings of the platform (JSON or YAML).")
    ] = None,
    hub_address: Annotated[
        str | None,
        typer.Option(help="For `up --kubeconfig`: its --hub-address; --platform as it has it."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply them as the kubeconfig's user, not print them.")
    ] = False,
    kubeconfig: Annotated[
        Path | None, typer.Option(envvar="KUBECONFIG", help="The cluster to apply them to.")
    ] = None,
    guard: Annotated[
        bool,
        typer.Option(help="The admission policies that hold hub and provisioner."),
    ] = True,
) -> None:
    """Print or apply service accounts, roles, bindings and admission policies.

    The hub's namespace must exist. Applying needs an administrator of the cluster. The platform's
    settings are part of the policies: give the same as hub and provisioner have, and apply again
    when they change.
    """
    settings = _read_settings(platform, hub_address)
    manifests = (*make_rbac(settings), *(make_guard(settings) if guard else ()))
    if not apply:
        print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
        return
    if kubeconfig is None:
        raise UserError("no cluster: give --kubeconfig FILE or set KUBECONFIG")
    asyncio.run(_apply(manifests, kubeconfig))


def _read_settings(platform: Path | None, hub_address: str | None) -> Platform:
    """The settings as a file has them, or as `up` completes them on its machine."""
    if hub_address is not None:
        nowhere = Path()  # whose kubeconfigs they are does not matter here, nor do ports
        ground = Ground(nowhere, nowhere, hub_address, embedded=False)
        return make_platform_of_run(
            ground, hub_port=1, port=1, public_url="http://hub", extra=platform
        )
    if platform is None:
        raise UserError(
            "Say which platform: --platform FILE, or for `up --kubeconfig` its --hub-address."
        )
    return make_platform(platform)


async def _apply(manifests: tuple[Manifest, ...], kubeconfig: Path) -> None:
    async with await make_kube_client(kubeconfig) as kube:
        for manifest in manifests:
            await kube.apply(manifest)
            print(f"{manifest['kind']} {manifest['metadata']['name']} applied")
