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
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Final

from ..kube import kinds as k
from . import admission
from .admission import FINISHED
from .failures import ApiError, already_exists, bad_request, conflict, forbidden, not_found
from .ownership import apply, record_update
from .resources import SUBRESOURCES, Json
from .store import Store

DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
PROTECTION: Final = {
    k.PERSISTENT_VOLUME_CLAIM: "kubernetes.io/pvc-protection",
    k.PERSISTENT_VOLUME: "kubernetes.io/pv-protection",
}
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"  # of generated names, as Kubernetes has them
_ENDS: Final = ("deletionTimestamp", "deletionGracePeriodSeconds")
_FIXED: Final = ("uid", "creationTimestamp", "name", "namespace", "generateName", *_ENDS)


@dataclass(frozen=True)
class Write:
    """Who writes, and how.

    Attributes
    ----------
    manager
        Owner of what is set; empty: ownership stays as the object tells it.
    dry_run
        Answer as if, and store nothing.
    force
        An apply takes over what others own.
    """

    manager: str = ""
    dry_run: bool = False
    force: bool = False


def to_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def make_event(about: Json, reason: str, message: str, kind: str, component: str, now: str) -> Json:
    """An event about an object of a namespace, which people and the spawner read."""
    named = {key: about["metadata"][key] for key in ("namespace", "name", "uid")}
    return {
        "apiVersion": k.EVENT.api_version,
        "kind": k.EVENT.name,
        "metadata": {"generateName": f"{named['name']}.", "namespace": named["namespace"]},
        "involvedObject": {"apiVersion": "v1", "kind": about["kind"], **named},
        "reason": reason,
        "message": message,
        "type": kind,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "eventTime": None,
        "source": {"component": component},
    }


class Objects:
    """The verbs."""

    def __init__(
        self, store: Store, clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    ) -> None:
        self.store = store
        self.clock = clock

    def lister(self, namespace: str) -> admission.Lister:
        return lambda kind: self.store.select(kind, namespace)

    def create(self, kind: k.Kind, namespace: str, obj: Json, by: Write) -> Json:
        """Admit and store a new object.

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
        obj.update(apiVersion=kind.api_version, kind=kind.name)
        admission.check_name(kind, name)
        admission.check_unprotected(kind, obj)
        if kind.namespaced:
            meta["namespace"] = namespace
            self._check_namespace(kind, namespace, name)
        self._set_defaults(kind, obj)
        lister = self.lister(namespace)
        admission.check_limit_ranges(kind, obj, lister)
        # Before the look whether it exists, as in the real chain; KubeSpawner relies on it.
        admission.check_quota(kind, obj, None, lister)
        if self.store.get(kind, namespace, name):
            raise already_exists(kind, name)
        for key in (*_ENDS, "resourceVersion"):
            meta.pop(key, None)
        meta.update(uid=str(uuid.uuid4()), creationTimestamp=to_time(self.clock()))
        if by.manager:
            record_update(None, obj, by.manager)
        return obj if by.dry_run else self.store.put(kind, obj)

    def _check_namespace(self, kind: k.Kind, namespace: str, name: str) -> None:
        space = self.store.get(k.NAMESPACE, "", namespace)
        if space is None:
            raise not_found(k.NAMESPACE, namespace)
        if "deletionTimestamp" in space["metadata"]:
            cause = {"reason": "NamespaceTerminating", "field": "metadata.namespace"}
            why = f"unable to create new content in namespace {namespace} because it is being "
            raise forbidden(kind, name, f"{why}terminated", cause)

    def _set_defaults(self, kind: k.Kind, obj: Json) -> None:
        meta, spec = obj["metadata"], obj.get("spec", {})
        if "status" in SUBRESOURCES.get(kind, ()):
            obj["status"] = {}
        if kind is k.NAMESPACE:
            obj.update(spec={"finalizers": ["kubernetes"]}, status={"phase": "Active"})
            meta["labels"] = {**meta.get("labels", {}), "kubernetes.io/metadata.name": meta["name"]}
        elif kind is k.POD:
            defaults = {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30}
            obj["spec"] = {**defaults, "serviceAccountName": "default", **spec}
            obj["status"] = {"phase": "Pending"}
            admission.default_resources(obj, self.lister(meta["namespace"]))
        elif kind is k.JOB:
            obj["spec"] = {"backoffLimit": 6, "completions": 1, "parallelism": 1, **spec}
        elif kind in PROTECTION:
            meta["finalizers"] = [*meta.get("finalizers", ()), PROTECTION[kind]]
            is_claim = kind is k.PERSISTENT_VOLUME_CLAIM
            obj["status"] = {"phase": "Pending" if is_claim else "Available"}
            if is_claim and spec.get("storageClassName") is None:
                for found in self.store.select(k.STORAGE_CLASS):
                    if found["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true":
                        spec["storageClassName"] = found["metadata"]["name"]
        elif kind is k.LIMIT_RANGE:
            admission.default_limit_range(obj)
        elif kind is k.SECRET:
            texts = obj.pop("stringData", None) or {}
            coded = {key: base64.b64encode(v.encode()).decode() for key, v in texts.items()}
            obj.update(data={**(obj.get("data") or {}), **coded}, type=obj.get("type", "Opaque"))

    def apply(self, kind: k.Kind, namespace: str, config: Json, by: Write) -> tuple[Json, bool]:
        """Server-side apply; returns the object and whether it was created."""
        name = config["metadata"]["name"]
        live = self.store.get(kind, namespace, name)
        if live is None and config["metadata"].get("uid"):
            raise conflict(kind, name, "Precondition failed: the object does not exist")
        config = {**config, "apiVersion": kind.api_version, "kind": kind.name}
        config.pop("status", None)
        merged = apply(kind, live, config, by.manager, force=by.force)
        owned = replace(by, manager="")
        if live is None:
            return self.create(kind, namespace, merged, owned), True
        return self.update(kind, live, merged, owned), False

    def update(
        self, kind: k.Kind, live: Json, new: Json, by: Write, *, status: bool = False
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
            raise conflict(kind, old["name"], f"{why} and try again")
        if meta.get("uid") not in (None, "", old["uid"]):
            raise conflict(kind, old["name"], f"Precondition failed: its UID is {old['uid']}")
        if status:
            new = {**live, "metadata": dict(old), "status": new.get("status", {})}
        else:
            new = {**copy.deepcopy(new), "apiVersion": live["apiVersion"], "kind": live["kind"]}
            kept = {key: v for key, v in new["metadata"].items() if key not in _FIXED}
            new["metadata"] = {**kept, **{key: old[key] for key in _FIXED if key in old}}
            if "status" in live:
                new["status"] = live["status"]
            admission.check_unprotected(kind, new)
            admission.check_quota(kind, new, live, self.lister(old.get("namespace", "")))
            if by.manager:
                record_update(live, new, by.manager)
        new["metadata"]["resourceVersion"] = old["resourceVersion"]
        if new == live or by.dry_run:
            return new  # what changes nothing makes no event
        self.store.put(kind, new)
        if self._is_finished(kind, new):
            self.store.remove(kind, new)
        return new

    @staticmethod
    def _is_finished(kind: k.Kind, obj: Json) -> bool:
        """Whether an object that is being deleted waits for nothing any more."""
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta or meta.get("finalizers") or kind is k.NAMESPACE:
            return False
        return kind is not k.POD or meta["deletionGracePeriodSeconds"] == 0

    def delete(
        self, kind: k.Kind, live: Json, options: Json, *, dry_run: bool = False
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
                raise conflict(kind, meta["name"], f"{why} ({meta.get(key)})")
        grace_s = 0
        on_node = kind is k.POD and live["spec"].get("nodeName")
        if on_node and live["status"]["phase"] not in FINISHED:
            asked = options.get("gracePeriodSeconds")
            grace_s = live["spec"]["terminationGracePeriodSeconds"] if asked is None else asked
        if "deletionTimestamp" in meta and grace_s >= meta.get("deletionGracePeriodSeconds", 0):
            return live, False  # it ends already, and no later
        gone_by = to_time(self.clock() + timedelta(seconds=grace_s))
        new_meta = {**meta, "deletionTimestamp": gone_by, "deletionGracePeriodSeconds": grace_s}
        new = {**live, "metadata": new_meta}
        if kind is k.NAMESPACE:
            new["status"] = {"phase": "Terminating"}
        gone = self._is_finished(kind, new)
        if gone and not dry_run:
            self.store.remove(kind, live)
        elif not dry_run:
            self.store.put(kind, new)
        return new, gone

    def record_event(
        self, about: Json, reason: str, message: str, component: str, kind: str = "Normal"
    ) -> None:
        """Store an event, if it can be: the namespace may be ending."""
        now = to_time(self.clock())
        event = make_event(about, reason, message, kind, component, now)
        with contextlib.suppress(ApiError):
            self.create(k.EVENT, about["metadata"]["namespace"], event, Write())
