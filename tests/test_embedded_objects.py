"""The embedded API's own rules, which no real cluster has."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.constants import LABEL_PROTECTED
from jupyterhub_collab.embedded.controllers import EVENT_LIFE, Controllers
from jupyterhub_collab.embedded.failures import ApiError
from jupyterhub_collab.embedded.fields import from_leaves, merge, merge_items, to_leaves
from jupyterhub_collab.embedded.objects import Objects, Write
from jupyterhub_collab.embedded.store import Change, Store
from jupyterhub_collab.kube import Kind
from jupyterhub_collab.kube import kinds as k

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
BY = Write("test")
POD = {"containers": [{"name": "main", "image": "x"}]}
SIZE = {"storage": "1Gi"}
CLAIM_GONE = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "namespace": "default",
    "name": "c",
    "uid": "u",
}
SPECS: dict[Kind, dict[str, Any]] = {
    k.POD: POD,
    k.PERSISTENT_VOLUME_CLAIM: {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}},
    k.PERSISTENT_VOLUME: {"accessModes": ["ReadWriteOnce"], "capacity": SIZE},
}


class Clock:
    """Time to order."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def objects(tmp_path: Path, clock: Clock) -> Iterator[Objects]:
    store = Store(tmp_path / "state.db")
    yield Objects(store, clock)
    store.close()


@pytest.fixture
def controllers(objects: Objects, tmp_path: Path) -> Controllers:
    found = Controllers(objects, tmp_path, "ca")
    found.bootstrap()
    found.settle()
    return found


@pytest.mark.parametrize("kind", SPECS, ids=lambda r: r.plural)
def test_protected_data_is_refused(objects: Objects, controllers: Controllers, kind: Kind) -> None:
    space = "default" if kind.namespaced else ""
    labels = {LABEL_PROTECTED: "true"}
    body = {"metadata": {"name": "x", "labels": labels}, "spec": SPECS[kind]}
    with pytest.raises(ApiError, match="isolates nothing: use a real cluster") as refused:
        objects.create(kind, space, body, BY)
    assert refused.value.code == 403
    assert objects.store.get(kind, space, "x") is None


@pytest.mark.parametrize("kind", SPECS, ids=lambda r: r.plural)
def test_data_cannot_become_protected(
    objects: Objects, controllers: Controllers, kind: Kind
) -> None:
    space = "default" if kind.namespaced else ""
    live = objects.create(kind, space, {"metadata": {"name": "x"}, "spec": SPECS[kind]}, BY)
    new = merge(live, {"metadata": {"labels": {LABEL_PROTECTED: "true"}}})
    with pytest.raises(ApiError, match="isolates nothing"):
        objects.update(kind, live, new, BY)
    new["metadata"]["labels"][LABEL_PROTECTED] = "false"
    objects.update(kind, live, new, BY)


def test_events_live_an_hour(objects: Objects, controllers: Controllers, clock: Clock) -> None:
    on_node = {**POD, "nodeName": "n"}
    pod = objects.create(k.POD, "default", {"metadata": {"name": "p"}, "spec": on_node}, BY)
    objects.record_event(pod, "Old", "long ago", "test")
    clock.now += EVENT_LIFE - timedelta(seconds=1)
    objects.record_event(pod, "New", "just now", "test")
    clock.now += timedelta(seconds=2)
    objects.create(k.CONFIG_MAP, "default", {"metadata": {"name": "any"}}, BY)
    controllers.settle()
    assert [e["reason"] for e in objects.store.select(k.EVENT)] == ["New"]


def test_a_full_history_forgets_its_beginning(objects: Objects, controllers: Controllers) -> None:
    version = objects.store.version
    live = objects.create(k.CONFIG_MAP, "default", {"metadata": {"name": "x"}}, BY)
    objects.store.watch(k.CONFIG_MAP, version)
    for number in range(6000):
        live = objects.update(k.CONFIG_MAP, live, {**live, "data": {"n": str(number)}}, BY)
    with pytest.raises(ApiError) as gone:
        objects.store.watch(k.CONFIG_MAP, version)
    assert gone.value.code == 410
    past, _ = objects.store.watch(k.CONFIG_MAP, objects.store.version - 1)
    assert len(past) == 1


def _bound_folder(objects: Objects) -> Path:
    (volume,) = objects.store.select(k.PERSISTENT_VOLUME)
    assert volume["status"]["phase"] == "Bound"
    return Path(volume["spec"]["csi"]["volumeAttributes"]["path"])


def test_a_deleted_claims_successor_begins_empty(
    objects: Objects, controllers: Controllers
) -> None:
    body = {"metadata": {"name": "home"}, "spec": SPECS[k.PERSISTENT_VOLUME_CLAIM]}
    live = objects.create(k.PERSISTENT_VOLUME_CLAIM, "default", body, BY)
    controllers.settle()
    (_bound_folder(objects) / "secret").touch()
    objects.delete(
        k.PERSISTENT_VOLUME_CLAIM,
        objects.store.get(k.PERSISTENT_VOLUME_CLAIM, "default", "home") or live,
        {},
    )
    controllers.settle()
    assert objects.store.select(k.PERSISTENT_VOLUME) == []
    objects.create(k.PERSISTENT_VOLUME_CLAIM, "default", body, BY)
    controllers.settle()
    assert list(_bound_folder(objects).iterdir()) == []


def test_a_folder_that_nobody_here_made_is_never_deleted(
    objects: Objects, controllers: Controllers, tmp_path: Path
) -> None:
    """Though its volume asks for it, and lies where the made ones lie."""
    kept = tmp_path / "kept"
    kept.mkdir()
    source = {"driver": "collab.embedded", "volumeAttributes": {"path": str(kept)}}
    spec = {"persistentVolumeReclaimPolicy": "Delete", "csi": source, "claimRef": CLAIM_GONE}
    body = {"metadata": {"name": "v"}, "spec": {**SPECS[k.PERSISTENT_VOLUME], **spec}}
    live = objects.create(k.PERSISTENT_VOLUME, "", body, BY)
    bound = {**live, "status": {"phase": "Bound"}}
    objects.update(k.PERSISTENT_VOLUME, live, bound, BY, status=True)
    controllers.settle()
    assert kept.is_dir()


def test_settling_twice_changes_nothing(objects: Objects, controllers: Controllers) -> None:
    objects.create(k.NAMESPACE, "", {"metadata": {"name": "team"}}, BY)
    objects.create(k.POD, "team", {"metadata": {"name": "p"}, "spec": POD}, BY)
    controllers.settle()
    version = objects.store.version
    for kind in (k.NAMESPACE, k.POD):
        for obj in objects.store.select(kind):
            objects.store.changes.append(Change(kind, version, obj, None))
    controllers.settle()
    assert objects.store.version == version


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_merge_patches_are_idempotent(target: Any, patch: Any) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [  # RFC 7386, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: Any, patch: Any, expected: Any) -> None:
    assert merge(target, patch) == expected


def test_an_object_is_its_leaves() -> None:
    spec = {"containers": [{"name": "a", "env": [], "ports": [{"containerPort": 1}]}], "x": {}}
    obj = {"metadata": {"finalizers": ["a", "b"]}, "spec": spec, "list": [{"k": 1}], "none": None}
    assert from_leaves(to_leaves(obj)) == obj


def test_strategic_merge_patch_leaves_its_input_alone() -> None:
    target = {"spec": {"ports": [{"port": 1, "name": "a"}, {"port": 2}], "x": {"a": 1}}}
    before = copy.deepcopy(target)
    changed = merge_items(target, {"spec": {"ports": [{"port": 1, "name": "b"}], "x": None}})
    assert changed == {"spec": {"ports": [{"port": 1, "name": "b"}, {"port": 2}]}}
    assert target == before
    with pytest.raises(ApiError, match="directives"):
        merge_items(target, {"spec": {"$patch": "replace"}})
