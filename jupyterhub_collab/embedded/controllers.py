"""What happens to objects by itself: defaults, garbage, volumes, scheduling, quota status, the end
of a namespace.

Level-triggered: each namespace that something changed in is looked at whole, until nothing
changes any more; so a restart, which looks at all, goes on where the last run was killed. No I/O
but the store's, and the folders of volumes that it makes for claims.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from ..kube import kinds as k
from . import admission
from .admission import FINISHED
from .failures import ApiError
from .jobs import Jobs
from .objects import DEFAULT_CLASS, PROTECTION, Objects, Write, to_time
from .resources import BY_NAME, NAMESPACED, Json

DRIVER: Final = "collab.embedded"  # CSI driver of volumes that are folders of this machine
EVENT_LIFE: Final = timedelta(hours=1)  # as the real API server's --event-ttl
_BY_US: Final = Write("embedded")
_BY_NOBODY: Final = Write()
_CLAIM: Final = k.PERSISTENT_VOLUME_CLAIM
_VOLUME: Final = k.PERSISTENT_VOLUME
_LET_OTHERS_GO_ON: Final = (_CLAIM, _VOLUME, k.NODE, k.STORAGE_CLASS)


def _claims_of(pod: Json) -> list[str]:
    sources = [v.get("persistentVolumeClaim") for v in pod["spec"].get("volumes") or ()]
    return [source["claimName"] for source in sources if source]


class Controllers:
    """All of them; `settle` runs what is due."""

    def __init__(self, objects: Objects, volumes_dir: Path, ca_certificate: str) -> None:
        self._objects = objects
        self._store = objects.store
        self._jobs = Jobs(objects)
        self._volumes_dir = volumes_dir
        self._ca_certificate = ca_certificate

    def bootstrap(self) -> None:
        """What every cluster has from the start."""
        for name in ("default", "kube-system"):
            self._ensure(k.NAMESPACE, "", name)
        default = {"metadata": {"annotations": {DEFAULT_CLASS: "true"}}}
        self._ensure(
            k.STORAGE_CLASS, "", "standard", provisioner=DRIVER, reclaimPolicy="Delete", **default
        )
        for leftover in self._volumes_dir.glob(".deleted-*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _ensure(self, kind: k.Kind, namespace: str, name: str, **body: Any) -> None:
        if self._store.get(kind, namespace, name) is None:
            body["metadata"] = {**body.get("metadata", {}), "name": name}
            # A quota may leave no room for it; the real controllers fare no better.
            with contextlib.suppress(ApiError):
                self._objects.create(kind, namespace, body, _BY_US)

    def settle(self) -> None:
        """Look at all that changed since the last time, until nothing changes."""
        while self._store.changes:
            changed = [c for c in self._store.changes if c.kind is not k.EVENT]
            self._store.changes.clear()
            due = {c.obj["metadata"].get("namespace", "") for c in changed}
            due |= {c.obj["metadata"]["name"] for c in changed if c.kind is k.NAMESPACE}
            if any(c.kind in _LET_OTHERS_GO_ON for c in changed):
                self._sync_volumes()
                others = [*self._store.select(_CLAIM), *self._store.select(k.POD)]
                waiting = [o["metadata"] for o in others if o["status"]["phase"] == "Pending"]
                due |= {meta["namespace"] for meta in waiting}
            for namespace in sorted(due):
                self._sync_namespace(namespace)

    def _sync_namespace(self, namespace: str) -> None:
        space = self._store.get(k.NAMESPACE, "", namespace)
        if space is None:
            return
        self._unprotect_claims(namespace)
        if "deletionTimestamp" in space["metadata"]:
            self._terminate(space)
            return
        self._ensure(k.SERVICE_ACCOUNT, namespace, "default")
        root_ca = {"ca.crt": self._ca_certificate}
        self._ensure(k.CONFIG_MAP, namespace, "kube-root-ca.crt", data=root_ca)
        self._collect_garbage(namespace)
        self._jobs.sync(namespace)
        for claim in self._store.select(_CLAIM, namespace):
            if claim["status"]["phase"] == "Pending":
                self._bind(claim)
        for pod in self._store.select(k.POD, namespace):
            if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self._schedule(pod)
        for quota in self._store.select(k.RESOURCE_QUOTA, namespace):
            hard = quota["spec"].get("hard", {})
            used = admission.quota_used(hard, self._objects.lister(namespace))
            self._set_status(k.RESOURCE_QUOTA, quota, hard=hard, used=used)

    def _set_status(self, kind: k.Kind, obj: Json, **status: Any) -> None:
        new = {**obj, "status": {**obj.get("status", {}), **status}}
        self._objects.update(kind, obj, new, _BY_NOBODY, status=True)

    def _terminate(self, space: Json) -> None:
        """Pods first, so that no policy vanishes before what it guards; then all the rest."""
        namespace = space["metadata"]["name"]
        for stage in ((k.POD,), NAMESPACED):
            for kind in stage:
                for obj in self._store.select(kind, namespace):
                    if "deletionTimestamp" not in obj["metadata"]:
                        self._objects.delete(kind, obj, {})
            self._unprotect_claims(namespace)
            if any(self._store.select(kind, namespace) for kind in stage):
                return
        if not space["metadata"].get("finalizers"):
            self._store.remove(k.NAMESPACE, space)

    def _collect_garbage(self, namespace: str) -> None:
        """Delete what has owners, none of which exists, and events that are old."""
        for kind in NAMESPACED:
            for obj in self._store.select(kind, namespace):
                owners = obj["metadata"].get("ownerReferences") or ()
                if owners and not any(self._exists(o, namespace) for o in owners):
                    self._objects.delete(kind, obj, {})
        oldest = to_time(self._objects.clock() - EVENT_LIFE)
        for event in self._store.select(k.EVENT, namespace):
            if event["metadata"]["creationTimestamp"] < oldest:
                self._store.remove(k.EVENT, event)

    def _exists(self, reference: Json, namespace: str) -> bool:
        kind = BY_NAME.get((reference["apiVersion"], reference["kind"]))
        if kind is None:
            return True  # unknown kinds are none of our business
        scope = namespace if kind.namespaced else ""
        owner = self._store.get(kind, scope, reference["name"])
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    # -- volumes

    def _let_go(self, kind: k.Kind, obj: Json) -> None:
        """Take away the finalizer that keeps a claim or volume that is in use."""
        meta = obj["metadata"]
        kept = [f for f in meta.get("finalizers", ()) if f != PROTECTION[kind]]
        new = {**obj, "metadata": {**meta, "finalizers": kept}}
        self._objects.update(kind, obj, new, _BY_NOBODY)

    def _unprotect_claims(self, namespace: str) -> None:
        """Let claims go that no unfinished pod uses."""
        pods = self._store.select(k.POD, namespace)
        used = {c for p in pods if p["status"]["phase"] not in FINISHED for c in _claims_of(p)}
        for claim in self._store.select(_CLAIM, namespace):
            if "deletionTimestamp" in claim["metadata"] and claim["metadata"]["name"] not in used:
                self._let_go(_CLAIM, claim)

    def _sync_volumes(self) -> None:
        """Release volumes whose claim is gone; those that were made for it go with it. One step
        each: the change that it makes leads back here."""
        for volume in self._store.select(_VOLUME):
            reference, phase = volume["spec"].get("claimRef") or {}, volume["status"]["phase"]
            if phase == "Bound":
                if not self._exists(reference, reference["namespace"]):
                    self._set_status(_VOLUME, volume, phase="Released")
            elif "deletionTimestamp" in volume["metadata"]:
                self._let_go(_VOLUME, volume)
            elif phase == "Released" and not reference.get("uid"):
                self._set_status(_VOLUME, volume, phase="Available")  # somebody let it go
            elif (
                phase == "Released" and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
            ):
                self._delete_folder(volume)
                self._objects.delete(_VOLUME, volume, {})

    def _fits(self, volume: Json, claim: Json) -> bool:
        spec, meta, wanted = volume["spec"], claim["metadata"], claim["spec"]
        reference = spec.get("claimRef") or {}
        # Bound to this very claim: half of a binding that a kill interrupted.
        free = volume["status"]["phase"] == "Available" or reference.get("uid") == meta["uid"]
        name = volume["metadata"]["name"]
        return (
            free
            and all(
                reference.get(key, meta[key]) == meta[key] for key in ("namespace", "name", "uid")
            )
            and wanted.get("volumeName", name) == name
            and spec.get("storageClassName", "") == wanted.get("storageClassName", "")
        )

    def _bind(self, claim: Json) -> None:
        fitting = (v for v in self._store.select(_VOLUME) if self._fits(v, claim))
        volume = next(fitting, None) or self._provision(claim)
        if volume is None:
            return
        me = {key: claim["metadata"][key] for key in ("namespace", "name", "uid")}
        reference = {"apiVersion": "v1", "kind": _CLAIM.name, **me}
        bound = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
        bound = self._objects.update(_VOLUME, volume, bound, _BY_US)
        self._set_status(_VOLUME, bound, phase="Bound")
        named = {**claim, "spec": {**claim["spec"], "volumeName": volume["metadata"]["name"]}}
        claim = self._objects.update(_CLAIM, claim, named, _BY_US)
        capacity, modes = volume["spec"]["capacity"], volume["spec"].get("accessModes", [])
        self._set_status(_CLAIM, claim, phase="Bound", capacity=capacity, accessModes=modes)

    def _provision(self, claim: Json) -> Json | None:
        """A new folder and volume for a claim, when its storage class is of our driver."""
        meta, spec = claim["metadata"], claim["spec"]
        kind = self._store.get(k.STORAGE_CLASS, "", spec.get("storageClassName") or "")
        if kind is None or kind["provisioner"] != DRIVER or "volumeName" in spec:
            return None
        path = self._volumes_dir / meta["namespace"] / meta["name"]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        volume_spec = {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec.get("accessModes", []),
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": kind.get("reclaimPolicy", "Delete"),
            "csi": {
                "driver": DRIVER,
                "volumeHandle": meta["uid"],
                "volumeAttributes": {"path": str(path), "provisioned": "true"},
            },
        }
        volume = {"metadata": {"name": f"pvc-{meta['uid']}"}, "spec": volume_spec}
        return self._objects.create(_VOLUME, "", volume, _BY_US)

    def _delete_folder(self, volume: Json) -> None:
        """Delete what `_provision` made, never another's: out of the way at once, then in peace."""
        attributes = (volume["spec"].get("csi") or {}).get("volumeAttributes") or {}
        path = Path(attributes.get("path", "/"))
        if "provisioned" in attributes and self._volumes_dir in path.parents and path.exists():
            away = path.rename(self._volumes_dir / f".deleted-{volume['metadata']['uid']}")
            threading.Thread(target=shutil.rmtree, args=(away, True)).start()

    # -- scheduling

    def _why_unschedulable(self, pod: Json) -> str | None:
        for name in _claims_of(pod):
            claim = self._store.get(_CLAIM, pod["metadata"]["namespace"], name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if claim["status"]["phase"] != "Bound":
                return "pod has unbound immediate PersistentVolumeClaims"
        return None if self._store.select(k.NODE) else "no nodes available to schedule pods"

    def _schedule(self, pod: Json) -> None:
        why = self._why_unschedulable(pod)
        condition = {"type": "PodScheduled", "status": "False" if why else "True"}
        if why is None:
            node = self._store.select(k.NODE)[0]["metadata"]["name"]
            scheduled = {**pod, "spec": {**pod["spec"], "nodeName": node}}
            pod = self._objects.update(k.POD, pod, scheduled, _BY_NOBODY)
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} to {node}"
            told = ("Scheduled", f"Successfully assigned {where}", "default-scheduler", "Normal")
        else:
            condition.update(reason="Unschedulable", message=why)
            told = ("FailedScheduling", why, "default-scheduler", "Warning")
        if pod["status"].get("conditions") != [condition]:
            self._set_status(k.POD, pod, conditions=[condition])
            self._objects.record_event(pod, *told)
