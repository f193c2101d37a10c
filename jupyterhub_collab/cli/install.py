"""`jupyterhub-collab install`: everything of ours that a hub in the cluster needs beside its chart.

What: prints it, for `kubectl apply --server-side -f -` and for an administrator's repository.
It must not: apply anything by itself; whoever installs cluster-wide roles should have seen them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
import yaml

from ..errors import UserError
from ..manifests.installation import make_installation
from ..platform_file import make_platform

POLICY_KINDS = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
DEFAULT_HUB_IMAGE = "jupyterhub-collab/hub:0.1.0"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(install)


def install(
    platform: Annotated[Path, typer.Option(help="Settings of the platform (JSON or YAML).")],
    public_url: Annotated[
        str, typer.Option(help="Where people reach the hub: https://hub.example.org")
    ],
    image: Annotated[str, typer.Option(help="Image of hub and provisioner.")] = DEFAULT_HUB_IMAGE,
    hub_secret: Annotated[
        str, typer.Option(help="The chart's Secret with the services' tokens.")
    ] = "hub",  # noqa: S107 - the name of a Secret
    policies: Annotated[
        bool,
        typer.Option(
            help="Print the admission policies too. Without, when upgrading: namespaces get what"
            " newer policies ask for from the newer provisioner, which goes first."
        ),
    ] = True,
) -> None:
    """Print all that a hub in the cluster needs of ours: pipe it to `kubectl apply --server-side`.

    Namespace, accounts, roles, admission policies, network policies, settings, provisioner. Hub and
    proxy come from the Zero to JupyterHub chart, with helm-values/jupyterhub.yaml.
    """
    parts = urlsplit(public_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise UserError(
            f"--public-url {public_url} is not the address of a hub; it looks like"
            " https://hub.example.org, without a path."
        )
    manifests = make_installation(
        make_platform(platform), image=image, public_url=public_url, hub_secret=hub_secret
    )
    if not policies:
        manifests = tuple(m for m in manifests if m["kind"] not in POLICY_KINDS)
    print(yaml.safe_dump_all(manifests, sort_keys=False), end="")
