"""What a team's pods may have, as short lines on its namespace, where admission policies read it.

The spec stands there too, but CEL reads no JSON. The provisioner writes these lines and the hub
cannot, so that a hub that was taken over starts nothing but what the provisioner knows of. They go
with the namespace in one write: no pod ever meets a namespace without them.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..constants import (
    ANNOTATION_GATE,
    ANNOTATION_HOST_ALIASES,
    ANNOTATION_IMAGES,
    ANNOTATION_PRIORITY_CLASSES,
    ANNOTATION_STORAGE_CLASS,
    ANNOTATION_TOLERATIONS,
)
from ..models import AddedToleration, Platform, TeamSpec, Toleration
from ..policy.pod import host_aliases


def make_allowances(spec: TeamSpec, platform: Platform) -> dict[str, str]:
    """Annotations of a team's namespace."""
    profiles = spec.profiles.values()
    return {
        ANNOTATION_GATE: spec.gate.value,
        ANNOTATION_HOST_ALIASES: _lines(
            f"{alias['ip']} {name}"
            for alias in host_aliases(platform)
            for name in alias["hostnames"]
        ),
        ANNOTATION_IMAGES: _lines(image.reference for image in spec.images.values()),
        ANNOTATION_PRIORITY_CLASSES: _lines(
            profile.priority_class for profile in profiles if profile.priority_class
        ),
        ANNOTATION_STORAGE_CLASS: spec.volumes.storage_class or platform.storage_class or "",
        ANNOTATION_TOLERATIONS: _lines(
            toleration_line(toleration)
            for profile in profiles
            for toleration in profile.tolerations
        ),
    }


def toleration_line(toleration: Toleration | AddedToleration) -> str:
    """A toleration as one line; the policy makes the same of a pod's."""
    effect = toleration.effect or ""
    return f"{toleration.key}|{toleration.operator}|{toleration.value or ''}|{effect}"


def _lines(entries: Iterable[str]) -> str:
    return "\n".join(dict.fromkeys(entries))
