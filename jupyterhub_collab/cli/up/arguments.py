"""`jupyterhub-collab up`: its arguments."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..demo_options import DEFAULT_DATA, Data, Kubeconfig, Port
from .command import DEFAULT_IMAGE, UpOptions, run_up
from .samples import CSI_DRIVER


class Auth(str, Enum):
    """Ways to let people in to a run of `up`."""

    DEMO = "demo"
    LDAP = "ldap"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(up)


def up(
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[MANIFEST]...", help="Contest manifests; the samples if none."),
    ] = None,
    data: Data = DEFAULT_DATA,
    port: Port = 8000,
    kubeconfig: Kubeconfig = None,
    provisioner_kubeconfig: Annotated[
        Path | None, typer.Option(help="As whom the provisioner talks to that cluster.")
    ] = None,
    hub_address: Annotated[
        str | None, typer.Option(help="Address of this machine by which pods reach the hub.")
    ] = None,
    platform: Annotated[
        Path | None, typer.Option(help="File of further platform settings for that cluster.")
    ] = None,
    auth: Annotated[
        Auth, typer.Option(help="Who lets people in; ldap starts a directory (slapd) of its own.")
    ] = Auth.DEMO,
    image: Annotated[str, typer.Option(help="Image of the sample contests.")] = DEFAULT_IMAGE,
    sample_driver: Annotated[
        str, typer.Option(help="CSI driver that mounts the sample data sets.")
    ] = CSI_DRIVER,
    sample_datasets: Annotated[
        str | None, typer.Option(help="Where the sample data sets lie for that driver.")
    ] = None,
) -> None:
    """Run hub, proxy, provisioner and, unless told of another, a cluster, until Ctrl-C."""
    options = UpOptions(
        data=data,
        port=port,
        manifests=tuple(manifests or ()),
        kubeconfig=kubeconfig,
        provisioner_kubeconfig=provisioner_kubeconfig,
        hub_address=hub_address,
        platform=platform,
        auth=auth.value,
        image=image,
        sample_driver=sample_driver,
        sample_datasets=sample_datasets,
    )
    run_up(options, Console(highlight=False, soft_wrap=True))
