"""The hub's rights in a team's namespace: its ClusterRole, bound here and nowhere else.

The binding bears the ready hash, which is never set here: whoever applies it does so, once the
whole tenancy stands.
"""

from __future__ import annotations

from .. import names
from ..constants import HUB_CLUSTER_ROLE, HUB_ROLE_BINDING_NAME
from ..models import Platform, TeamSpec
from .manifest import Manifest, make_object


def make_role_binding(spec: TeamSpec, platform: Platform) -> Manifest:
    """RoleBinding of the hub's service account."""
    return make_object(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        HUB_ROLE_BINDING_NAME,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        body={
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": HUB_CLUSTER_ROLE,
            },
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": platform.hub_service_account,
                    "namespace": platform.hub_namespace,
                }
            ],
        },
    )
