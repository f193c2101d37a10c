"""All that a cluster needs of ours before the first team, in apply order.

Hub and proxy themselves come from the Zero to JupyterHub chart. It must not hold a secret: the
provisioner reads its token from the Secret that the chart makes.
"""

from __future__ import annotations

from ..models import Platform
from .audit import make_audit
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
    """All of it. Parameters as of `make_provisioner`.

    Raises
    ------
    UserError
        The platform says that the hub or the proxy runs outside the cluster.
    """
    return (
        make_home_namespace(platform),
        make_home_priority(),
        *make_rbac(platform),
        *(make_guard(platform) if with_guard else ()),
        *make_home_policies(platform),
        make_platform_config(platform),
        make_hub_service(platform),
        *make_audit(platform, image=image, public_url=public_url, hub_secret=hub_secret),
        *make_provisioner(platform, image=image, public_url=public_url, hub_secret=hub_secret),
    )
