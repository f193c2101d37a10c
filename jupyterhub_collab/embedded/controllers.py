"""What happens to objects by itself: defaults, garbage, volumes, scheduling, quota status, the end
of a namespace.

Level-triggered: each namespace that something changed in is looked at whole, until nothing
changes any more; so a restart, which looks at all, goes on where the last run was killed. No I/O
but the store's.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Final

from ..units import to_decimal
from . import admission
from . import resources as r
from .failures import ApiError
from .objects import DEFAULT_CLASS, FINISHED, PROTECTION, Objects
from .resources import Resource

Json = dict[str, Any]

DRIVER: Final = "collab.embedded"  # CSI driver of volumes that are folders of this machine
EVENT_LIFE_S: Final = 3600  # as the real API server's --event-ttl
_MANAGER: Final = "embedded"


def _claims_of(pod: Json) -> list[str]:
    sources = [v.get("persistentVolumeClaim") for v in pod["spec"].get("volumes") or ()]
    return [source["claimName"] for source in sources if source]


class Controllers:
    """All of them; `settle` runs what is due."""

    def __init__(self, objects: Objects, volumes_dir: Path, ca_certificate: str) -> None:
        self._objects = objects
        self._store = objects.store
        self._volumes_dir = volumes_dir
        self._ca_certificate = ca_certificate

    def bootstrap(self) -> None:
        """What every cluster has from the start."""
        for name in ("default", "kube-system"):
            self._ensure(r.NAMESPACES, "", name)
        default = {"annotations": {DEFAULT_CLASS: "true"}}
        self._ensure(
            r.STORAGE_CLASSES, "", "standard", default, provisioner=DRIVER, reclaimPolicy="Delete"
        )

    def _ensure(
        self, resource: Resource, namespace: str, name: str, meta: Json | None = None, **more: Any
    ) -> None:
        if self._store.get(resource, namespace, name) is None:
            made = {"metadata": {**(meta or {}), "name": name}, **more}
            # A quota may leave no room for it; the real controllers fare no better.
            with contextlib.suppress(ApiError):
                self._objects.create(resource, namespace, made, _MANAGER)

    def settle(self) -> None:
        """Look at all that changed since the last time, until nothing changes."""
        while self._store.changes:
            due: set[str] = set()
            look_at_volumes = False
            while self._store.changes:
                resource, change = self._store.changes.popleft()
                if resource is not r.EVENTS:
                    meta = change.obj["metadata"]
                    due.add(meta["name"] if resource is r.NAMESPACES else meta.get("namespace", ""))
                look_at_volumes |= resource in (r.CLAIMS, r.VOLUMES, r.NODES, r.STORAGE_CLASSES)
            if look_at_volumes:
                self._sync_volumes()
                waiting = [*self._store.select(r.CLAIMS), *self._store.select(r.PODS)]
                found = [o for o in waiting if o["status"].get("phase") == "Pending"]
                due.update(o["metadata"]["namespace"] for o in found)
            for namespace in sorted(due):
                self._sync_namespace(namespace)

    def expire_events(self, before: str) -> None:
        """Drop events last seen before this time."""
        for event in self._store.select(r.EVENTS):
            if (event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]) < before:
                self._store.remove(r.EVENTS, event)

    def _sync_namespace(self, namespace: str) -> None:
        space = self._store.get(r.NAMESPACES, "", namespace)
        if space is None:
            return
        self._unprotect(r.CLAIMS, namespace)
        if "deletionTimestamp" in space["metadata"]:
            self._terminate(space)
            return
        self._ensure(r.SERVICE_ACCOUNTS, namespace, "default")
        root_ca = {"ca.crt": self._ca_certificate}
        self._ensure(r.CONFIG_MAPS, namespace, "kube-root-ca.crt", data=root_ca)
        self._collect_garbage(namespace)
        for claim in self._store.select(r.CLAIMS, namespace):
            if claim["status"]["phase"] == "Pending":
                self._bind(claim)
        for pod in self._store.select(r.PODS, namespace):
            if not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]:
                self._schedule(pod)
        for quota in self._store.select(r.QUOTAS, namespace):
            hard = quota["spec"].get("hard", {})
            used = admission.quota_used(hard, self._objects.lister(namespace))
            self._set_status(r.QUOTAS, quota, hard=hard, used=used)

    def _set_status(self, resource: Resource, obj: Json, **status: Any) -> None:
        new = {**obj, "status": {**obj.get("status", {}), **status}}
        self._objects.update(resource, obj, new, None, status=True)

    def _terminate(self, space: Json) -> None:
        """Pods first, so that no policy vanishes before what it guards; then all the rest."""
        namespace = space["metadata"]["name"]
        for stage in ([r.PODS], r.NAMESPACED):
            for resource in stage:
                for obj in self._store.select(resource, namespace):
                    if "deletionTimestamp" not in obj["metadata"]:
                        self._objects.delete(resource, obj, {})
            self._unprotect(r.CLAIMS, namespace)
            if any(self._store.select(resource, namespace) for resource in stage):
                return
        if not space["metadata"].get("finalizers"):
            self._store.remove(r.NAMESPACES, space)

    def _collect_garbage(self, namespace: str) -> None:
        """Delete what has owners, none of which exists."""
        for resource in r.NAMESPACED:
            for obj in self._store.select(resource, namespace):
                owners = obj["metadata"].get("ownerReferences") or ()
                if owners and not any(self._exists(o, namespace) for o in owners):
                    self._objects.delete(resource, obj, {})

    def _exists(self, reference: Json, namespace: str) -> bool:
        resource = r.BY_KIND.get((reference["apiVersion"], reference["kind"]))
        if resource is None:
            return True  # unknown kinds are none of our business
        scope = namespace if resource.namespaced else ""
        owner = self._store.get(resource, scope, reference["name"])
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    # -- volumes

    def _unprotect(self, resource: Resource, namespace: str) -> None:
        """Let claims go that no unfinished pod uses, and volumes that are not bound."""
        pods = self._store.select(r.PODS, namespace) if resource is r.CLAIMS else ()
        used = {c for p in pods if p["status"]["phase"] not in FINISHED for c in _claims_of(p)}
        for obj in self._store.select(resource, namespace):
            meta = obj["metadata"]
            bound = resource is r.VOLUMES and obj["status"]["phase"] == "Bound"
            kept = [f for f in meta.get("finalizers", ()) if f != PROTECTION[resource]]
            if "deletionTimestamp" in meta and not bound and meta["name"] not in used:
                new = {**obj, "metadata": {**meta, "finalizers": kept}}
                self._objects.update(resource, obj, new, None)

    def _sync_volumes(self) -> None:
        """Release volumes whose claim is gone. Their data stays; the node clears what it made."""
        for volume in self._store.select(r.VOLUMES):
            reference = volume["spec"].get("claimRef") or {}
            phase = volume["status"]["phase"]
            if phase == "Bound" and not self._exists(reference, reference["namespace"]):
                self._set_status(r.VOLUMES, volume, phase="Released")
            elif phase == "Released" and not reference.get("uid"):
                self._set_status(r.VOLUMES, volume, phase="Available")  # somebody let it go
        self._unprotect(r.VOLUMES, "")

    @staticmethod
    def _fits(volume: Json, claim: Json) -> bool:
        spec, meta, wanted = volume["spec"], claim["metadata"], claim["spec"]
        reference = spec.get("claimRef") or {}
        asked = wanted.get("resources", {}).get("requests", {}).get("storage", 0)
        # Bound to this very claim: half of a binding that a kill interrupted.
        free = volume["status"]["phase"] == "Available" or reference.get("uid") == meta["uid"]
        name = volume["metadata"]["name"]
        return (
            free
            and all(reference.get(k, meta[k]) == meta[k] for k in ("namespace", "name", "uid"))
            and wanted.get("volumeName", name) == name
            and spec.get("storageClassName", "") == wanted.get("storageClassName", "")
            and set(wanted.get("accessModes", ())) <= set(spec.get("accessModes", ()))
            and to_decimal(spec["capacity"]["storage"]) >= to_decimal(asked)
        )

    def _bind(self, claim: Json) -> None:
        volumes = self._store.select(r.VOLUMES)
        fitting = (v for v in volumes if self._fits(v, claim))
        volume = next(fitting, None) or self._provision(claim, volumes)
        if volume is None:
            return
        me = {k: claim["metadata"][k] for k in ("namespace", "name", "uid")}
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **me}
        bound = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
        bound = self._objects.update(r.VOLUMES, volume, bound, _MANAGER)
        self._set_status(r.VOLUMES, bound, phase="Bound")
        named = {**claim, "spec": {**claim["spec"], "volumeName": volume["metadata"]["name"]}}
        claim = self._objects.update(r.CLAIMS, claim, named, _MANAGER)
        capacity, modes = volume["spec"]["capacity"], volume["spec"].get("accessModes", [])
        self._set_status(r.CLAIMS, claim, phase="Bound", capacity=capacity, accessModes=modes)

    def _provision(self, claim: Json, volumes: list[Json]) -> Json | None:
        """A new folder volume for a claim, when its storage class is of our driver."""
        meta, spec = claim["metadata"], claim["spec"]
        kind = self._store.get(r.STORAGE_CLASSES, "", spec.get("storageClassName") or "")
        path = str(self._volumes_dir / meta["namespace"] / meta["name"])
        sources = [v["spec"].get("csi") or {} for v in volumes]
        # The folder of a deleted claim of the same name is still to be cleared: wait.
        taken = path in [s.get("volumeAttributes", {}).get("path") for s in sources]
        if kind is None or kind["provisioner"] != DRIVER or "volumeName" in spec or taken:
            return None
        attributes = {"path": path, "provisioned": "true"}
        source = {"driver": DRIVER, "volumeHandle": meta["uid"], "volumeAttributes": attributes}
        volume_spec = {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec.get("accessModes", []),
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": kind.get("reclaimPolicy", "Delete"),
            "csi": source,
        }
        volume = {"metadata": {"name": f"pvc-{meta['uid']}"}, "spec": volume_spec}
        return self._objects.create(r.VOLUMES, "", volume, _MANAGER)

    # -- scheduling

    def _why_unschedulable(self, pod: Json) -> str | None:
        for name in _claims_of(pod):
            claim = self._store.get(r.CLAIMS, pod["metadata"]["namespace"], name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if claim["status"]["phase"] != "Bound":
                return "pod has unbound immediate PersistentVolumeClaims"
        return None if self._store.select(r.NODES) else "no nodes available to schedule pods"

    def _schedule(self, pod: Json) -> None:
        why = self._why_unschedulable(pod)
        condition = {"type": "PodScheduled", "status": "False" if why else "True"}
        if why is None:
            node = self._store.select(r.NODES)[0]["metadata"]["name"]
            scheduled = {**pod, "spec": {**pod["spec"], "nodeName": node}}
            pod = self._objects.update(r.PODS, pod, scheduled, None)
            where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} to {node}"
            told = ("Scheduled", f"Successfully assigned {where}", "default-scheduler", "Normal")
        else:
            condition.update(reason="Unschedulable", message=why)
            told = ("FailedScheduling", why, "default-scheduler", "Warning")
        if pod["status"].get("conditions") != [condition]:
            self._set_status(r.PODS, pod, conditions=[condition])
            self._objects.record_event(pod, *told)
