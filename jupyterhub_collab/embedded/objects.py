"""Create, update, patch, apply and delete: what each verb means for an object.

Between the HTTP door (`api`) and the `store`. What happens to an object later, by itself, is the
`controllers`' work.
"""

from __future__ import annotations

import base64
import copy
import secrets
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from . import admission
from .failures import already_exists, bad_request, conflict, forbidden, not_found
from .ownership import apply, record_update
from .resources import (
    CLAIMS,
    EVENTS,
    LIMIT_RANGES,
    NAMESPACES,
    PODS,
    QUOTAS,
    SECRETS,
    STORAGE_CLASSES,
    VOLUMES,
    Resource,
)
from .store import Store

Json = dict[str, Any]
Clock = Callable[[], datetime]

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PROTECTION: Final = {
    CLAIMS: "kubernetes.io/pvc-protection",
    VOLUMES: "kubernetes.io/pv-protection",
}
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, as Kubernetes has them
_FIXED: Final = (
    "uid",
    "creationTimestamp",
    "name",
    "namespace",
    "generateName",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def to_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _without_version(obj: Json) -> Json:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": None}}


class Objects:
    """The verbs. Every method that changes something takes `dry_run`, which stores nothing."""

    def __init__(self, store: Store, clock: Clock = lambda: datetime.now(timezone.utc)) -> None:
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
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the "
                "request"
            )
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
        if resource.namespaced:
            lister = self.lister(namespace)
            admission.check_limit_ranges(resource, obj, lister)
            # Before the look whether it exists, as in the real chain; KubeSpawner relies on it.
            admission.check_quota(resource, obj, None, lister(QUOTAS), lister)
        if self.store.get(resource, namespace, name):
            raise already_exists(resource, name)
        for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"):
            meta.pop(key, None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=self.now())
        if manager is not None:
            record_update(None, obj, manager, self.now())
        return obj if dry_run else self.store.put(resource, obj)

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        space = self.store.get(NAMESPACES, "", namespace)
        if space is None:
            raise not_found(NAMESPACES, namespace)
        if space["metadata"].get("deletionTimestamp"):
            why = f"unable to create new content in namespace {namespace} because it is being "
            cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
            cause["message"] = f"namespace {namespace} is being terminated"
            raise forbidden(resource, name, f"{why}terminated", [cause])

    def _set_defaults(self, resource: Resource, obj: Json) -> None:
        meta = obj["metadata"]
        if resource.has_status:
            obj["status"] = {}
        if resource is NAMESPACES:
            obj.update(spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})
            meta["labels"] = {**meta.get("labels", {}), "kubernetes.io/metadata.name": meta["name"]}
        elif resource is PODS:
            spec = obj.setdefault("spec", {})
            if not spec.get("containers"):
                raise bad_request("spec.containers: Required value")
            spec.setdefault("restartPolicy", "Always")
            spec.setdefault("terminationGracePeriodSeconds", 30)
            spec.setdefault("serviceAccountName", "default")
            obj["status"] = {"phase": "Pending"}
            admission.default_resources(obj, self.lister(meta["namespace"]))
        elif resource in PROTECTION:
            meta["finalizers"] = [*meta.get("finalizers", ()), PROTECTION[resource]]
            obj["status"] = {"phase": "Pending" if resource is CLAIMS else "Available"}
            if resource is CLAIMS and obj["spec"].get("storageClassName") is None:
                for found in self.store.select(STORAGE_CLASSES):
                    if found["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true":
                        obj["spec"]["storageClassName"] = found["metadata"]["name"]
        elif resource is LIMIT_RANGES:
            admission.default_limit_range(obj)
        elif resource is SECRETS:
            given = {k: base64.b64encode(v.encode()) for k, v in obj.pop("stringData", {}).items()}
            data = {**(obj.get("data") or {}), **{k: v.decode() for k, v in given.items()}}
            obj.update(data=data, type=obj.get("type", "Opaque"))

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
        live = self.store.get(resource, namespace, config["metadata"]["name"])
        if live is None and config["metadata"].get("uid"):
            raise conflict(resource, config["metadata"]["name"], "uid mismatch: it does not exist")
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
            409 when `new` was made from another version; 403 as in `create`.
        """
        old_meta, meta = live["metadata"], new.get("metadata", {})
        name, namespace = old_meta["name"], old_meta.get("namespace", "")
        if meta.get("resourceVersion") not in (None, "", old_meta["resourceVersion"]):
            why = "the object has been modified; please apply your changes to the latest version"
            raise conflict(resource, name, f"{why} and try again")
        if meta.get("uid") not in (None, "", old_meta["uid"]):
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: "
            raise conflict(resource, name, why + old_meta["uid"])
        if status:
            new = {**live, "metadata": dict(old_meta), "status": new.get("status", {})}
        else:
            new = copy.deepcopy(new)
            kept = {k: v for k, v in new["metadata"].items() if k not in _FIXED}
            kept.update({k: old_meta[k] for k in _FIXED if k in old_meta})
            new.update(apiVersion=live["apiVersion"], kind=live["kind"], metadata=kept)
            if resource.has_status:
                new["status"] = live.get("status", {})
            admission.check_unprotected(resource, new)
            lister = self.lister(namespace)
            admission.check_quota(resource, new, live, lister(QUOTAS), lister)
            if manager is not None:
                record_update(live, new, manager, self.now())
        if dry_run or _without_version(new) == _without_version(live):
            return new if dry_run else live  # what changes nothing makes no event
        self.store.put(resource, new)
        if self._is_finished(resource, new):
            self.store.remove(resource, new)
        return new

    @staticmethod
    def _is_finished(resource: Resource, obj: Json) -> bool:
        """Whether an object that is being deleted waits for nothing any more."""
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers") or resource is NAMESPACES:
            return False
        return resource is not PODS or meta.get("deletionGracePeriodSeconds") == 0

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
                what = "UID" if key == "uid" else "ResourceVersion"
                why = f"the {what} in the precondition ({wanted}) does not match the {what} in "
                why += (
                    f"record ({meta[key]}). The object might have been deleted and then recreated"
                )
                raise conflict(resource, meta["name"], why)
        grace_s = 0
        if resource is PODS and live["spec"].get("nodeName"):
            if live["status"].get("phase") not in ("Succeeded", "Failed"):
                asked = options.get("gracePeriodSeconds")
                grace_s = live["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
        if meta.get("deletionTimestamp"):
            if not grace_s < meta.get("deletionGracePeriodSeconds", 0):
                return live, False
        gone_by = to_time(self._clock() + timedelta(seconds=grace_s))
        new = {**live, "metadata": {**meta, "deletionTimestamp": gone_by}}
        new["metadata"]["deletionGracePeriodSeconds"] = grace_s
        if resource is NAMESPACES:
            del new["metadata"]["deletionGracePeriodSeconds"]
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
        """Tell people and the spawner what happened to an object of a namespace."""
        meta = about["metadata"]
        now = self.now()
        reference = {"apiVersion": about["apiVersion"], "kind": about["kind"], "uid": meta["uid"]}
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{meta['name']}.{secrets.token_hex(8)}",
                "namespace": meta["namespace"],
                "uid": str(uuid.uuid4()),
                "creationTimestamp": now,
            },
            "involvedObject": {**reference, "namespace": meta["namespace"], "name": meta["name"]},
            **{"reason": reason, "message": message, "type": kind, "count": 1},
            **{"firstTimestamp": now, "lastTimestamp": now, "eventTime": None},
            "source": {"component": component},
        }
        space = self.store.get(NAMESPACES, "", meta["namespace"])
        if space and not space["metadata"].get("deletionTimestamp"):
            self.store.put(EVENTS, event)
