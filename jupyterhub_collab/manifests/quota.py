"""The team's ResourceQuota: its tier, in the API server's hands.

Storage: a claim of any class counts against ``requests.storage``, the claims of data sets too.
Their sizes are therefore added to the total, and a limit on their own class keeps anything else
out of that part; what remains is the tier's storage, whatever class the team's volumes have. Where
that class is known it gets the same limit by name.

Members have no access to the API. The counts are there for what runs under the hub's rights.

Notes
-----
https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from typing import Final

from .. import names, units
from ..constants import DATASET_STORAGE_CLASS, QUOTA_NAME
from ..models import Platform, TeamSpec
from .manifest import Manifest, make_object

# Each server has one Secret; one that stops and one that starts may overlap, for every pod.
SECRETS_PER_POD: Final = 2
SECRETS_BESIDES: Final = 4
# kube-root-ca.crt, which the cluster puts into every namespace, and room for a service mesh's own.
CONFIG_MAPS: Final = 4
_BY_CLASS: Final = "storageclass.storage.k8s.io"


def make_quota(spec: TeamSpec, platform: Platform) -> Manifest:
    """ResourceQuota of a team."""
    return make_object(
        "v1",
        "ResourceQuota",
        QUOTA_NAME,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        body={
            "spec": {"hard": _compute(spec, platform) | _storage(spec, platform) | _counts(spec)}
        },
    )


def personal_claims_max(spec: TeamSpec) -> int:
    """How many personal volumes fit into the tier's storage beside the team's volume."""
    rest = spec.tier.storage_bytes - spec.volumes.team_bytes
    return max(0, rest // spec.volumes.personal_bytes)


def _compute(spec: TeamSpec, platform: Platform) -> dict[str, str]:
    tier = spec.tier
    hard: dict[str, str] = {}
    for word, amount in (
        ("cpu", units.from_millicores(tier.cpu_millicores)),
        ("memory", units.from_bytes(tier.memory_bytes)),
        ("ephemeral-storage", units.from_bytes(tier.ephemeral_storage_bytes)),
    ):
        hard[f"requests.{word}"] = amount
        hard[f"limits.{word}"] = amount
    # Extended resources know no overcommitment: only requests can be limited.
    hard[f"requests.{platform.gpu_resource}"] = str(tier.gpu_count)
    hard["pods"] = str(tier.pod_count)
    return hard


def _storage(spec: TeamSpec, platform: Platform) -> dict[str, str]:
    claims = 1 + personal_claims_max(spec)
    sizes = [dataset.size_bytes for dataset in spec.datasets.values()]
    hard = {
        "requests.storage": units.from_bytes(spec.tier.storage_bytes + sum(sizes)),
        "persistentvolumeclaims": str(claims + len(sizes)),
        f"{DATASET_STORAGE_CLASS}.{_BY_CLASS}/requests.storage": units.from_bytes(sum(sizes)),
        f"{DATASET_STORAGE_CLASS}.{_BY_CLASS}/persistentvolumeclaims": str(len(sizes)),
    }
    storage_class = spec.volumes.storage_class or platform.storage_class
    if storage_class is not None:
        storage = units.from_bytes(spec.tier.storage_bytes)
        hard[f"{storage_class}.{_BY_CLASS}/requests.storage"] = storage
        hard[f"{storage_class}.{_BY_CLASS}/persistentvolumeclaims"] = str(claims)
    return hard


def _counts(spec: TeamSpec) -> dict[str, str]:
    return {
        "services.nodeports": "0",
        "services.loadbalancers": "0",
        "count/services": "0",
        "count/secrets": str(spec.tier.pod_count * SECRETS_PER_POD + SECRETS_BESIDES),
        "count/configmaps": str(CONFIG_MAPS),
        "count/replicationcontrollers": "0",
        "count/deployments.apps": "0",
        "count/replicasets.apps": "0",
        "count/statefulsets.apps": "0",
    }
