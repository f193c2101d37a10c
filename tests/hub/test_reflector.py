"""What the hub keeps of pods and events: little, true, and matched by uid."""

import asyncio
import gc
import json
import tracemalloc

import pytest

from jupyterhub_collab.errors import RetryableError
from jupyterhub_collab.hub.progress import ProgressLog
from jupyterhub_collab.hub.reflector import (
    EventFeed,
    PodCache,
    PodEvent,
    to_pod_event,
    to_view,
    trim_pod,
)
from jupyterhub_collab.kube.client import Page
from jupyterhub_collab.kube.errors import Target, no_answer
from jupyterhub_collab.kube.watch_lines import WatchEvent


def pod(name="a", *, namespace="team-ocean", uid=None, version=1, **status):
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": uid or f"uid-{name}",
            "resourceVersion": str(version),
            "annotations": {
                "hub.jupyter.org/username": "ada",
                "jupyterhub-collab.org/server-id": "id",
                "noise": "x" * 2000,
            },
            "managedFields": [{"noise": "x" * 2000}],
        },
        "spec": {"containers": [{"name": "notebook", "env": [{"value": "x" * 2000}]}]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [
                {"name": "sidecar", "ready": False, "state": {"terminated": {"exitCode": 1}}},
                {"name": "notebook", "ready": True, "state": {"running": {"startedAt": "x"}}},
            ],
            **status,
        },
    }


def view(**status):
    return to_view(trim_pod(pod(**status)))


def notebook(**state):
    return [{"name": "notebook", "ready": False, "state": state}]


def test_a_pod_that_serves():
    found = view()
    assert found.is_serving
    assert not found.is_dead
    assert (found.username, found.server_name, found.server_id) == ("ada", "", "id")


@pytest.mark.parametrize(
    ("status", "is_dead", "code"),
    [
        ({"phase": "Pending", "containerStatuses": None, "podIP": None}, False, None),
        ({"phase": "Unknown"}, False, None),  # the node does not answer: no death
        ({"phase": "Failed", "containerStatuses": None, "reason": "Evicted"}, True, None),
        ({"phase": "Succeeded"}, True, None),
        ({"containerStatuses": notebook(terminated={"exitCode": 137})}, True, 137),
        ({"containerStatuses": notebook(waiting={"reason": "PodInitializing"})}, False, None),
        ({"containerStatuses": []}, False, None),
    ],
)
def test_dead_or_not(status, is_dead, code):
    found = view(**status)
    assert found.is_dead is is_dead
    assert found.exit_code == code
    assert not found.is_serving or status["phase"] == "Unknown"


def test_little_is_kept():
    kept = json.dumps(trim_pod(pod()))
    assert len(kept) < 700
    assert "noise" not in kept


class Api:
    """Pages and watches, to order."""

    def __init__(self, pods=(), watches=()):
        self.pods, self.watches = list(pods), list(watches)
        self.asked = []
        self.began = asyncio.Event()

    async def list_page(self, kind, *, page_size=500, token=None, **where):
        self.asked.append(("list", page_size, where))
        start = int(token or 0)
        items = [json.loads(json.dumps(p)) for p in self.pods[start : start + page_size]]
        following = start + page_size
        return Page(items, "10", str(following) if following < len(self.pods) else None)

    async def watch(self, kind, *, resource_version, **where):
        self.asked.append(("watch", resource_version))
        self.began.set()
        if not self.watches:
            await asyncio.Event().wait()
        for event in self.watches.pop(0):
            if isinstance(event, Exception):
                raise event
            yield event


async def started(reader):
    task = asyncio.create_task(reader.run())
    await asyncio.sleep(0)
    return task


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pages_and_one_watch():
    api = Api([pod(f"p{i}") for i in range(1200)])
    cache = PodCache(api, hub_id="hub")
    task = await started(cache)
    await api.began.wait()
    assert len(cache) == 1200
    assert [a[0] for a in api.asked] == ["list", "list", "list", "watch"]
    assert "jupyterhub-collab.org/hub=hub" in api.asked[0][2]["label_selector"]
    await ended(task)


async def test_a_waiter_hears_of_changes_and_of_the_end():
    api = Api([pod(phase="Pending")])
    cache = PodCache(api, hub_id="hub")
    task = await started(cache)
    await api.began.wait()
    waiting = asyncio.create_task(
        cache.wait_for("team-ocean", "a", lambda v: v is None or v.is_serving, timeout_s=5)
    )
    await asyncio.sleep(0)
    cache.note(pod(version=11))
    assert (await waiting).is_serving
    with pytest.raises(TimeoutError):
        await cache.wait_for("team-ocean", "a", lambda v: v is None, timeout_s=0.01)
    await ended(task)


async def test_same_name_in_another_namespace_or_with_another_uid_is_another_pod():
    api = Api([pod(), pod(namespace="team-reef", uid="other")])
    cache = PodCache(api, hub_id="hub")
    task = await started(cache)
    await api.began.wait()
    assert cache.get("team-ocean", "a").uid == "uid-a"
    assert cache.get("team-reef", "a").uid == "other"
    assert cache.get("team-none", "a") is None
    assert len(cache.in_namespace("team-reef")) == 1
    await ended(task)


def event(uid, reason="Scheduled", *, name="e", count=1, version="11"):
    return {
        "metadata": {"uid": f"{name}-{uid}", "name": name, "resourceVersion": version},
        "involvedObject": {"kind": "Pod", "uid": uid, "name": "same-name", "namespace": "any"},
        "type": "Normal",
        "reason": reason,
        "message": "m",
        "lastTimestamp": None,
        "eventTime": "2027-01-01T00:00:00Z",
        "count": count,
    }


async def test_events_are_matched_by_uid_and_history_is_never_read():
    arrived = [WatchEvent("ADDED", event("mine")), WatchEvent("ADDED", event("foreign"))]
    broken = no_answer(Target("watch", "Event"), OSError("cut"))
    api = Api([{"metadata": {"name": "old"}}] * 3, [[*arrived, broken]])
    feed = EventFeed(api)
    task = await started(feed)
    await api.began.wait()
    await asyncio.sleep(0)
    told = []
    end = feed.follow("mine", told.append)  # after the event came: it is told all the same
    assert [e.uid for e in told] == ["e-mine"]
    assert api.asked[0][1] == 1  # one event at most was listed, for the place to begin at
    end()
    await ended(task)


def test_what_is_no_pods_event():
    assert to_pod_event({"metadata": {}, "involvedObject": {"kind": "Node", "uid": "x"}}) is None
    assert to_pod_event({"metadata": {}, "involvedObject": {"kind": "Pod"}}) is None


def test_the_cache_of_a_thousand_pods_is_small():
    """KubeSpawner's reflector holds 176 MB for five times as many pods of 6.6 KB."""
    pods = json.dumps([pod(f"p{i}") for i in range(1000)])

    async def fill():
        api = Api(json.loads(pods))
        cache = PodCache(api, hub_id="hub")
        gc.collect()
        tracemalloc.start()
        task = await started(cache)
        await api.began.wait()
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(cache) == 1000
        await ended(task)
        return used

    assert asyncio.run(fill()) < 5 * 2**20


async def test_watching_never_ends_and_waits_longer_each_time(monkeypatch):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) >= 12:
            await asyncio.Event().wait()

    class Down(Api):
        async def list_page(self, kind, **more):
            raise no_answer(Target("list", "Event"), OSError("refused"))

    task = asyncio.create_task(EventFeed(Down()).run())
    real = asyncio.sleep
    monkeypatch.setattr("jupyterhub_collab.hub.reflector.asyncio.sleep", sleep)
    while len(pauses) < 12:
        await real(0)
    assert not task.done()
    assert max(pauses) <= 30
    assert pauses[8] > pauses[0]
    await ended(task)
    assert issubclass(type(no_answer(Target("x", "y"), OSError())), RetryableError)


async def read(log):
    return [m async for m in log.follow()]


async def test_progress_is_told_to_every_page_from_the_beginning():
    log = ProgressLog()
    log.say("one", percent=10)
    first = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    log.tell(PodEvent("u1", "Normal", "Scheduled", "raw", ""))
    log.tell(PodEvent("u1", "Normal", "Scheduled", "raw", ""))  # the API repeats itself
    log.tell(PodEvent("u2", "Normal", "SomethingInternal", "raw", ""))
    log.tell(PodEvent("u3", "Warning", "FailedMount", "disk on fire", ""))
    log.say("back", percent=1)
    second = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    log.close()
    log.say("after the end", percent=99)
    told = await first
    assert told == await second
    assert [m["message"] for m in told] == [
        "one",
        "A machine has room for your server.",
        "A volume cannot be opened yet. Trying again. (disk on fire)",
        "back",
    ]
    assert [m["progress"] for m in told] == [10, 50, 50, 50]
    assert log.last_warning == "disk on fire"


async def test_a_volume_that_is_still_being_made_is_no_lack_of_room():
    log = ProgressLog()
    why = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    log.tell(PodEvent("u1", "Warning", "FailedScheduling", why, ""))
    log.tell(PodEvent("u2", "Warning", "FailedScheduling", "0/1 nodes: Insufficient cpu.", ""))
    log.close()
    assert [m["message"] for m in await read(log)] == [
        "A volume is still being made.",
        "No machine has room for your server yet. It starts as soon as one has."
        " (0/1 nodes: Insufficient cpu.)",
    ]
    assert log.last_warning == "0/1 nodes: Insufficient cpu."
