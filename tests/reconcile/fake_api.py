"""A cluster in memory that fails to order: only what the engine's laws need.

Server-side apply for one manager, with field ownership; uid and version preconditions; deletion
with or without finalizers. What it says of Kubernetes is checked elsewhere, on the real one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any
from uuid import UUID

from jupyterhub_collab.constants import LABEL_TEAM
from jupyterhub_collab.kube.errors import (
    ConflictError,
    NotFoundError,
    PermanentKubeError,
    RetryableKubeError,
    Target,
    from_status,
    no_answer,
)
from jupyterhub_collab.kube.kinds import Kind
from jupyterhub_collab.reconcile.objects import Manifest, ObjectKey, key_of

Path = tuple[str, ...]


class Fault(Enum):
    """What happens to one request."""

    NONE = "none"
    CONFLICT = "409 before it is carried out"
    BUSY = "429"
    BROKEN = "500"
    UNHEARD = "never arrives"
    LOST = "carried out, answer lost"
    FORBIDDEN = "403"


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Mapping) and value:
        for key, member in value.items():
            yield from _leaves(member, (*path, key))
    else:
        yield path, value


def _remove(obj: Manifest, path: Path) -> None:
    for part in path[:-1]:
        if not isinstance(obj.get(part), dict):
            return
        obj = obj[part]
    obj.pop(path[-1], None)


def _put(obj: Manifest, path: Path, value: Any) -> None:
    for part in path[:-1]:
        if not isinstance(obj.get(part), dict):
            obj[part] = {}
        obj = obj[part]
    obj[path[-1]] = copy.deepcopy(value)


class FakeApi:
    """Objects, and the requests that changed them. Implements `engine.ObjectClient`."""

    def __init__(self) -> None:
        self.objects: dict[ObjectKey, Manifest] = {}
        self._owned: dict[ObjectKey, set[Path]] = {}
        self.faults: Iterator[Fault] = iter(())
        self.requests: list[tuple[str, ObjectKey]] = []
        self.writes: list[tuple[str, ObjectKey]] = []
        self.on_write: Any = lambda _verb, _key: None
        self.mutate: Any = lambda _obj: None  # what an admission webhook or a default adds
        self.admit: Any = lambda _verb, _obj: ""  # why admission refuses it, if it does
        self.kubernetes = (1, 36)
        self.is_quota_prompt = True  # the quota controller is done before the answer is sent
        self._version = 1
        self._uid = 0

    def _touch(self, obj: Manifest) -> None:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)

    def _control(self, obj: Manifest) -> None:
        if obj["kind"] == "ResourceQuota" and self.is_quota_prompt:
            obj["status"] = {"hard": copy.deepcopy(obj["spec"]["hard"])}

    def control_quotas(self) -> None:
        """The quota controller comes round."""
        for obj in self.objects.values():
            if obj["kind"] == "ResourceQuota":
                obj["status"] = {"hard": copy.deepcopy(obj["spec"]["hard"])}
                self._touch(obj)

    def _admit(self, verb: str, manifest: Mapping[str, Any]) -> None:
        reason = self.admit(verb, manifest)
        if reason:
            status = 422 if "ValidatingAdmissionPolicy" in reason else 403  # as a real one has it
            raise from_status(Target(verb, manifest["kind"]), status, {"message": reason})

    def control_deletions(self) -> None:
        """The controllers that delete come round: namespaces are emptied, and gone unless held."""
        for space in [k for k, o in self.objects.items() if k.kind == "Namespace"]:
            meta = self.objects[space]["metadata"]
            if "deletionTimestamp" not in meta:
                continue
            for key in [k for k in self.objects if k.namespace == space.name]:
                self._drop(key)
            if not meta.get("finalizers"):
                self._drop(space)
        for key, obj in list(self.objects.items()):
            if key.kind == "PersistentVolume":
                is_released = self._claim_of(obj) is None and "status" in obj
                if is_released and obj["status"]["phase"] != "Released":
                    obj["status"] = {"phase": "Released"}
                    self._touch(obj)
                if is_released and "deletionTimestamp" in obj["metadata"]:
                    self._drop(key)

    def bind(self) -> None:
        """The controller that binds comes round: volumes whose claims are there."""
        for key, obj in self.objects.items():
            if key.kind == "PersistentVolume" and self._claim_of(obj) is not None:
                obj["status"] = {"phase": "Bound"}
                self._touch(obj)

    def _claim_of(self, volume: Mapping[str, Any]) -> Manifest | None:
        claim = volume["spec"]["claimRef"]
        key = ObjectKey("PersistentVolumeClaim", claim["namespace"], claim["name"])
        return self.objects.get(key)

    def _drop(self, key: ObjectKey) -> None:
        del self.objects[key]
        self._owned.pop(key, None)

    async def version(self) -> tuple[int, int]:
        is_lost = self._fail("version", ObjectKey("version", "", ""))
        self._done("get", ObjectKey("version", "", ""), is_lost=is_lost)
        return self.kubernetes

    def put(self, obj: Mapping[str, Any], *, is_applied: bool = False) -> Manifest:
        """Arrange an object, as somebody else would make it, or as an earlier apply left it."""
        made = copy.deepcopy(dict(obj))
        self._uid += 1
        made["metadata"]["uid"] = str(UUID(int=self._uid))
        self._touch(made)
        self.mutate(made)
        self._control(made)
        self.objects[key_of(made)] = made
        if is_applied:
            self._owned[key_of(made)] = {path for path, _ in self._wishes(obj)}
        return made

    @staticmethod
    def _wishes(manifest: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
        meta = {k: manifest["metadata"].get(k, {}) for k in ("labels", "annotations")}
        body = {k: v for k, v in manifest.items() if k not in ("apiVersion", "kind", "metadata")}
        yield from _leaves({**body, "metadata": meta})

    def _fail(self, verb: str, key: ObjectKey) -> bool:
        """Raise what is to happen instead; True: carry out, then lose the answer."""
        self.requests.append((verb, key))
        fault = next(self.faults, Fault.NONE)
        target = Target(verb, key.kind, key.namespace, key.name)
        if fault is Fault.UNHEARD:
            raise no_answer(target, TimeoutError())
        codes = {Fault.CONFLICT: 409, Fault.BUSY: 429, Fault.BROKEN: 500, Fault.FORBIDDEN: 403}
        if fault in codes and not (fault is Fault.CONFLICT and verb == "get"):
            asked = 3.0 if fault is Fault.BUSY else None
            raise from_status(target, codes[fault], {"message": "to order"}, retry_after=asked)
        return fault is Fault.LOST

    def _done(self, verb: str, key: ObjectKey, *, is_lost: bool) -> None:
        if verb != "get":
            self.writes.append((verb, key))
            self.on_write(verb, key)
        if is_lost:
            raise no_answer(Target(verb, key.kind, key.namespace, key.name), TimeoutError())

    def _conflict(self, verb: str, key: ObjectKey) -> RetryableKubeError:
        error = from_status(Target(verb, key.kind), 409, {"message": f"{key} is another"})
        assert isinstance(error, ConflictError)
        return error

    def _missing(self, verb: str, key: ObjectKey) -> NotFoundError:
        error = from_status(Target(verb, key.kind), 404, {"message": f"no {key}"})
        assert isinstance(error, NotFoundError)
        return error

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest:
        key = ObjectKey(kind.name, namespace or "", name)
        is_lost = self._fail("get", key)
        if key not in self.objects:
            raise self._missing("get", key)
        self._done("get", key, is_lost=is_lost)
        return copy.deepcopy(self.objects[key])

    async def apply_new(self, manifest: Mapping[str, Any]) -> Manifest:
        key = key_of(manifest)
        is_lost = self._fail("apply", key)
        if key in self.objects:
            raise self._conflict("apply", key)
        self._require_space(key)
        self._admit("create", manifest)
        made = self.put(
            {**manifest, "metadata": copy.deepcopy(manifest["metadata"])}, is_applied=True
        )
        self._done("create", key, is_lost=is_lost)
        return copy.deepcopy(made)

    def _require_space(self, key: ObjectKey) -> None:
        space = self.objects.get(ObjectKey("Namespace", "", key.namespace))
        if key.namespace and space is None:
            raise self._missing("apply", key)

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Manifest:
        key = key_of(manifest)
        is_lost = self._fail("apply", key)
        live = self.objects.get(key)
        asked = {"uid": uid, "resourceVersion": resource_version}
        insists = {field: value for field, value in asked.items() if value is not None}
        if live is None and insists:
            raise self._conflict("apply", key)
        if live is not None and any(live["metadata"][f] != v for f, v in insists.items()):
            raise self._conflict("apply", key)
        if live is None:
            return await self.apply_new(manifest)
        wanted = dict(self._wishes(manifest))
        self._admit("apply", manifest)
        immutable = _immutable_change(live, manifest)
        if immutable:
            error = from_status(Target("apply", key.kind), 422, {"message": immutable})
            assert isinstance(error, PermanentKubeError)
            raise error
        before = copy.deepcopy(live)
        for path in self._owned.get(key, set()) - set(wanted):
            _remove(live, path)
        for path, value in wanted.items():
            _put(live, path, value)
        self._owned[key] = set(wanted)
        self.mutate(live)
        self._control(live)
        if live != before:
            self._touch(live)
        self._done("apply", key, is_lost=is_lost)
        return copy.deepcopy(live)

    async def patch(
        self, kind: Kind, name: str, patch: Any, *, namespace: str | None = None
    ) -> Manifest:
        key = ObjectKey(kind.name, namespace or "", name)
        is_lost = self._fail("patch", key)
        live = self.objects.get(key)
        if live is None:
            raise self._missing("patch", key)
        meta = patch.get("metadata", {})
        for field in ("uid", "resourceVersion"):
            if meta.get(field, live["metadata"][field]) != live["metadata"][field]:
                raise self._conflict("patch", key)
        for path, value in _leaves({k: v for k, v in patch.items() if k != "metadata"}):
            assert value is None, "the engine only takes away"
            _remove(live, path)
            self._owned.get(key, set()).discard(path)
        self._control(live)
        self._touch(live)
        self._done("patch", key, is_lost=is_lost)
        return copy.deepcopy(live)

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Manifest:
        key = ObjectKey(kind.name, namespace or "", name)
        is_lost = self._fail("delete", key)
        live = self.objects.get(key)
        if live is None:
            raise self._missing("delete", key)
        meta = live["metadata"]
        if uid not in (None, meta["uid"]) or resource_version not in (
            None,
            meta["resourceVersion"],
        ):
            raise self._conflict("delete", key)
        self._admit("delete", live)
        is_held = key.kind == "Namespace" or (
            key.kind == "PersistentVolume" and (live.get("status") or {}).get("phase") == "Bound"
        )
        if is_held and "deletionTimestamp" not in meta:
            meta["deletionTimestamp"] = "2027-01-01T00:00:00Z"
            self._touch(live)
        elif not is_held:
            self._drop(key)
        self._done("delete", key, is_lost=is_lost)
        return copy.deepcopy(live) if is_held else {"kind": "Status"}


def _immutable_change(live: Manifest, manifest: Mapping[str, Any]) -> str:
    if live["kind"] == "RoleBinding" and live["roleRef"] != manifest["roleRef"]:
        return "roleRef: cannot be changed"
    if live["kind"] == "PersistentVolumeClaim":
        mine, its = manifest["spec"], live["spec"]
        if mine["resources"] != its["resources"]:
            return "only dynamically provisioned pvc can be resized"
        if any(its.get(k) != v for k, v in mine.items() if k != "resources"):
            return "spec is immutable"
    return ""


class Cache:
    """What a pass knows of the API: true when it was last synced. Implements `engine.Observed`."""

    def __init__(self, api: FakeApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self._known: dict[ObjectKey, Manifest] = {}

    def sync(self) -> None:
        """As if every watch had caught up. Foreign objects are seen where a watch shows them."""
        self._known = {
            key: copy.deepcopy(obj) for key, obj in self._api.objects.items() if _is_watched(obj)
        }

    def objects_of(self, team: str) -> Mapping[ObjectKey, Manifest]:
        def is_theirs(key: ObjectKey, obj: Manifest) -> bool:
            labels = obj["metadata"].get("labels") or {}
            return self._namespace in (key.namespace, key.name) or (
                key.kind == "PersistentVolume" and labels.get(LABEL_TEAM) == team
            )

        return {key: obj for key, obj in self._known.items() if is_theirs(key, obj)}

    def find(self, key: ObjectKey) -> Manifest | None:
        return self._known.get(key)

    def show(self, obj: Manifest) -> None:
        """A watch tells it."""
        self._known[key_of(obj)] = obj

    def note(self, obj: Manifest) -> Manifest | None:
        known = self._known.get(key_of(obj))
        if not _is_watched(obj):
            self._known.pop(key_of(obj), None)
        elif known is None or _version(known) < _version(obj):
            self._known[key_of(obj)] = copy.deepcopy(obj)
        return self._known.get(key_of(obj))

    def forget(self, key: ObjectKey, uid: str) -> None:
        known = self._known.get(key)
        if known is not None and known["metadata"]["uid"] == uid:
            del self._known[key]


def _version(obj: Manifest) -> int:
    return int(obj["metadata"]["resourceVersion"])


def _is_watched(obj: Manifest) -> bool:
    """Of two kinds those without our labels as well."""
    is_labelled = LABEL_TEAM in (obj["metadata"].get("labels") or {})
    return is_labelled or obj["kind"] in ("NetworkPolicy", "Namespace")


def faults(some: Iterable[Fault]) -> Iterator[Fault]:
    """Faults in order, then none."""
    return iter(list(some))
