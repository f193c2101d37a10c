"""Volumes that a tenancy brings: the team's own, and its data sets, read-only.

A data set is one static PersistentVolume for each team: a volume binds to one claim only, and
`restricted` forbids naming NFS or CSI sources in a pod. `claimRef` keeps every other namespace's
claim from taking it, `Retain` keeps the cluster from deleting what it never owned, and a storage
class of its own keeps it out of the team's storage. Members' personal volumes are the spawner's.

The binding controller completes `claimRef` (uid, resourceVersion). It is a granular structure, so
a later server-side apply of this manifest leaves those fields alone.
"""

from __future__ import annotations

from typing import Any

from .. import names, units
from ..constants import (
    COMPONENT_DATASET_VOLUME,
    COMPONENT_TEAM_VOLUME,
    DATASET_STORAGE_CLASS,
    LABEL_COMPONENT,
    LABEL_DATASET,
    LABEL_PROTECTED,
    TEAM_CLAIM_NAME,
)
from ..models import Dataset, Platform, TeamSpec
from .manifest import Manifest, make_object


def make_team_claim(spec: TeamSpec, platform: Platform) -> Manifest:
    """Claim of the team's shared volume. No storage class named: the cluster's default."""
    body: dict[str, Any] = {
        "accessModes": [platform.team_access_mode],
        "resources": {"requests": {"storage": units.from_bytes(spec.volumes.team_bytes)}},
    }
    storage_class = spec.volumes.storage_class or platform.storage_class
    if storage_class is not None:
        body["storageClassName"] = storage_class
    return make_object(
        "v1",
        "PersistentVolumeClaim",
        TEAM_CLAIM_NAME,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        labels={LABEL_COMPONENT: COMPONENT_TEAM_VOLUME},
        body={"spec": body},
    )


def make_dataset_volume(key: str, dataset: Dataset, spec: TeamSpec, platform: Platform) -> Manifest:
    """Static PersistentVolume by which one team reads one data set."""
    namespace = names.namespace_of(spec.team, prefix=platform.namespace_prefix)
    body: dict[str, Any] = {
        "accessModes": ["ReadOnlyMany"],
        "capacity": {"storage": units.from_bytes(dataset.size_bytes)},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "name": names.dataset_claim(key),
            "namespace": namespace,
        },
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": DATASET_STORAGE_CLASS,
        "volumeMode": "Filesystem",
        **_make_source(dataset),
    }
    return make_object(
        "v1",
        "PersistentVolume",
        names.dataset_volume(namespace, key),
        spec=spec,
        platform=platform,
        namespace=None,
        labels=_dataset_labels(key, dataset),
        body={"spec": body},
    )


def make_dataset_claim(key: str, dataset: Dataset, spec: TeamSpec, platform: Platform) -> Manifest:
    """Claim of that volume in the team's namespace."""
    namespace = names.namespace_of(spec.team, prefix=platform.namespace_prefix)
    return make_object(
        "v1",
        "PersistentVolumeClaim",
        names.dataset_claim(key),
        spec=spec,
        platform=platform,
        namespace=namespace,
        labels=_dataset_labels(key, dataset),
        body={
            "spec": {
                "accessModes": ["ReadOnlyMany"],
                "resources": {"requests": {"storage": units.from_bytes(dataset.size_bytes)}},
                "storageClassName": DATASET_STORAGE_CLASS,
                "volumeMode": "Filesystem",
                "volumeName": names.dataset_volume(namespace, key),
            }
        },
    )


def _dataset_labels(key: str, dataset: Dataset) -> dict[str, str]:
    labels = {LABEL_COMPONENT: COMPONENT_DATASET_VOLUME, LABEL_DATASET: key}
    return {**labels, LABEL_PROTECTED: "true"} if dataset.protected else labels


def _make_source(dataset: Dataset) -> dict[str, Any]:
    """Where the data lies. Each way says read-only in its own words."""
    if dataset.csi is not None:
        source = dataset.csi
        csi: dict[str, Any] = {
            "driver": source.driver,
            "readOnly": True,
            "volumeHandle": source.volume_handle,
        }
        if source.fs_type is not None:
            csi["fsType"] = source.fs_type
        if source.volume_attributes:
            csi["volumeAttributes"] = dict(source.volume_attributes)
        # kubelet never passes csi.readOnly on to the driver; the volume's mount options it does.
        return {"csi": csi, "mountOptions": ["ro"]}
    if dataset.nfs is None:
        raise ValueError("a data set without csi and nfs; policy.spec refuses these")
    # nosuid and nodev: what an export holds is data, never a way to other rights.
    nfs = {"path": dataset.nfs.path, "readOnly": True, "server": dataset.nfs.server}
    return {"mountOptions": ["ro", "nosuid", "nodev"], "nfs": nfs}
