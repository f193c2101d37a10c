"""The team's LimitRange: what a container gets that says nothing, and what one may ask for.

Without the defaults a pod that names no limits would be refused by the quota; without the maxima
the quota's own answer is the first to speak, and it names no single container.
"""

from __future__ import annotations

from typing import Any, Final

from .. import names, units
from ..constants import LIMIT_RANGE_NAME
from ..models import Platform, TeamSpec
from .manifest import Manifest, make_object

# For helpers such as init containers; servers always say their size.
DEFAULT_CPU_MILLICORES: Final = 100
DEFAULT_MEMORY_BYTES: Final = 128 << 20
DEFAULT_EPHEMERAL_STORAGE_BYTES: Final = 256 << 20
MIN_CPU_MILLICORES: Final = 1
MIN_MEMORY_BYTES: Final = 4 << 20  # below this container runtimes refuse to start anything
MIN_EPHEMERAL_STORAGE_BYTES: Final = 4 << 10  # room for a log line
MIN_CLAIM_BYTES: Final = 1


def make_limit_range(spec: TeamSpec, platform: Platform) -> Manifest:
    """LimitRange of a team."""
    largest = _amounts(
        spec.tier.cpu_millicores, spec.tier.memory_bytes, spec.tier.ephemeral_storage_bytes
    )
    default = _bounded(
        spec, DEFAULT_CPU_MILLICORES, DEFAULT_MEMORY_BYTES, DEFAULT_EPHEMERAL_STORAGE_BYTES
    )
    smallest = _bounded(spec, MIN_CPU_MILLICORES, MIN_MEMORY_BYTES, MIN_EPHEMERAL_STORAGE_BYTES)
    claim_bytes = max(
        spec.volumes.team_bytes,
        spec.volumes.personal_bytes,
        *(dataset.size_bytes for dataset in spec.datasets.values()),
    )
    limits: list[dict[str, Any]] = [
        {
            "type": "Container",
            "default": default,
            "defaultRequest": default,
            "min": smallest,
            "max": largest,
        },
        {"type": "Pod", "max": largest},
        {
            "type": "PersistentVolumeClaim",
            "min": {"storage": units.from_bytes(MIN_CLAIM_BYTES)},
            "max": {"storage": units.from_bytes(claim_bytes)},
        },
    ]
    return make_object(
        "v1",
        "LimitRange",
        LIMIT_RANGE_NAME,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        body={"spec": {"limits": limits}},
    )


def _bounded(
    spec: TeamSpec, cpu_millicores: int, memory_bytes: int, ephemeral_storage_bytes: int
) -> dict[str, str]:
    """Amounts no larger than the tier: the API refuses a default above the maximum."""
    return _amounts(
        min(cpu_millicores, spec.tier.cpu_millicores),
        min(memory_bytes, spec.tier.memory_bytes),
        min(ephemeral_storage_bytes, spec.tier.ephemeral_storage_bytes),
    )


def _amounts(
    cpu_millicores: int, memory_bytes: int, ephemeral_storage_bytes: int
) -> dict[str, str]:
    return {
        "cpu": units.from_millicores(cpu_millicores),
        "memory": units.from_bytes(memory_bytes),
        "ephemeral-storage": units.from_bytes(ephemeral_storage_bytes),
    }
