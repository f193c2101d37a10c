"""What all manifests share: ownership labels, and the hash of what was meant.

The object hash goes into an annotation so that drift is seen without comparing fields that the API
server has filled in: an object whose hash annotation differs was rendered from something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..constants import (
    ANNOTATION_OBJECT_HASH,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
)
from ..models import Platform, TeamSpec

Manifest = dict[str, Any]
_encode: Final = msgspec.json.Encoder(order="deterministic").encode


def ownership_labels(spec: TeamSpec, platform: Platform) -> dict[str, str]:
    """Labels that make an object ours and this team's."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_HUB: platform.hub_id,
        LABEL_TEAM: spec.team,
        LABEL_CONTEST: spec.contest,
    }


def make_object(
    api_version: str,
    kind: str,
    name: str,
    *,
    spec: TeamSpec,
    platform: Platform,
    namespace: str | None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> Manifest:
    """One object of a team's tenancy, with labels and object hash. ``namespace`` None: it has none.

    ``body`` is all that stands beside apiVersion, kind and metadata.
    """
    metadata: dict[str, Any] = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    # Ownership last: nothing that a caller adds can overrule it.
    metadata["labels"] = {**(labels or {}), **ownership_labels(spec, platform)}
    metadata["annotations"] = dict(annotations or {})
    manifest: Manifest = {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata,
        **(body or {}),
    }
    metadata["annotations"][ANNOTATION_OBJECT_HASH] = hashlib.sha256(_encode(manifest)).hexdigest()
    return manifest
