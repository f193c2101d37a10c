"""Create, update, apply and delete: what each verb means for an object.

Between the HTTP door (`api`) and the `store`. What happens to an object later, by itself, is the
`controllers`' work.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from . import admission
from . import resources as r
from .failures import ApiError, already_exists, bad_request, conflict, forbidden, not_found
from .ownership import apply, record_update
from .resources import Resource
from .store import Store

Json = dict[str, Any]

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PROTECTION: Final = {
    r.CLAIMS: "kubernetes.io/pvc-protection",
    r.VOLUMES: "kubernetes.io/pv-protection",
}
FINISHED: Final = ("Succeeded", "Failed")
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, as Kubernetes has them
_ENDS: Final = ("deletionTimestamp", "deletionGracePeriodSeconds")
_FIXED: Final = ("uid", "creationTimestamp", "name", "namespace", "generateName", *_ENDS)


def to_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def make_event(about: Json, reason: str, message: str, kind: str, component: str, now: str) -> Json:
    """An event about an object of a namespace, which people and the spawner read."""
    named = {key: about["metadata"][key] for key in ("namespace", "name", "uid")}
    meta = {"generateName": f"{named['name']}.", "namespace": named["namespace"]}
    object_ = {"apiVersion": "v1", "kind": about["kind"], **named}
    told = {"reason": reason, "message": message, "type": kind, "count": 1}
    times = {"firstTimestamp": now, "lastTimestamp": now, "eventTime": None}
    source = {"source": {"component": component}}
    return {"metadata": meta, "involvedObject": object_, **told, **times, **source}


class Objects:
    """The verbs. Those that change something take `dry_run`, which stores nothing."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        self.store = store
        self._clock = clock

    def now(self) -> str:
        return to_time(self._clock())

    def lister(self, namespace: str) -> admission.Lister:
        return lambda resource: self.store.select(resource, namespace)

    def create(
        self,
        resource: Resource,
        namespace: str,
        obj: Json,
        manager: str | None,
        *,
        dry_run: bool = False,
    ) -> Json:
        """Admit and store a new object. `manager` None: its managedFields are there already.

        Raises
        ------
        ApiError
            As the API answers: 400, 403, 404, 409, 422.
        """
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        if meta.get("namespace", namespace) != namespace:
            why = "does not match the namespace sent on the request"
            raise bad_request(f"the namespace of the provided object {why}")
        if not meta.get("name") and meta.get("generateName"):
            suffix = "".join(secrets.choice(_SUFFIX_LETTERS) for _ in range(5))
            meta["name"] = meta["generateName"] + suffix
        name = meta.setdefault("name", "")
        obj.update(apiVersion=resource.group_version, kind=resource.kind)
        admission.check_name(resource, name)
        admission.check_unprotected(resource, obj)
        if resource.namespaced:
            meta["namespace"] = namespace
            self._check_namespace(resource, namespace, name)
        self._set_defaults(resource, obj)
        lister = self.lister(namespace)
        admission.check_limit_ranges(resource, obj, lister)
        # Before the look whether it exists, as in the real chain; KubeSpawner relies on it.
        admission.check_quota(resource, obj, None, lister)
        if self.store.get(resource, namespace, name):
            raise already_exists(resource, name)
        for key in (*_ENDS, "resourceVersion"):
            meta.pop(key, None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=self.now())
        if manager is not None:
            record_update(None, obj, manager, self.now())
        return obj if dry_run else self.store.put(resource, obj)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        space = self.store.get(r.NAMESPACES, "", namespace)
        if space is None:
            raise not_found(r.NAMESPACES, namespace)
        if "deletionTimestamp" in space["metadata"]:
            why = "because it is being terminated"
            cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
            cause["message"] = f"namespace {namespace} is being terminated"
            why = f"unable to create new content in namespace {namespace} {why}"
            raise forbidden(resource, name, why, cause)

    def _set_defaults(self, resource: Resource, obj: Json) -> None:
        meta, spec = obj["metadata"], obj.get("spec", {})
        if resource.has_status:
            obj["status"] = {}
        if resource is r.NAMESPACES:
            obj.update(spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})
            meta["labels"] = {**meta.get("labels", {}), "kubernetes.io/metadata.name": meta["name"]}
        elif resource is r.PODS:
            if not spec.get("containers"):
                raise bad_request("spec.containers: Required value")
            defaults = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30}
            obj["spec"] = {**defaults, "serviceAccountName": "default", **spec}
            obj["status"] = {"phase": "Pending"}
            admission.default_resources(obj, self.lister(meta["namespace"]))
        elif resource in PROTECTION:
            meta["finalizers"] = [*meta.get("finalizers", ()), PROTECTION[resource]]
            obj["status"] = {"phase": "Pending" if resource is r.CLAIMS else "Available"}
            if resource is r.CLAIMS and spec.get("storageClassName") is None:
                for found in self.store.select(r.STORAGE_CLASSES):
                    if found["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true":
                        spec["storageClassName"] = found["metadata"]["name"]
        elif resource is r.LIMIT_RANGES:
            admission.default_limit_range(obj)
        elif resource is r.SECRETS:
            texts = obj.pop("stringData", None) or {}
            coded = {k: base64.b64encode(v.encode()).decode() for k, v in texts.items()}
            obj.update(data={**(obj.get("data") or {}), **coded}, type=obj.get("type", "Opaque"))

    def apply(
        self,
        resource: Resource,
        namespace: str,
        config: Json,
        manager: str,
        *,
        force: bool,
        dry_run: bool = False,
    ) -> tuple[Json, bool]:
        """Server-side apply; returns the object and whether it was created."""
        name = config["metadata"]["name"]
        live = self.store.get(resource, namespace, name)
        if live is None and config["metadata"].get("uid"):
            raise conflict(resource, name, "Precondition failed: the object does not exist")
        config = {**config, "apiVersion": resource.group_version, "kind": resource.kind}
        config.pop("status", None)
        merged = apply(resource, live, config, manager, self.now(), force=force)
        if live is None:
            return self.create(resource, namespace, merged, None, dry_run=dry_run), True
        return self.update(resource, live, merged, None, dry_run=dry_run), False

    def update(
        self,
        resource: Resource,
        live: Json,
        new: Json,
        manager: str | None,
        *,
        status: bool = False,
        dry_run: bool = False,
    ) -> Json:
        """Replace `live`: all of it but its status, or (`status`) that alone.

        Raises
        ------
        ApiError
            409 when `new` was made from another version or object; 403 as in `create`.
        """
        old, meta = live["metadata"], new.get("metadata", {})
        if meta.get("resourceVersion") not in (None, "", old["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version"
            raise conflict(resource, old["name"], f"{why} and try again")
        if meta.get("uid") not in (None, "", old["uid"]):
            raise conflict(resource, old["name"], f"Precondition failed: its UID is {old['uid']}")
        if status:
            new = {**live, "metadata": dict(old), "status": new.get("status", {})}
        else:
            new = {**copy.deepcopy(new), "apiVersion": live["apiVersion"], "kind": live["kind"]}
            kept = {k: v for k, v in new["metadata"].items() if k not in _FIXED}
            new["metadata"] = {**kept, **{k: old[k] for k in _FIXED if k in old}}
            if resource.has_status:
                new["status"] = live.get("status", {})
            admission.check_unprotected(resource, new)
            admission.check_quota(resource, new, live, self.lister(old.get("namespace", "")))
            if manager is not None:
                record_update(live, new, manager, self.now())
        new["metadata"]["resourceVersion"] = old["resourceVersion"]
        if new == live or dry_run:
            return new  # what changes nothing makes no event
        self.store.put(resource, new)
        if self._is_finished(resource, new):
            self.store.remove(resource, new)
        return new

    @staticmethod
    def _is_finished(resource: Resource, obj: Json) -> bool:
        """Whether an object that is being deleted waits for nothing any more."""
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta or meta.get("finalizers") or resource is r.NAMESPACES:
            return False
        return resource is not r.PODS or meta["deletionGracePeriodSeconds"] == 0

    def delete(
        self, resource: Resource, live: Json, options: Json, *, dry_run: bool = False
    ) -> tuple[Json, bool]:
        """Delete, at once or (pods, finalizers, namespaces) in time.

        Returns the object, and whether it is gone.

        Raises
        ------
        ApiError
            409 when the preconditions do not hold.
        """
        meta = live["metadata"]
        for key, wanted in (options.get("preconditions") or {}).items():
            if wanted not in (None, meta.get(key)):
                why = f"the {key} in the precondition ({wanted}) does not match the record's"
                raise conflict(resource, meta["name"], f"{why} ({meta.get(key)})")
        grace_s = 0
        on_node = resource is r.PODS and live["spec"].get("nodeName")
        if on_node and live["status"]["phase"] not in FINISHED:
            asked = options.get("gracePeriodSeconds")
            grace_s = live["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
        if "deletionTimestamp" in meta and grace_s >= meta.get("deletionGracePeriodSeconds", 0):
            return live, False  # it ends already, and no later
        gone_by = to_time(self._clock() + timedelta(seconds=grace_s))
        new_meta = {**meta, "deletionTimestamp": gone_by, "deletionGracePeriodSeconds": grace_s}
        new = {**live, "metadata": new_meta}
        if resource is r.NAMESPACES:
            new["status"] = {"phase": "Terminating"}
        gone = self._is_finished(resource, new)
        if gone and not dry_run:
            self.store.remove(resource, live)
        elif not dry_run:
            self.store.put(resource, new)
        return new, gone

    def record_event(
        self, about: Json, reason: str, message: str, component: str, kind: str = "Normal"
    ) -> None:
        """Store an event, if it can be: the namespace may be ending."""
        event = make_event(about, reason, message, kind, component, self.now())
        with contextlib.suppress(ApiError):
            self.create(r.EVENTS, about["metadata"]["namespace"], event, component)
