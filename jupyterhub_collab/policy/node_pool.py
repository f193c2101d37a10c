"""A contest's node pool: every profile of its teams is placed on it, and none can leave it. Pure.

Who keeps others off these nodes is whoever runs the cluster: a taint on them, which the pool's
tolerations answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ..models import NodePool, Platform, Profile, Toleration
from .problems import FieldProblem, Path, one_of, to_found

CONTROL_PLANE_TAINTS: Final = (
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
)


def profiles_on(profiles: Mapping[str, Profile], pool: NodePool | None) -> dict[str, Profile]:
    """The profiles, each on the pool besides what it asks for itself."""
    if pool is None:
        return dict(profiles)
    return {key: _place(profile, pool) for key, profile in profiles.items()}


def check_pool(profiles: Mapping[str, Profile], pool: NodePool | None) -> list[FieldProblem]:
    """Profiles that ask for another value of a label that the pool has: nothing is such a node."""
    if pool is None:
        return []
    return [
        FieldProblem(
            ("profiles", key, "nodeSelector", label),
            to_found(profile.node_selector[label]),
            f"{to_found(value)}, as the contest's nodePool says, or no such label here",
        )
        for key, profile in profiles.items()
        for label, value in pool.node_selector.items()
        if profile.node_selector.get(label, value) != value
    ]


def check_tolerations(
    tolerations: Sequence[Toleration], platform: Platform, *, where: Path
) -> list[FieldProblem]:
    """Tolerations that this platform does not allow. `where`: of the list."""
    problems: list[FieldProblem] = []
    keys = platform.toleration_keys
    for i, toleration in enumerate(tolerations):
        path = (*where, i, "key")
        if toleration.key in CONTROL_PLANE_TAINTS:
            expected = "a key other than the control plane's: no server runs there"
            problems.append(FieldProblem(path, to_found(toleration.key), expected))
        elif keys is not None and toleration.key not in keys:
            expected = f"{one_of(toleration.key, keys)} (this platform's toleration keys)"
            problems.append(FieldProblem(path, to_found(toleration.key), expected))
    return problems


def _place(profile: Profile, pool: NodePool) -> Profile:
    more = tuple(t for t in pool.tolerations if t not in profile.tolerations)
    return profile.model_copy(
        update={
            "node_selector": {**profile.node_selector, **pool.node_selector},
            "tolerations": (*profile.tolerations, *more),
        }
    )
