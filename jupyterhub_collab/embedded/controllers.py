"""What happens to objects by itself: defaults, garbage, volumes, scheduling, quota status, the end
of a namespace.

Level-triggered: each namespace that something changed in is looked at whole, until nothing
changes any more; so a restart, which looks at all, goes on where the last run was killed. No I/O
but the store's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ..units import to_decimal
from . import admission
from .failures import ApiError
from .objects import DEFAULT_CLASS, PROTECTION, Objects
from .resources import (
    BY_KIND,
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    QUOTAS,
    RESOURCES,
    SERVICE_ACCOUNTS,
    STORAGE_CLASSES,
    VOLUMES,
    Resource,
)

Json = dict[str, Any]

DRIVER: Final = "collab.embedded"  # CSI driver of volumes that are folders of this machine
_MANAGER: Final = "embedded"
_FINISHED: Final = ("Succeeded", "Failed")
EVENT_LIFE_S: Final = 3600  # as the real API server's --event-ttl


def _claims_of(pod: Json) -> list[str]:
    volumes = pod["spec"].get("volumes") or ()
    return [
        v["persistentVolumeClaim"]["claimName"] for v in volumes if v.get("persistentVolumeClaim")
    ]


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
            self._ensure(NAMESPACES, "", name, {})
        meta = {"annotations": {DEFAULT_CLASS: "true"}}
        more = {"provisioner": DRIVER, "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}
        self._ensure(STORAGE_CLASSES, "", "standard", {"metadata": meta, **more})

    def _ensure(self, resource: Resource, namespace: str, name: str, obj: Json) -> None:
        if self._store.get(resource, namespace, name) is None:
            made = {**obj, "metadata": {**obj.get("metadata", {}), "name": name}}
            try:
                self._objects.create(resource, namespace, made, _MANAGER)
            except ApiError:
                pass  # a quota leaves no room for it; the real controllers fare no better

    def settle(self) -> None:
        """Look at all that changed since the last time, until nothing changes."""
        while self._store.changes:
            due: set[str] = set()
            volumes = False
            while self._store.changes:
                resource, change = self._store.changes.popleft()
                meta = change.obj["metadata"]
                if resource is NAMESPACES:
                    due.add(meta["name"])
                elif resource is not EVENTS and resource.namespaced:
                    due.add(meta["namespace"])
                if resource in (CLAIMS, VOLUMES, NODES, STORAGE_CLASSES):
                    volumes = True
            if volumes:
                self._sync_volumes()
                due.update(
                    o["metadata"]["namespace"]
                    for o in (*self._store.select(CLAIMS), *self._store.select(PODS))
                    if o["status"].get("phase") == "Pending"
                )
            for namespace in sorted(due):
                self._sync_namespace(namespace)

    def expire_events(self, before: str) -> None:
        """Drop events last seen before this time."""
        for event in self._store.select(EVENTS):
            if (event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]) < before:
                self._store.remove(EVENTS, event)

    def _sync_namespace(self, namespace: str) -> None:
        space = self._store.get(NAMESPACES, "", namespace)
        if space is None:
            return
        self._unprotect(CLAIMS, namespace)
        if space["metadata"].get("deletionTimestamp"):
            self._terminate(space)
            return
        self._ensure(SERVICE_ACCOUNTS, namespace, "default", {})
        root_ca = {"data": {"ca.crt": self._ca_certificate}}
        self._ensure(CONFIG_MAPS, namespace, "kube-root-ca.crt", root_ca)
        self._collect_garbage(namespace)
        for claim in self._store.select(CLAIMS, namespace):
            if claim["status"]["phase"] == "Pending":
                self._bind(claim)
        for pod in self._store.select(PODS, namespace):
            if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
                self._schedule(pod)
        for quota in self._store.select(QUOTAS, namespace):
            hard = quota["spec"].get("hard", {})
            used = admission.quota_used(hard, self._objects.lister(namespace))
            self._set_status(QUOTAS, quota, hard=hard, used=used)

    def _set_status(self, resource: Resource, obj: Json, **status: Any) -> None:
        new = {**obj, "status": {**obj.get("status", {}), **status}}
        self._objects.update(resource, obj, new, None, status=True)

    def _terminate(self, space: Json) -> None:
        """Pods first, so that no policy vanishes before what it guards; then all the rest."""
        namespace = space["metadata"]["name"]
        rest = [r for r in RESOURCES if r.namespaced and r is not PODS]
        for stage in ([PODS], rest):
            for resource in stage:
                for obj in self._store.select(resource, namespace):
                    if not obj["metadata"].get("deletionTimestamp"):
                        self._objects.delete(resource, obj, {})
            self._unprotect(CLAIMS, namespace)
            if any(self._store.select(resource, namespace) for resource in stage):
                return
        if not space["metadata"].get("finalizers"):
            self._store.remove(NAMESPACES, space)

    def _collect_garbage(self, namespace: str) -> None:
        """Delete what has owners, none of which exists."""
        for resource in (r for r in RESOURCES if r.namespaced):
            for obj in self._store.select(resource, namespace):
                owners = obj["metadata"].get("ownerReferences") or ()
                if owners and not any(self._exists(o, namespace) for o in owners):
                    self._objects.delete(resource, obj, {})

    def _exists(self, reference: Json, namespace: str) -> bool:
        resource = BY_KIND.get((reference["apiVersion"], reference["kind"]))
        if resource is None:
            return True  # unknown kinds are none of our business
        scope = namespace if resource.namespaced else ""
        owner = self._store.get(resource, scope, reference["name"])
        return owner is not None and owner["metadata"]["uid"] == reference["uid"]

    # -- volumes

    def _unprotect(self, resource: Resource, namespace: str) -> None:
        """Let claims go that no unfinished pod uses, and volumes that are not bound."""
        pods = self._store.select(PODS, namespace) if resource is CLAIMS else ()
        used = {c for p in pods if p["status"]["phase"] not in _FINISHED for c in _claims_of(p)}
        for obj in self._store.select(resource, namespace):
            meta = obj["metadata"]
            busy = meta["name"] in used if resource is CLAIMS else obj["status"]["phase"] == "Bound"
            finalizers = meta.get("finalizers", [])
            if meta.get("deletionTimestamp") and PROTECTION[resource] in finalizers and not busy:
                kept = [f for f in finalizers if f != PROTECTION[resource]]
                new = {**obj, "metadata": {**meta, "finalizers": kept}}
                self._objects.update(resource, obj, new, None)

    def _sync_volumes(self) -> None:
        """Release volumes whose claim is gone. Their data stays; the node clears what it made."""
        for volume in self._store.select(VOLUMES):
            reference = volume["spec"].get("claimRef") or {}
            if volume["status"]["phase"] == "Bound":
                claim = self._store.get(CLAIMS, reference["namespace"], reference["name"])
                if claim is None or claim["metadata"]["uid"] != reference["uid"]:
                    self._set_status(VOLUMES, volume, phase="Released")
            elif volume["status"]["phase"] == "Released" and not reference.get("uid"):
                self._set_status(VOLUMES, volume, phase="Available")  # somebody let it go
        self._unprotect(VOLUMES, "")

    @staticmethod
    def _fits(volume: Json, claim: Json) -> bool:
        spec, wanted = volume["spec"], claim["spec"]
        asked = wanted.get("resources", {}).get("requests", {}).get("storage", 0)
        mine = spec.get("claimRef", {}).get("uid") == claim["metadata"]["uid"]
        free = volume["status"]["phase"] == "Available"
        return (
            (free or mine)  # "mine" is half of a binding that a kill interrupted
            and spec.get("storageClassName", "") == wanted.get("storageClassName", "")
            and set(wanted.get("accessModes", ())) <= set(spec.get("accessModes", ()))
            and to_decimal(spec["capacity"]["storage"]) >= to_decimal(asked)
        )

    def _bind(self, claim: Json) -> None:
        meta, wanted = claim["metadata"], claim["spec"]
        me = {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        volumes = self._store.select(VOLUMES)
        for volume in volumes:
            reference = volume["spec"].get("claimRef") or {}
            mine = all(reference.get(k, me[k]) == me[k] for k in me)
            named = wanted.get("volumeName", volume["metadata"]["name"])
            if mine and named == volume["metadata"]["name"] and self._fits(volume, claim):
                break
        else:
            made = self._provision(claim, volumes)
            if made is None:
                return
            volume = made
        name = volume["metadata"]["name"]
        reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **me}
        bound = {**volume, "spec": {**volume["spec"], "claimRef": reference}}
        bound = self._objects.update(VOLUMES, volume, bound, _MANAGER)
        self._set_status(VOLUMES, bound, phase="Bound")
        named_claim = {**claim, "spec": {**wanted, "volumeName": name}}
        claim = self._objects.update(CLAIMS, claim, named_claim, _MANAGER)
        capacity, modes = volume["spec"]["capacity"], volume["spec"].get("accessModes", [])
        self._set_status(CLAIMS, claim, phase="Bound", capacity=capacity, accessModes=modes)

    def _provision(self, claim: Json, volumes: list[Json]) -> Json | None:
        """A new folder volume for a claim, when its storage class is of our driver."""
        meta, spec = claim["metadata"], claim["spec"]
        found = self._store.get(STORAGE_CLASSES, "", spec.get("storageClassName") or "")
        path = str(self._volumes_dir / meta["namespace"] / meta["name"])
        # The volume of a claim of the same name that was deleted is being cleared: wait.
        paths = {
            ((v["spec"].get("csi") or {}).get("volumeAttributes") or {}).get("path")
            for v in volumes
        }
        if found is None or found["provisioner"] != DRIVER or "volumeName" in spec or path in paths:
            return None
        volume = {
            "metadata": {"name": f"pvc-{meta['uid']}"},
            "spec": {
                "capacity": spec["resources"]["requests"],
                "accessModes": spec.get("accessModes", []),
                "storageClassName": spec["storageClassName"],
                "persistentVolumeReclaimPolicy": found.get("reclaimPolicy", "Delete"),
                "csi": {
                    "driver": DRIVER,
                    "volumeHandle": meta["uid"],
                    "volumeAttributes": {"path": path, "provisioned": "true"},
                },
            },
        }
        return self._objects.create(VOLUMES, "", volume, _MANAGER)

    # -- scheduling

    def _why_unschedulable(self, pod: Json) -> str | None:
        for name in _claims_of(pod):
            claim = self._store.get(CLAIMS, pod["metadata"]["namespace"], name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found'
            if claim["status"]["phase"] != "Bound":
                return "pod has unbound immediate PersistentVolumeClaims"
        return None if self._store.select(NODES) else "no nodes available to schedule pods"

    def _schedule(self, pod: Json) -> None:
        why = self._why_unschedulable(pod)
        condition = {"type": "PodScheduled", "status": "False" if why else "True"}
        if why is not None:
            condition.update(reason="Unschedulable", message=why)
            if pod["status"].get("conditions") != [condition]:
                self._set_status(PODS, pod, conditions=[condition])
                self._record(pod, "FailedScheduling", why, "Warning")
            return
        node = self._store.select(NODES)[0]["metadata"]["name"]
        scheduled = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        pod = self._objects.update(PODS, pod, scheduled, None)
        self._set_status(PODS, pod, conditions=[condition])
        where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} to {node}"
        self._record(pod, "Scheduled", f"Successfully assigned {where}", "Normal")

    def _record(self, pod: Json, reason: str, message: str, kind: str) -> None:
        self._objects.record_event(pod, reason, message, "default-scheduler", kind)
