"""The embedded API's own rules, which no real cluster has."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.constants import LABEL_PROTECTED
from jupyterhub_collab.embedded.controllers import EVENT_LIFE_S, Controllers
from jupyterhub_collab.embedded.failures import ApiError
from jupyterhub_collab.embedded.objects import Objects, to_time
from jupyterhub_collab.embedded.patches import json_patch, merge
from jupyterhub_collab.embedded.resources import (
    CLAIMS,
    CONFIG_MAPS,
    EVENTS,
    NAMESPACES,
    PODS,
    VOLUMES,
    Resource,
)
from jupyterhub_collab.embedded.store import Store

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
POD = {"containers": [{"name": "main", "image": "x"}]}
SIZE = {"storage": "1Gi"}
SPECS: dict[Resource, dict[str, Any]] = {
    PODS: POD,
    CLAIMS: {"accessModes": ["ReadWriteOnce"], "resources": {"requests": SIZE}},
    VOLUMES: {"accessModes": ["ReadWriteOnce"], "capacity": SIZE},
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


@pytest.mark.parametrize("resource", SPECS, ids=lambda r: r.plural)
def test_protected_data_is_refused(
    objects: Objects, controllers: Controllers, resource: Resource
) -> None:
    space = "default" if resource.namespaced else ""
    labels = {LABEL_PROTECTED: "true"}
    body = {"metadata": {"name": "x", "labels": labels}, "spec": SPECS[resource]}
    with pytest.raises(ApiError, match="isolates nothing: use a real cluster") as refused:
        objects.create(resource, space, body, "test")
    assert refused.value.code == 403
    assert objects.store.get(resource, space, "x") is None


@pytest.mark.parametrize("resource", SPECS, ids=lambda r: r.plural)
def test_data_cannot_become_protected(
    objects: Objects, controllers: Controllers, resource: Resource
) -> None:
    space = "default" if resource.namespaced else ""
    live = objects.create(
        resource, space, {"metadata": {"name": "x"}, "spec": SPECS[resource]}, "t"
    )
    new = merge(live, {"metadata": {"labels": {LABEL_PROTECTED: "true"}}}, keyed=False)
    with pytest.raises(ApiError, match="isolates nothing"):
        objects.update(resource, live, new, "test")
    new["metadata"]["labels"][LABEL_PROTECTED] = "false"
    objects.update(resource, live, new, "test")


def test_events_live_an_hour(objects: Objects, controllers: Controllers, clock: Clock) -> None:
    pod = objects.create(PODS, "default", {"metadata": {"name": "p"}, "spec": POD}, "test")
    objects.record_event(pod, "Old", "long ago", "test")
    clock.now += timedelta(seconds=EVENT_LIFE_S - 1)
    objects.record_event(pod, "New", "just now", "test")
    clock.now += timedelta(seconds=2)
    controllers.expire_events(to_time(clock.now - timedelta(seconds=EVENT_LIFE_S)))
    assert [e["reason"] for e in objects.store.select(EVENTS)] == ["New"]


def test_a_full_history_forgets_its_beginning(objects: Objects, controllers: Controllers) -> None:
    version = objects.store.version
    live = objects.create(CONFIG_MAPS, "default", {"metadata": {"name": "x"}}, "test")
    objects.store.watch(CONFIG_MAPS, version)
    for number in range(6000):
        live = objects.update(CONFIG_MAPS, live, {**live, "data": {"n": str(number)}}, "test")
    with pytest.raises(ApiError) as gone:
        objects.store.watch(CONFIG_MAPS, version)
    assert gone.value.code == 410
    past, _ = objects.store.watch(CONFIG_MAPS, objects.store.version - 1)
    assert len(past) == 1


def test_the_volume_of_a_deleted_claim_is_not_given_to_its_successor(
    objects: Objects, controllers: Controllers
) -> None:
    """A claim of the same name waits until the old one's folder has been cleared."""
    body = {"metadata": {"name": "home"}, "spec": SPECS[CLAIMS]}
    first = objects.create(CLAIMS, "default", body, "test")
    controllers.settle()
    live = objects.store.get(CLAIMS, "default", "home")
    assert live is not None
    assert live["status"]["phase"] == "Bound"
    objects.delete(CLAIMS, live, {})
    controllers.settle()
    assert objects.store.get(CLAIMS, "default", "home") is None
    (volume,) = objects.store.select(VOLUMES)
    assert volume["status"]["phase"] == "Released"
    second = objects.create(CLAIMS, "default", body, "test")
    controllers.settle()
    waiting = objects.store.get(CLAIMS, "default", "home")
    assert waiting is not None
    assert waiting["status"]["phase"] == "Pending"
    objects.delete(VOLUMES, volume, {})  # as the node does, after it has cleared the folder
    controllers.settle()
    bound = objects.store.get(CLAIMS, "default", "home")
    assert bound is not None
    assert bound["status"]["phase"] == "Bound"
    assert bound["metadata"]["uid"] == second["metadata"]["uid"] != first["metadata"]["uid"]


def test_settling_twice_changes_nothing(objects: Objects, controllers: Controllers) -> None:
    objects.create(NAMESPACES, "", {"metadata": {"name": "team"}}, "test")
    objects.create(PODS, "team", {"metadata": {"name": "p"}, "spec": POD}, "test")
    controllers.settle()
    version = objects.store.version
    for resource in (NAMESPACES, PODS):
        for obj in objects.store.select(resource):
            change = type("Change", (), {"obj": obj})()
            objects.store.changes.append((resource, change))
    controllers.settle()
    assert objects.store.version == version


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_merge_patches_are_idempotent(target: Any, patch: Any) -> None:
    once = merge(target, patch, keyed=False)
    assert merge(once, patch, keyed=False) == once


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
    assert merge(target, patch, keyed=False) == expected


def test_json_patch_leaves_its_input_alone() -> None:
    document = {"a": {"b": [1]}}
    changed = json_patch(document, [{"op": "add", "path": "/a/b/-", "value": 2}])
    assert changed == {"a": {"b": [1, 2]}}
    assert document == {"a": {"b": [1]}}
