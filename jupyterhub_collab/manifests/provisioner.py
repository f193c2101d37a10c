"""The provisioner as a Deployment and a Service in the hub's namespace.

It needs no volume but for audit events on their way: what it knows lies in the hub's groups and in
the cluster. Its token for the hub comes from the Secret in which the chart keeps those of all
services.
"""

from __future__ import annotations

from ..constants import ANNOTATION_OBJECT_HASH, PROVISIONER_PORT, PROVISIONER_SERVICE
from ..models import Platform
from .audit import make_emitter_parts
from .home import platform_hash
from .home_policies import PROVISIONER
from .home_program import (
    HomeProgram,
    make_home_deployment,
    make_home_service,
    make_platform_settings,
)
from .manifest import Manifest


def make_provisioner(
    platform: Platform, *, image: str, public_url: str, hub_secret: str
) -> tuple[Manifest, ...]:
    """Service and Deployment. Parameters as of `make_home_deployment`.

    A rolling update would wait for ever: the next one is ready only once it holds the lease, which
    this one gives back at its end.
    """
    settings, platform_file = make_platform_settings()
    program = HomeProgram(
        name=PROVISIONER,
        service=PROVISIONER_SERVICE,
        port=PROVISIONER_PORT,
        account=platform.provisioner_service_account,
        has_cluster_token=True,
        settings=settings,
        attachments=[platform_file, make_emitter_parts(PROVISIONER)],
        # Settings are read once: others make other pods.
        annotations={ANNOTATION_OBJECT_HASH: platform_hash(platform)},
    )
    return (
        make_home_service(program, platform),
        make_home_deployment(
            program, platform, image=image, public_url=public_url, hub_secret=hub_secret
        ),
    )
