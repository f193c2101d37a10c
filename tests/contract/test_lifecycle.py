"""Owners and what they own; pods that no node runs; events."""

from __future__ import annotations

from typing import Any

from .client import Api, Json, path_of


def _pod(name: str, **spec: Any) -> Json:
    container = {"name": "main", "image": "none"}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def _owned(name: str, *owners: Json) -> Json:
    references = [
        {
            "apiVersion": "v1",
            "kind": o["kind"],
            "name": o["metadata"]["name"],
            "uid": o["metadata"]["uid"],
        }
        for o in owners
    ]
    return {"metadata": {"name": name, "ownerReferences": references}}


async def test_a_pods_secret_goes_with_it(api: Api, namespace: str) -> None:
    """A Secret owned by a pod is deleted when the pod is gone."""
    pod = (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    (await api.post(path_of("secrets", namespace), _owned("s", pod))).expect()
    (await api.delete(path_of("pods", namespace, "p"), gracePeriodSeconds=0)).expect()
    await api.until_gone(path_of("secrets", namespace, "s"))


async def test_owned_by_nobody(api: Api, namespace: str) -> None:
    """An object whose owner does not exist (any more) is deleted, whenever it was created."""
    ghost = {
        "kind": "Pod",
        "metadata": {"name": "p", "uid": "00000000-0000-0000-0000-000000000000"},
    }
    (await api.post(path_of("secrets", namespace), _owned("s", ghost))).expect()
    await api.until_gone(path_of("secrets", namespace, "s"))


async def test_one_owner_is_enough(api: Api, namespace: str) -> None:
    """An object with two owners stays while one of them exists."""
    one = (await api.post(path_of("configmaps", namespace), {"metadata": {"name": "one"}})).expect()
    two = (await api.post(path_of("configmaps", namespace), {"metadata": {"name": "two"}})).expect()
    (await api.post(path_of("secrets", namespace), _owned("both", one, two))).expect()
    (await api.post(path_of("secrets", namespace), _owned("single", one))).expect()
    (await api.delete(path_of("configmaps", namespace, "one"))).expect()
    await api.until_gone(path_of("secrets", namespace, "single"))
    (await api.get(path_of("secrets", namespace, "both"))).expect()
    (await api.delete(path_of("configmaps", namespace, "two"))).expect()
    await api.until_gone(path_of("secrets", namespace, "both"))


async def test_pod_defaults(api: Api, namespace: str) -> None:
    """A new pod is `Pending`, restarts always, has 30 s to end and service account `default`."""
    pod = (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    assert pod["status"]["phase"] == "Pending"
    spec = pod["spec"]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Always", 30)
    assert spec["serviceAccountName"] == "default"


async def test_a_pod_without_a_node_waits(api: Api, namespace: str) -> None:
    """Without a node for it a pod stays `Pending`; condition and event say why."""
    (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    path = path_of("pods", namespace, "p")
    found = await api.until(path, lambda a: bool(a.body["status"].get("conditions")))
    assert found.body["status"]["conditions"][0]["reason"] == "Unschedulable"
    events = await api.until(path_of("events", namespace), lambda a: bool(a.body["items"]))
    (event,) = events.body["items"]
    assert event["reason"] == "FailedScheduling"
    assert event["type"] == "Warning"
    assert event["message"].startswith("no nodes available to schedule pods")


async def test_shape_of_an_event(api: Api, namespace: str) -> None:
    """An event names its object by kind, name, namespace and uid, and has the keys `lastTimestamp`
    and `eventTime`, even if null."""
    pod = (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    events = await api.until(path_of("events", namespace), lambda a: bool(a.body["items"]))
    (event,) = events.body["items"]
    about = event["involvedObject"]
    assert (about["kind"], about["name"], about["namespace"]) == ("Pod", "p", namespace)
    assert about["uid"] == pod["metadata"]["uid"]
    assert {"lastTimestamp", "eventTime", "reason", "message", "type"} <= event.keys()


async def test_events_by_object(api: Api, namespace: str) -> None:
    """Events can be listed by `involvedObject.name` and `involvedObject.kind`."""
    for name in ("p", "q"):
        (await api.post(path_of("pods", namespace), _pod(name))).expect()
    path = path_of("events", namespace)
    await api.until(path, lambda a: len(a.body["items"]) >= 2)
    selector = "involvedObject.name=p,involvedObject.kind=Pod"
    found = (await api.get(path, fieldSelector=selector)).expect()
    assert [e["involvedObject"]["name"] for e in found["items"]] == ["p"]


async def test_pods_by_node(api: Api, namespace: str) -> None:
    """Pods can be listed by `spec.nodeName` and `status.phase`."""
    (await api.post(path_of("pods", namespace), _pod("here", nodeName="nowhere"))).expect()
    (await api.post(path_of("pods", namespace), _pod("free"))).expect()
    path = path_of("pods", namespace)
    found = (await api.get(path, fieldSelector="spec.nodeName=nowhere")).expect()
    assert [p["metadata"]["name"] for p in found["items"]] == ["here"]
    found = (await api.get(path, fieldSelector="status.phase=Running")).expect()
    assert found["items"] == []


async def test_graceful_deletion(api: Api, namespace: str) -> None:
    """Deleting a pod on a node only marks it, with the time it has; a delete with 0 removes it."""
    pod = _pod("p", nodeName="nowhere", terminationGracePeriodSeconds=600)
    (await api.post(path_of("pods", namespace), pod)).expect()
    path = path_of("pods", namespace, "p")
    marked = (await api.delete(path)).expect(200)
    assert marked["kind"] == "Pod"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 600
    found = (await api.get(path)).expect()
    assert found["metadata"]["deletionTimestamp"]
    (await api.delete(path, {"gracePeriodSeconds": 60})).expect()
    shorter = (await api.get(path)).expect()["metadata"]
    assert shorter["deletionGracePeriodSeconds"] == 60
    (await api.delete(path, {"gracePeriodSeconds": 0})).expect()
    (await api.get(path)).expect(404)


async def test_deletion_without_a_node(api: Api, namespace: str) -> None:
    """A pod on no node is gone at once, whatever time it was given."""
    (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    (await api.delete(path_of("pods", namespace, "p"))).expect()
    (await api.get(path_of("pods", namespace, "p"))).expect(404)


async def test_no_logs_before_the_start(api: Api, namespace: str) -> None:
    """The log of a pod that has not started is refused or empty, never another's."""
    (await api.post(path_of("pods", namespace), _pod("p"))).expect()
    answer = await api.get(path_of("pods", namespace, "p", "log"))
    assert answer.code == 400 or answer.body == {"text": ""}
