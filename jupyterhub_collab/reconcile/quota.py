"""Is a team's quota in force? Pure.

Quota admission judges by ``status.hard``, which the quota controller writes a moment after
``spec.hard`` was applied. Until the two agree the old limits hold (or, for a new quota, none can be
told), so a claim is refused that fits, and a server is refused in the words of the old tier.

Notes
-----
https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .. import units
from .issues import Issue, IssueType
from .objects import key_of

QUOTA_KIND: Final = "ResourceQuota"
_REFUSALS: Final = (
    "exceeded quota",
    "status unknown for quota",
    "maximum storage usage",
)


def is_quota_refusal(message: str) -> bool:
    """Whether a refusal's words are those of quota admission: they may be others in a moment."""
    return any(words in message for words in _REFUSALS)


def quota_pending(quota: Mapping[str, Any]) -> Issue | None:
    """Issue of a quota as observed that is not in force yet; None when it is."""
    wanted = (quota.get("spec") or {}).get("hard") or {}
    found = (quota.get("status") or {}).get("hard") or {}
    if wanted.keys() == found.keys() and all(_is_same(wanted[k], found[k]) for k in wanted):
        return None
    message = (
        f"{key_of(quota)} is written and not in force yet: the cluster's quota controller has "
        "still to take it up. Volumes and the ready mark wait for that; it goes on by itself."
    )
    return Issue(IssueType.QUOTA_PENDING, "NotInForce", message)


def _is_same(one: Any, other: Any) -> bool:
    return bool(one == other or units.to_decimal(one) == units.to_decimal(other))
