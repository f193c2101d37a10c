"""The team's namespace: Pod Security `restricted`, and the merged spec with its hash.

The spec says nothing of who is in the team.
"""

from __future__ import annotations

from typing import Final

from .. import names
from ..constants import ANNOTATION_SPEC, ANNOTATION_SPEC_HASH
from ..models import Platform, TeamSpec
from ..models.document import hash_of
from .allowances import make_allowances
from .manifest import Manifest, make_object

POD_SECURITY_LABELS: Final = {
    f"pod-security.kubernetes.io/{key}": value
    for mode in ("enforce", "audit", "warn")
    for key, value in ((mode, "restricted"), (f"{mode}-version", "latest"))
}


def make_namespace(spec: TeamSpec, platform: Platform) -> Manifest:
    """Namespace of a team."""
    text = spec.to_canonical_json()
    return make_object(
        "v1",
        "Namespace",
        names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        spec=spec,
        platform=platform,
        namespace=None,
        labels=POD_SECURITY_LABELS,
        annotations={
            ANNOTATION_SPEC: text,
            ANNOTATION_SPEC_HASH: hash_of(text),
            **make_allowances(spec, platform),
        },
    )
