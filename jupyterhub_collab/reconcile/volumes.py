"""Volumes cannot become just anything: what of a wish can still be had. Pure.

Of a claim only the size can be changed, upwards, and only where its storage class allows that; of
a volume not even where it lies. What cannot be had stays as it is, with an issue that says so; a
volume is never deleted to get there, for it holds somebody's work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import units
from .compare import find_deviations
from .issues import Issue, IssueType
from .objects import Manifest, key_of

_CLAIM: Final = "PersistentVolumeClaim"
_VOLUME: Final = "PersistentVolume"
VOLUME_KINDS: Final = frozenset({_CLAIM, _VOLUME})
GROWTH_REFUSED: Final = "SizeRefused"  # reason of an issue that another try may end


def adapt_volume(
    desired: Manifest, observed: Mapping[str, Any], *, is_refused: bool
) -> tuple[Manifest, tuple[Issue, ...]]:
    """Manifest that the API server can accept, as near to the wish as it may come.

    Parameters
    ----------
    is_refused
        The API server refused this very wish before, a larger size most likely.
    """
    issues: list[Issue] = []
    spec, theirs = dict(desired["spec"]), observed.get("spec") or {}
    adapted = {**desired, "spec": spec}
    if desired["kind"] == _CLAIM:
        _adapt_size(spec, theirs, desired, issues, is_refused=is_refused)
    fixed = sorted(
        {
            deviation.path[1]
            for deviation in find_deviations({**adapted, "metadata": {}}, observed)
            if deviation.path[0] == "spec" and _is_fixed(desired["kind"], deviation.path[1])
        }
    )
    for field in fixed:
        if field in theirs:
            spec[field] = theirs[field]
        else:
            spec.pop(field, None)
    if fixed:
        message = (
            f"{key_of(desired)} should have another {', '.join(fixed)}. Kubernetes cannot change "
            "that on a volume that exists, and this volume is not deleted, so it stays as it is."
        )
        issues.append(Issue(IssueType.VOLUME_FIXED, "Immutable", message))
    return adapted, tuple(issues)


def _is_fixed(kind: str, field: str) -> bool:
    if kind == _CLAIM:
        return field != "resources"
    return field not in ("capacity", "claimRef", "mountOptions", "persistentVolumeReclaimPolicy")


def _adapt_size(
    spec: Manifest,
    theirs: Mapping[str, Any],
    desired: Manifest,
    issues: list[Issue],
    *,
    is_refused: bool,
) -> None:
    wanted = spec["resources"]["requests"]["storage"]
    has = ((theirs.get("resources") or {}).get("requests") or {}).get("storage")
    if has is None or units.to_decimal(wanted) == units.to_decimal(has):
        return
    grows = units.to_decimal(wanted) > units.to_decimal(has)
    if grows and not is_refused:
        return
    resources = spec["resources"]
    spec["resources"] = {**resources, "requests": {**resources["requests"], "storage": has}}
    why = (
        "the Kubernetes API did not let it grow (its storage class does not allow that, or the "
        "quota has no room left); that is tried again"
        if grows
        else "a volume cannot shrink"
    )
    message = f"{key_of(desired)} should be {wanted} large and stays at {has}: {why}."
    issues.append(
        Issue(IssueType.VOLUME_FIXED, GROWTH_REFUSED if grows else "CannotShrink", message)
    )
