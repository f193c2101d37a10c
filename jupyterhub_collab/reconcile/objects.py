"""What an object is called and whose it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..constants import LABEL_HUB, LABEL_MANAGED_BY, LABEL_TEAM, MANAGED_BY

Manifest = dict[str, Any]


class ObjectKey(NamedTuple):
    """Kind, namespace ("" for cluster-scoped objects) and name."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        where = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.name}{where}"


def key_of(obj: Mapping[str, Any]) -> ObjectKey:
    """Key of a manifest or an observed object."""
    meta = obj["metadata"]
    return ObjectKey(obj["kind"], meta.get("namespace") or "", meta["name"])


@dataclass(frozen=True)
class Owner:
    """Whose objects are ours to change: those with all three labels, and no others."""

    hub_id: str
    team: str

    def owns(self, obj: Mapping[str, Any]) -> bool:
        """Whether an object bears our managed-by, our hub's and this team's label."""
        labels = obj["metadata"].get("labels") or {}
        return (
            labels.get(LABEL_MANAGED_BY) == MANAGED_BY
            and labels.get(LABEL_HUB) == self.hub_id
            and labels.get(LABEL_TEAM) == self.team
        )

    def describe_other(self, obj: Mapping[str, Any]) -> str:
        """Whose an object seems to be instead, in words."""
        labels = obj["metadata"].get("labels") or {}
        if labels.get(LABEL_MANAGED_BY) != MANAGED_BY:
            by = labels.get(LABEL_MANAGED_BY)
            return f"it is managed by {by}" if by else "it does not bear this project's labels"
        if labels.get(LABEL_HUB) != self.hub_id:
            return f"it belongs to the hub {labels.get(LABEL_HUB)!r}"
        return f"it belongs to the team {labels.get(LABEL_TEAM)!r}"


def is_terminating(obj: Mapping[str, Any]) -> bool:
    """Whether an object is being deleted and only waits for its finalizers."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def uid_of(obj: Mapping[str, Any]) -> str:
    """The object's uid: the same name later is another object."""
    return str(obj["metadata"].get("uid", ""))


def version_of(obj: Mapping[str, Any]) -> str:
    """The object's resourceVersion: it changes with every write."""
    return str(obj["metadata"].get("resourceVersion", ""))
