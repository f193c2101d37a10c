"""All that a cluster needs of ours before the first team, in apply order.

Hub and proxy themselves come from the Zero to JupyterHub chart. It must not hold a secret: our
services read their tokens from the Secret that the chart makes.
"""

from __future__ import annotations

from ..models import Platform
from .audit import make_audit
from .contests import make_contests
from .guard import make_guard
from .home import (
    make_home_namespace,
    make_home_priority,
    make_hub_service,
    make_platform_config,
)
from .home_policies import make_home_policies
from .manifest import Manifest
from .provisioner import make_provisioner
from .rbac import make_rbac


def make_installation(
    platform: Platform, *, image: str, public_url: str, hub_secret: str, with_guard: bool = True
) -> tuple[Manifest, ...]:
    """All of it. Parameters as of `make_home_deployment`.

    Raises
    ------
    UserError
        The platform says that the hub, the proxy or the contests service is not where this puts it.
    """
    where = {"image": image, "public_url": public_url, "hub_secret": hub_secret}
    return (
        make_home_namespace(platform),
        make_home_priority(),
        *make_rbac(platform),
        *(make_guard(platform) if with_guard else ()),
        *make_home_policies(platform),
        make_platform_config(platform),
        make_hub_service(platform),
        *make_audit(platform, **where),
        *make_provisioner(platform, **where),
        *make_contests(platform, **where),
    )
