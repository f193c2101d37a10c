"""All that a cluster needs of ours before the first team, in apply order.

`jupyterhub-collab install` prints it: the hub's namespace, accounts and roles, admission policies,
the platform's settings, the hub's fixed address, the network policies around hub, proxy and
provisioner, and the provisioner itself. Hub and proxy come from the Zero to JupyterHub chart.

It must not hold a secret: the provisioner reads its token from the Secret that the chart makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from ..constants import (
    HUB_SERVICE,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PLATFORM_CONFIG_MAP,
    PLATFORM_FILE,
)
from ..errors import UserError
from ..models import Platform, PodPeer
from .guard import make_guard
from .home_policies import make_home_policies
from .manifest import Manifest
from .namespace import POD_SECURITY_LABELS
from .provisioner import make_provisioner
from .rbac import make_rbac


@dataclass(frozen=True)
class Installation:
    """What differs between clusters, besides the platform.

    Attributes
    ----------
    image
        Of hub and provisioner (``images/hub``).
    public_url
        Where people reach the hub, with subdomains: ``https://hub.example.org``.
    hub_secret
        Name of the chart's Secret, which holds the services' tokens.
    """

    image: str
    public_url: str
    hub_secret: str = "hub"  # noqa: S105 - the name of a Secret


def make_installation(platform: Platform, installation: Installation) -> tuple[Manifest, ...]:
    """All of it, in apply order.

    Raises
    ------
    UserError
        The platform says that the hub or the proxy runs outside the cluster.
    """
    return (
        _make_namespace(platform),
        *make_rbac(platform),
        *make_guard(platform),
        *make_home_policies(platform),
        _make_platform_config(platform),
        _make_hub_service(platform),
        *make_provisioner(
            platform,
            image=installation.image,
            public_url=installation.public_url,
            hub_secret=installation.hub_secret,
        ),
    )


def _make_namespace(platform: Platform) -> Manifest:
    manifest = make_home_object("v1", "Namespace", platform.hub_namespace, platform)
    del manifest["metadata"]["namespace"]
    manifest["metadata"]["labels"].update(POD_SECURITY_LABELS)
    return manifest
