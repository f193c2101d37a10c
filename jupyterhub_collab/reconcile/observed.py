"""What is in the cluster, as ten cluster-wide watches at most tell it.

One informer a kind, never one a namespace. Only objects with our managed-by and hub labels are
watched, but for two kinds, of which others' are kept as well (names only). NetworkPolicies in our
namespaces: they may let through what a team's rules do not. Namespaces of a team's name: a watch by
labels says the same of one that is gone and of one that lost its labels, and only the first may be
called destroyed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

from .. import names
from ..constants import (
    ANNOTATION_READY_HASH,
    HUB_ROLE_BINDING_NAME,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
)
from ..kube import kinds
from ..kube.client import KubeClient
from ..kube.informer import Change, Informer, label_selector, without
from .objects import Manifest, ObjectKey, is_terminating, key_of

_IN_NAMESPACE: Final = (
    kinds.RESOURCE_QUOTA,
    kinds.LIMIT_RANGE,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE_BINDING,
    kinds.PERSISTENT_VOLUME_CLAIM,
)
# While teams are made, the watches tell of hundreds of writes a second, most of them ours: read so
# much later, the answers were first. Drift that nothing came before is seen at once.
_GATHER_S: Final = 0.05
_trim = without("status")


def _trim_quota(obj: Manifest) -> Manifest | None:
    """Of a quota's status the limits in force stay; what is used changes with every pod."""
    hard = (obj.get("status") or {}).get("hard")
    kept = _trim(obj)
    if kept is not None and hard is not None:
        kept["status"] = {"hard": hard}
    return kept


def _trim_volume(obj: Manifest) -> Manifest | None:
    """Of a volume's status: whether it is bound yet."""
    phase = (obj.get("status") or {}).get("phase")
    kept = _trim(obj)
    if kept is not None and phase is not None:
        kept["status"] = {"phase": phase}
    return kept


def _trim_namespace(obj: Manifest) -> Manifest | None:
    """Of a namespace's status: what holds one that is being deleted."""
    found = (obj.get("status") or {}).get("conditions") if is_terminating(obj) else None
    kept = _trim(obj)
    if kept is not None and found:
        fields = ("type", "status", "message")
        kept["status"] = {"conditions": [{f: c.get(f) for f in fields} for c in found]}
    return kept


_TRIMS: Final = {
    kinds.RESOURCE_QUOTA: _trim_quota,
    kinds.PERSISTENT_VOLUME: _trim_volume,
}


class ClusterView:
    """Caches of all that teams have in the cluster.

    Parameters
    ----------
    on_drift
        Called with a team's id and what changed when that is not known from an answer to us.
    informer_options
        For each informer: page size, stall time, clock.
    more_kinds
        That this platform's teams have besides.
    former_kinds
        That teams may have had under other settings, to be pruned; a cluster may not know them.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        hub_id: str,
        namespace_prefix: str,
        on_drift: Callable[[str, Change], None],
        informer_options: Mapping[str, Any] | None = None,
        more_kinds: tuple[kinds.Kind, ...] = (),
        former_kinds: tuple[kinds.Kind, ...] = (),
    ) -> None:
        self._hub_id, self._prefix, self._on_drift = hub_id, namespace_prefix, on_drift
        selector = label_selector({LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: hub_id})
        options = {"gather_s": _GATHER_S, **(informer_options or {})}

        def make(kind: kinds.Kind) -> Informer:
            return Informer(
                client,
                kind,
                on_change=self._changed,
                label_selector=selector,
                transform=_TRIMS.get(kind, _trim),
                may_be_absent=kind in former_kinds,
                **options,
            )

        self._namespaces = Informer(
            client,
            kinds.NAMESPACE,
            on_change=self._changed,
            transform=self._trim_space,
            **options,
        )
        self._volumes = make(kinds.PERSISTENT_VOLUME)
        self._volumes_of: dict[str, set[str]] = {}
        self._policies = Informer(
            client,
            kinds.NETWORK_POLICY,
            on_change=self._changed,
            transform=self._trim_policy,
            **options,
        )
        self._inside = tuple(map(make, (*_IN_NAMESPACE, *more_kinds, *former_kinds)))
        self._all = (self._namespaces, self._volumes, self._policies, *self._inside)
        self._by_kind = {informer.kind.name: informer for informer in self._all}

    @property
    def is_synced(self) -> bool:
        """Whether every kind has been listed once."""
        return all(informer.synced.is_set() for informer in self._all)

    def lagging(self) -> list[str]:
        """Kinds whose watch is not open."""
        return [i.kind.plural for i in self._all if not (i.live or i.is_absent)]

    def invalidate(self) -> None:
        """Nobody kept the caches true for a while: the next `run` lists everything anew."""
        for informer in self._all:
            informer.invalidate()

    async def run(self) -> None:
        """Keep the caches true until cancelled."""
        tasks = [asyncio.create_task(informer.run()) for informer in self._all]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def wait_synced(self) -> None:
        """Wait until every kind has been listed once."""
        await asyncio.gather(*(informer.synced.wait() for informer in self._all))

    def teams(self) -> set[str]:
        """Teams that have a namespace of ours."""
        ours = (obj for obj in self._namespaces if self._is_ours(obj))
        found = map(self._team_of_namespace, ours)
        return {team for team in found if team is not None}

    def namespace_of(self, team: str) -> Manifest | None:
        """The team's namespace, if it bears our hub's labels. Do not change it."""
        found = self._namespaces.get(self._prefix + team)
        return found if found is not None and self._is_ours(found) else None

    def ready_hash_of(self, team: str) -> str | None:
        """The ready mark, which the hub's rights in the team's namespace bear."""
        bindings = self._by_kind[kinds.ROLE_BINDING.name]
        found = bindings.get(HUB_ROLE_BINDING_NAME, self._prefix + team)
        annotations = found["metadata"].get("annotations") or {} if found is not None else {}
        return annotations.get(ANNOTATION_READY_HASH)

    def objects_of(self, team: str) -> dict[ObjectKey, Manifest]:
        """All that is there of a team; others' policies in its namespace, or another's namespace of
        its name, among them."""
        namespace = self._prefix + team
        found: list[Manifest] = []
        own = self._namespaces.get(namespace)
        if own is not None:
            found.append(own)
        for informer in (*self._inside, self._policies):
            found += informer.in_namespace(namespace).values()
        for name in self._volumes_of.get(team, ()):
            volume = self._volumes.get(name)
            if volume is not None:
                found.append(volume)
        return {key_of(obj): obj for obj in found}

    def find(self, key: ObjectKey) -> Manifest | None:
        """One object, whosever it is."""
        informer = self._by_kind.get(key.kind)
        return None if informer is None else informer.get(key.name, key.namespace or None)

    def note(self, obj: Manifest) -> Manifest | None:
        """Take in the answer to a write of ours, or a read. Returns what is known now."""
        informer = self._by_kind[obj["kind"]]
        if self._is_ours(obj) or informer in (self._policies, self._namespaces):
            known = informer.note(obj)
            self._index(obj)
            return known
        # It left the selector: the watch will say so too.
        self.forget(key_of(obj), str(obj["metadata"].get("uid", "")))
        return None

    def forget(self, key: ObjectKey, uid: str) -> None:
        """This object is gone."""
        self._by_kind[key.kind].forget(key.name, key.namespace or None, uid=uid)

    def _index(self, obj: Manifest) -> None:
        if obj["kind"] == kinds.PERSISTENT_VOLUME.name:
            team = (obj["metadata"].get("labels") or {}).get(LABEL_TEAM)
            if team is not None:
                self._volumes_of.setdefault(team, set()).add(obj["metadata"]["name"])

    def _changed(self, change: Change) -> None:
        if change.new is None and change.kind is kinds.PERSISTENT_VOLUME:
            labels = change.obj["metadata"].get("labels") or {}
            self._volumes_of.get(labels.get(LABEL_TEAM, ""), set()).discard(
                change.obj["metadata"]["name"]
            )
        elif change.new is not None:
            self._index(change.new)
        team = self._team_of(change.obj)
        if team is not None:
            self._on_drift(team, change)

    def _team_of(self, obj: Manifest) -> str | None:
        if obj["kind"] == kinds.NAMESPACE.name:
            return self._team_of_namespace(obj)
        namespace = obj["metadata"].get("namespace")
        if namespace is not None:
            return names.team_of_namespace(namespace, prefix=self._prefix)
        return (obj["metadata"].get("labels") or {}).get(LABEL_TEAM)

    def _team_of_namespace(self, obj: Manifest) -> str | None:
        return names.team_of_namespace(obj["metadata"]["name"], prefix=self._prefix)

    def _trim_policy(self, obj: Manifest) -> Manifest | None:
        meta = obj["metadata"]
        if names.team_of_namespace(meta["namespace"], prefix=self._prefix) is None:
            return None
        return _trim(obj) if self._is_ours(obj) else _name_only(obj)

    def _trim_space(self, obj: Manifest) -> Manifest | None:
        if self._team_of_namespace(obj) is None:
            return None
        return _trim_namespace(obj) if self._is_ours(obj) else _name_only(obj)

    def _is_ours(self, obj: Manifest) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return labels.get(LABEL_MANAGED_BY) == MANAGED_BY and (
            labels.get(LABEL_HUB) == self._hub_id
        )


def _name_only(obj: Manifest) -> Manifest:
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
    meta = obj["metadata"]
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {key: meta[key] for key in kept if key in meta},
    }
