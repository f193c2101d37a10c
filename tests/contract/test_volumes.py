"""Claims and volumes: how they find each other, and what stays when one goes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from .client import Api, path_of

CLASS = "collab-datasets"  # exists nowhere: nothing provisions for it


def _volume(name: str, namespace: str, claim: str, **spec: Any) -> dict[str, Any]:
    source = {"driver": "collab.embedded", "volumeHandle": name, "volumeAttributes": {"path": "/"}}
    whole = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": CLASS,
        "persistentVolumeReclaimPolicy": "Retain",
        "claimRef": {"namespace": namespace, "name": claim},
        "csi": source,
        **spec,
    }
    return {"metadata": {"name": name}, "spec": whole}


def _claim(name: str, volume: str | None, **spec: Any) -> dict[str, Any]:
    whole = {
        "accessModes": ["ReadOnlyMany"],
        "storageClassName": CLASS,
        "resources": {"requests": {"storage": "1Gi"}},
        **({"volumeName": volume} if volume else {}),
        **spec,
    }
    return {"metadata": {"name": name}, "spec": whole}


def _user(claim: str) -> dict[str, Any]:
    """A pod that uses a claim."""
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    spec = {"containers": [{"name": "main", "image": "none"}], "volumes": [volume]}
    return {"metadata": {"name": "user"}, "spec": spec}


@pytest.fixture
async def volume(api: Api, namespace: str) -> AsyncIterator[str]:
    """A static volume for the claim `data` of the test's namespace."""
    name = f"{namespace}-data"
    (await api.post(path_of("persistentvolumes"), _volume(name, namespace, "data"))).expect()
    yield name
    path = path_of("persistentvolumes", name=name)
    await api.delete(path)
    await api.patch(path, {"metadata": {"finalizers": None}})


async def _until_phase(api: Api, path: str, phase: str) -> dict[str, Any]:
    return (await api.until(path, lambda a: a.body["status"].get("phase") == phase)).body


async def test_static_binding(api: Api, namespace: str, volume: str) -> None:
    """A claim that names a volume, which names the claim, binds to it: both say so."""
    path = path_of("persistentvolumeclaims", namespace, "data")
    body = _claim("data", volume)
    made = (await api.post(path_of("persistentvolumeclaims", namespace), body)).expect()
    claim = await _until_phase(api, path, "Bound")
    assert claim["spec"]["volumeName"] == volume
    assert claim["status"]["capacity"] == {"storage": "1Gi"}
    found = await _until_phase(api, path_of("persistentvolumes", name=volume), "Bound")
    assert found["spec"]["claimRef"]["uid"] == made["metadata"]["uid"]


async def test_binding_by_the_volumes_word(api: Api, namespace: str, volume: str) -> None:
    """A claim that names no volume binds to the one that names it in `claimRef`."""
    body = _claim("data", None)
    (await api.post(path_of("persistentvolumeclaims", namespace), body)).expect()
    path = path_of("persistentvolumeclaims", namespace, "data")
    assert (await _until_phase(api, path, "Bound"))["spec"]["volumeName"] == volume


async def test_nobody_elses_claim_binds(api: Api, namespace: str, volume: str) -> None:
    """A claim of another name gets no volume that is kept for somebody, though it names it."""
    claims = path_of("persistentvolumeclaims", namespace)
    (await api.post(claims, _claim("thief", volume))).expect()
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path_of("persistentvolumeclaims", namespace, "data"), "Bound")
    thief = (await api.get(path_of("persistentvolumeclaims", namespace, "thief"))).expect()
    assert thief["status"]["phase"] == "Pending"


async def test_other_class_does_not_bind(api: Api, namespace: str, volume: str) -> None:
    """A claim of another storage class does not bind to a free volume that it names."""
    free, path = f"{namespace}-free", path_of("persistentvolumes", name=f"{namespace}-free")
    claims = path_of("persistentvolumeclaims", namespace)
    body = _volume(free, namespace, "")
    del body["spec"]["claimRef"]
    (await api.post(path_of("persistentvolumes"), body)).expect()
    (await api.post(claims, _claim("other", free, storageClassName="other"))).expect()
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path_of("persistentvolumeclaims", namespace, "data"), "Bound")
    found = (await api.get(path_of("persistentvolumeclaims", namespace, "other"))).expect()
    assert found["status"]["phase"] == "Pending"
    await api.delete(path)


async def test_retain(api: Api, namespace: str, volume: str) -> None:
    """With `Retain` a deleted claim leaves its volume: `Released`, and no claim's any more."""
    claims = path_of("persistentvolumeclaims", namespace)
    path = path_of("persistentvolumeclaims", namespace, "data")
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path, "Bound")
    await _until_phase(api, path_of("persistentvolumes", name=volume), "Bound")
    (await api.delete(path)).expect()
    await api.until_gone(path)
    found = await _until_phase(api, path_of("persistentvolumes", name=volume), "Released")
    assert found["spec"]["persistentVolumeReclaimPolicy"] == "Retain"
    (await api.post(claims, _claim("data", volume))).expect()
    claim = (await api.get(path)).expect()
    assert claim["status"]["phase"] == "Pending"


async def test_a_released_volume_can_be_given_again(api: Api, namespace: str, volume: str) -> None:
    """Without the old uid in `claimRef` a released volume binds to the claim of that name again."""
    claims = path_of("persistentvolumeclaims", namespace)
    path = path_of("persistentvolumeclaims", namespace, "data")
    volume_path = path_of("persistentvolumes", name=volume)
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, volume_path, "Bound")
    (await api.delete(path)).expect()
    await _until_phase(api, volume_path, "Released")
    patch = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
    (await api.patch(volume_path, patch)).expect()
    await _until_phase(api, volume_path, "Available")
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path, "Bound")


async def test_claim_protection(api: Api, namespace: str, volume: str) -> None:
    """A claim that a pod uses stays until the pod is gone, with finalizer `pvc-protection`."""
    claims = path_of("persistentvolumeclaims", namespace)
    path = path_of("persistentvolumeclaims", namespace, "data")
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path, "Bound")
    pod = _user("data")
    pod["spec"]["nodeName"] = "elsewhere"  # a pod that has no node yet uses nothing
    (await api.post(path_of("pods", namespace), pod)).expect()
    assert (await api.get(path)).expect()["metadata"]["finalizers"] == [
        "kubernetes.io/pvc-protection"
    ]
    assert (await api.delete(path)).expect()["metadata"]["deletionTimestamp"]
    (await api.get(path)).expect()
    (await api.delete(path_of("pods", namespace, "user"), gracePeriodSeconds=0)).expect()
    await api.until_gone(path)


async def test_volume_protection(api: Api, namespace: str, volume: str) -> None:
    """A bound volume that is deleted stays until its claim is gone."""
    claims = path_of("persistentvolumeclaims", namespace)
    path = path_of("persistentvolumes", name=volume)
    (await api.post(claims, _claim("data", volume))).expect()
    await _until_phase(api, path, "Bound")
    assert (await api.delete(path)).expect()["metadata"]["deletionTimestamp"]
    (await api.get(path)).expect()
    (await api.delete(path_of("persistentvolumeclaims", namespace, "data"))).expect()
    await api.until_gone(path)


async def test_a_pod_waits_for_its_claim(api: Api, namespace: str) -> None:
    """A pod whose claim is not there stays `Pending` with condition `PodScheduled` false."""
    (await api.post(path_of("pods", namespace), _user("missing"))).expect()
    path = path_of("pods", namespace, "user")
    found = await api.until(path, lambda a: bool(a.body["status"].get("conditions")))
    (condition,) = (c for c in found.body["status"]["conditions"] if c["type"] == "PodScheduled")
    assert (condition["status"], condition["reason"]) == ("False", "Unschedulable")
    assert found.body["status"]["phase"] == "Pending"
