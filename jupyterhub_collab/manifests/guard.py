"""All admission policies of one hub, in apply order: what the cluster refuses whoever asks.

Each holds what one of our parts could do if somebody took it over. `jupyterhub-collab rbac` prints
them with the roles; what each of them holds is in docs/security/policies.md.
"""

from __future__ import annotations

from ..models import Platform
from .guard_claims import make_claim_policy, make_secret_policy
from .guard_labels import make_label_policy
from .guard_pods import make_pod_policies
from .guard_provisioner import make_provisioner_policy
from .manifest import Manifest
from .retention import make_retention


def make_guard(platform: Platform) -> tuple[Manifest, ...]:
    """Policies, their bindings and what they read."""
    return (
        *make_provisioner_policy(platform),
        *make_retention(platform),
        *make_label_policy(platform),
        *make_pod_policies(platform),
        *make_claim_policy(platform),
        *make_secret_policy(platform),
    )
