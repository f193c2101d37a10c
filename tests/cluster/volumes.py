"""The node's volume provisioner: a folder for each claim, as a `local` PersistentVolume.

For `local` volumes kubelet applies a pod's ``fsGroup`` (it does not for ``hostPath``), and the
folder is open to every group member besides, so that pods of any uid can write.

It serves every StorageClass that names its provisioner and touches no other claim or volume.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.cluster.node_files import CSI_DRIVER, NODE_NAME
from tests.cluster.watch import Api

PROVISIONER: Final = "collab.test/folder"
CLASS_NAME: Final = "folder"
PROVISIONED_BY: Final = "pv.kubernetes.io/provisioned-by"
IS_DEFAULT: Final = "storageclass.kubernetes.io/is-default-class"
CLASSES: Final = "/apis/storage.k8s.io/v1/storageclasses"
DRIVERS: Final = "/apis/storage.k8s.io/v1/csidrivers"
VOLUMES: Final = "/api/v1/persistentvolumes"

Object = Mapping[str, Any]


def make_storage_class() -> dict[str, Any]:
    """Return the default class of the cluster."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS_NAME, "annotations": {IS_DEFAULT: "true"}},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def make_csi_driver() -> dict[str, Any]:
    """Return the object that tells the scheduler and kubelet how the folder driver mounts."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSIDriver",
        "metadata": {"name": CSI_DRIVER},
        # Nothing to attach; the folder's owner is somebody else's, so no fsGroup is applied.
        "spec": {"attachRequired": False, "podInfoOnMount": False, "fsGroupPolicy": "None"},
    }


def is_waiting(claim: Object) -> bool:
    """Say whether a claim waits for a volume to be made."""
    spec, metadata = claim["spec"], claim["metadata"]
    return (
        claim.get("status", {}).get("phase") == "Pending"
        and "deletionTimestamp" not in metadata
        and not spec.get("volumeName")
        and not spec.get("selector")
        and bool(spec.get("storageClassName"))
    )


def is_to_be_deleted(volume: Object) -> bool:
    """Say whether a volume of ours has lost its claim and its class says to delete it."""
    annotations = volume["metadata"].get("annotations") or {}
    return (
        annotations.get(PROVISIONED_BY) == PROVISIONER
        and volume.get("status", {}).get("phase") == "Released"
        and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        and "deletionTimestamp" not in volume["metadata"]
    )


def make_volume(claim: Object, reclaim_policy: str, folder: Path) -> dict[str, Any]:
    """Return the volume for `claim`, bound to it before anybody else can have it."""
    metadata, spec = claim["metadata"], claim["spec"]
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {PROVISIONED_BY: PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "storageClassName": spec["storageClassName"],
            "persistentVolumeReclaimPolicy": reclaim_policy,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


class VolumeAgent:
    """Makes and removes folders as claims and volumes come and go."""

    def __init__(self, api: Api, root: Path) -> None:
        self._api, self._root = api, root
        self._claims: dict[str, Any] = {}
        self._volumes: dict[str, Any] = {}
        self._classes: dict[str, Any] = {}
        self._dirty = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._api.call("POST", CLASSES, make_storage_class())
        await self._api.call("POST", DRIVERS, make_csi_driver())
        keep, changed = self._api.keep, self._dirty.set
        await asyncio.gather(
            keep(CLASSES, self._classes, changed),
            keep("/api/v1/persistentvolumeclaims", self._claims, changed),
            keep(VOLUMES, self._volumes, changed),
            self._serve(),
        )

    async def _serve(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            policies = {
                item["metadata"]["name"]: item.get("reclaimPolicy", "Delete")
                for item in self._classes.values()
                if item["provisioner"] == PROVISIONER
            }
            bound = {item["metadata"]["name"] for item in self._volumes.values()}
            for claim in list(self._claims.values()):
                policy = policies.get(claim["spec"].get("storageClassName", ""))
                is_new = f"pvc-{claim['metadata']['uid']}" not in bound
                if policy is not None and is_new and is_waiting(claim):
                    await self._provision(claim, policy)
            for volume in list(self._volumes.values()):
                if is_to_be_deleted(volume):
                    await self._remove(volume)

    async def _provision(self, claim: Object, reclaim_policy: str) -> None:
        metadata = claim["metadata"]
        folder = self._root / metadata["namespace"] / f"{metadata['name']}-{metadata['uid'][:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o2777)
        status, answer = await self._api.call(
            "POST", VOLUMES, make_volume(claim, reclaim_policy, folder)
        )
        if status not in (201, 409):
            print(f"volume for {metadata['name']}: {status} {answer}", flush=True)

    async def _remove(self, volume: Object) -> None:
        folder = Path(volume["spec"]["local"]["path"])
        if not folder.is_relative_to(self._root):
            return  # the annotation alone makes nothing ours to delete
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        await self._api.call("DELETE", f"{VOLUMES}/{volume['metadata']['name']}")
