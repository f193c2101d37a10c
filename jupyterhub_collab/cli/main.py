"""The command line: `jupyterhub-collab`.

What: parses arguments, prints sentences, sets exit codes.
It must not: decide anything; what a command does lives below it.
"""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from ..errors import CollabError
from . import audit, cluster, contest, doctor_auth, install, portal, recover
from .doctor import DoctorOptions, run_doctor
from .up.command import DEFAULT_IMAGE, UpOptions, run_up
from .up.samples import CSI_DRIVER

DEFAULT_DATA = Path("demo-data")

app = typer.Typer(
    name="jupyterhub-collab",
    help="Teams on JupyterHub, each in a Kubernetes namespace of its own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[Path, typer.Option(help="Folder that keeps all state.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port of this machine to listen on.")]
Kubeconfig = Annotated[
    Path | None, typer.Option(help="A real cluster to run on, instead of the embedded one.")
]


class Auth(str, Enum):
    """Ways to let people in to a run of `up`."""

    DEMO = "demo"
    LDAP = "ldap"


@app.command()
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


doctors = typer.Typer(invoke_without_command=True)
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


doctor_auth.register(doctors)
contest.register(app)
cluster.register(app)
recover.register(app)
install.register(app)
portal.register(app)
audit.register(app)


def main() -> None:
    """Entry point: every expected failure is its sentence on stderr and exit code 1."""
    try:
        app()
    except CollabError as e:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]jupyterhub-collab:[/] {escape(str(e))}"
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
