"""What in the cluster still bears a contest: asked of the cluster itself, never of a cache.

Whoever says that nothing is left must have looked, now, at every kind of thing that was ever made.
What cannot be looked at is said too, with the reason why nothing can be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from .. import names
from ..constants import LABEL_CONTEST, LABEL_HUB, LABEL_TEAM
from ..kube import kinds as k
from ..kube.client import KubeClient
from ..kube.errors import NotFoundError
from ..manifests.team_name import KINDS_OF_NAMES
from ..models import Platform
from ..reconcile.objects import is_terminating

LEFTOVER_KINDS: Final[tuple[k.Kind, ...]] = (
    k.NAMESPACE,
    k.PERSISTENT_VOLUME,
    k.PERSISTENT_VOLUME_CLAIM,
    k.JOB,
    k.RESOURCE_QUOTA,
    k.LIMIT_RANGE,
    k.NETWORK_POLICY,
    k.SERVICE_ACCOUNT,
    k.ROLE_BINDING,
)
"""Kinds that are looked at. Whoever makes another kind of thing adds it here."""


ROUTE_KINDS: Final[tuple[k.Kind, ...]] = tuple(map(k.kind_named, KINDS_OF_NAMES))
"""Kinds of teams' names: both, for settings change. A cluster may not know one of them."""

UNKNOWN_KIND: Final = "The cluster does not know this kind, so there is none."

NOT_LISTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "Pod": "The provisioner may not list pods. Pods are in teams' namespaces only and go "
        "before them.",
        "Secret": "Nobody of ours may list Secrets. They are in teams' namespaces only and go "
        "with them.",
    }
)


@dataclass(frozen=True)
class Leftover:
    """One thing that is still there.

    Attributes
    ----------
    why
        By what it was found.
    """

    kind: str
    namespace: str
    name: str
    team: str
    is_terminating: bool
    why: str

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "kind": self.kind,
            "namespace": self.namespace or None,
            "name": self.name,
            "team": self.team or None,
            "terminating": self.is_terminating,
            "why": self.why,
        }


@dataclass(frozen=True)
class Look:
    """What was found, and where.

    Attributes
    ----------
    not_looked
        Kinds that could not be listed, and why nothing can be there.
    """

    leftovers: tuple[Leftover, ...]
    looked: tuple[str, ...]
    not_looked: Mapping[str, str]


class Leftovers:
    """The use case."""

    def __init__(
        self,
        kube: KubeClient,
        platform: Platform,
    ) -> None:
        self._kube, self._platform = kube, platform

    @property
    def prefix(self) -> str:
        """Of teams' namespaces."""
        return self._platform.namespace_prefix

    async def find(self, contest: str, teams: Iterable[str] = ()) -> Look:
        """All that bears the contest's label, and what stands where these teams stood.

        `teams` finds what lost its labels: namespaces of their names, and volumes that keep what
        was in them though their claims are gone. Another hub's things are none of ours.

        Raises
        ------
        RetryableError, PermanentError
            The cluster did not answer for some kind: then nobody knows.
        """
        spaces = {
            names.namespace_of(team, prefix=self._platform.namespace_prefix): team for team in teams
        }
        kinds = (*LEFTOVER_KINDS, *ROUTE_KINDS)
        answers = await asyncio.gather(*(self._look(kind, contest, spaces) for kind in kinds))
        unknown = [kind.name for kind, found in zip(kinds, answers, strict=True) if found is None]
        return Look(
            tuple(leftover for found in answers for leftover in found or ()),
            tuple(sorted(kind.name for kind in kinds if kind.name not in unknown)),
            {**NOT_LISTED, **dict.fromkeys(unknown, UNKNOWN_KIND)},
        )

    async def _look(
        self, kind: k.Kind, contest: str, spaces: Mapping[str, str]
    ) -> list[Leftover] | None:
        """None: the cluster does not know this kind."""
        by_label = f"{LABEL_CONTEST}={contest}"
        # Namespaces and volumes may have lost it, or never had it.
        selector = by_label if kind.namespaced or not spaces else None
        try:
            listed = await self._kube.list(kind, label_selector=selector)
        except NotFoundError:
            if kind in ROUTE_KINDS:
                return None
            raise
        found = []
        for obj in listed:
            why = self._why(kind, obj, contest, spaces)
            if why:
                found.append(_to_leftover(kind, obj, why, spaces))
        return found

    def _why(
        self, kind: k.Kind, obj: Mapping[str, Any], contest: str, spaces: Mapping[str, str]
    ) -> str:
        labels = obj["metadata"].get("labels") or {}
        if labels.get(LABEL_HUB, self._platform.hub_id) != self._platform.hub_id:
            return ""
        if labels.get(LABEL_CONTEST) == contest:
            return f"label {LABEL_CONTEST}"
        if kind is k.NAMESPACE and obj["metadata"]["name"] in spaces:
            return "name of a team's namespace"
        if kind is k.PERSISTENT_VOLUME and _claimed_in(obj) in spaces:
            return "was a team's volume, and keeps what is in it"
        return ""


def _claimed_in(volume: Mapping[str, Any]) -> str:
    return str((volume["spec"].get("claimRef") or {}).get("namespace", ""))


def _to_leftover(
    kind: k.Kind, obj: Mapping[str, Any], why: str, spaces: Mapping[str, str]
) -> Leftover:
    meta = obj["metadata"]
    space = meta["name"] if kind is k.NAMESPACE else str(meta.get("namespace") or "")
    if kind is k.PERSISTENT_VOLUME:
        space = _claimed_in(obj)
    team = (meta.get("labels") or {}).get(LABEL_TEAM) or spaces.get(space, "")
    return Leftover(
        kind.name, str(meta.get("namespace") or ""), meta["name"], team, is_terminating(obj), why
    )


def to_wire(contest: str, look: Look, *, at: datetime, prefix: str) -> dict[str, Any]:
    """The answer: what was found, where was looked, where not and why. `prefix`: of namespaces."""
    return {
        "contest": contest,
        "namespacePrefix": prefix,
        "at": at.isoformat(timespec="seconds"),
        "leftovers": [leftover.to_wire() for leftover in look.leftovers],
        "looked": list(look.looked),
        "notLooked": dict(look.not_looked),
    }
