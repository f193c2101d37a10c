"""The ServiceAccount under which a team's pods run: without rights and without a token."""

from __future__ import annotations

from .. import names
from ..constants import SERVICE_ACCOUNT_NAME
from ..models import Platform, TeamSpec
from .manifest import Manifest, make_object


def make_service_account(spec: TeamSpec, platform: Platform) -> Manifest:
    """ServiceAccount of a team's pods."""
    return make_object(
        "v1",
        "ServiceAccount",
        SERVICE_ACCOUNT_NAME,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        body={"automountServiceAccountToken": False},
    )
