"""What the hub knows of its pods: one list and watch for the whole cluster, trimmed.

`PodCache` holds the pods of our servers as `PodView`s, a few hundred bytes each where KubeSpawner's
reflector keeps whole objects, and is never listed anew while its watch lives. `EventFeed` keeps no
history at all: it watches from now on and remembers events only of pods that somebody follows, by
their uid. Neither ever gives up, and neither ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import constants
from ..errors import CollabError, RetryableError
from ..kube.client import KubeClient
from ..kube.errors import GoneError
from ..kube.informer import Change, Informer, label_selector
from ..kube.kinds import EVENT, POD
from ..policy.pod_additions import NOTEBOOK
from ..timeouts import TIMED_OUT, timeout

log = logging.getLogger(__name__)

_KEPT_ANNOTATIONS: Final = (
    constants.ANNOTATION_USERNAME,
    constants.ANNOTATION_SERVERNAME,
    constants.ANNOTATION_SERVER_ID,
)
_DEAD_PHASES: Final = frozenset({"Failed", "Succeeded"})


@dataclass(frozen=True)
class PodView:
    """One of our pods, as far as the hub needs it.

    Attributes
    ----------
    waiting, exit_code, exit_reason
        Of the server's container: why it does not run yet, and how it ended. Empty and None when
        it does not wait, or has not ended.
    """

    namespace: str
    name: str
    uid: str
    username: str
    server_name: str
    server_id: str
    phase: str
    ip: str
    is_ready: bool
    is_terminating: bool
    waiting: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    exit_reason: str = ""
    status_reason: str = ""
    status_message: str = ""
    disruption: str = ""  # reason of the condition DisruptionTarget: who ends it, not the member
    image_id: str = ""  # with the digest, once the image was fetched

    @property
    def is_dead(self) -> bool:
        """The server's process has ended, however the pod's object lingers."""
        return self.phase in _DEAD_PHASES or self.exit_code is not None

    @property
    def is_serving(self) -> bool:
        """It runs, is ready and has an address."""
        ready = self.phase == "Running" and self.is_ready and bool(self.ip)
        return ready and not self.is_terminating and not self.is_dead


def trim_pod(pod: dict[str, Any]) -> dict[str, Any]:
    """A pod with nothing in it but what `to_view` reads. Shares nothing with the one given."""
    meta, status = pod["metadata"], pod.get("status") or {}
    annotations = meta.get("annotations") or {}
    kept: dict[str, Any] = {
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta.get("uid", ""),
        "resourceVersion": meta.get("resourceVersion", ""),
        "annotations": {k: annotations[k] for k in _KEPT_ANNOTATIONS if k in annotations},
    }
    if meta.get("deletionTimestamp"):
        kept["deletionTimestamp"] = meta["deletionTimestamp"]
    few: dict[str, Any] = {
        key: status[key] for key in ("phase", "podIP", "reason", "message") if status.get(key)
    }
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            few["disruption"] = condition.get("reason", "")
    for container in status.get("containerStatuses") or []:
        if container.get("name") == NOTEBOOK:
            state = container.get("state") or {}
            few["notebook"] = {
                "ready": bool(container.get("ready")),
                "state": _trim_state(state),
                "image": container.get("imageID") or "",
            }
    return {"metadata": kept, "status": few}


def _trim_state(state: Mapping[str, Any]) -> dict[str, Any]:
    keys = {"waiting": ("reason", "message"), "terminated": ("exitCode", "reason", "message")}
    return {
        name: {key: state[name][key] for key in fields if state[name].get(key) is not None}
        for name, fields in keys.items()
        if state.get(name) is not None
    }


def to_view(pod: Mapping[str, Any]) -> PodView:
    """View of a trimmed pod."""
    meta, status = pod["metadata"], pod["status"]
    annotations = meta["annotations"]
    notebook = status.get("notebook") or {"ready": False, "state": {}}
    waiting = notebook["state"].get("waiting") or {}
    ended = notebook["state"].get("terminated")
    return PodView(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        username=annotations.get(constants.ANNOTATION_USERNAME, ""),
        server_name=annotations.get(constants.ANNOTATION_SERVERNAME, ""),
        server_id=annotations.get(constants.ANNOTATION_SERVER_ID, ""),
        phase=status.get("phase", "Pending"),
        ip=status.get("podIP", ""),
        is_ready=notebook["ready"],
        is_terminating="deletionTimestamp" in meta,
        waiting=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=None if ended is None else int(ended.get("exitCode", 1)),
        exit_reason="" if ended is None else ended.get("reason", ""),
        status_reason=status.get("reason", ""),
        status_message=status.get("message", ""),
        disruption=status.get("disruption", ""),
        image_id=notebook.get("image", ""),
    )


class PodCache:
    """All pods of this hub's servers, kept true by one informer.

    Parameters
    ----------
    hub_id
        Pods of another hub on the same cluster are not looked at.
    """

    def __init__(
        self,
        client: KubeClient,
        *,
        hub_id: str,
        clock: Callable[[], float] = time.monotonic,
        page_size: int = 500,
    ) -> None:
        self._clock = clock
        self._waiters: dict[tuple[str, str], set[asyncio.Event]] = {}
        self._gone: OrderedDict[str, float] = OrderedDict()  # namespace: when a pod last went
        self._last: OrderedDict[str, PodView] = OrderedDict()  # uid: the last seen of what went
        labels = {
            constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
            constants.LABEL_HUB: hub_id,
            constants.LABEL_COMPONENT: constants.COMPONENT_SERVER,
        }
        self._informer = Informer(
            client,
            POD,
            on_change=self._take,
            label_selector=label_selector(labels),
            transform=trim_pod,
            page_size=page_size,
        )
        self.run = self._informer.run

    @property
    def synced(self) -> asyncio.Event:
        """Set once the first list is complete."""
        return self._informer.synced

    @property
    def lists(self) -> int:
        """Complete lists so far."""
        return self._informer.lists

    def __len__(self) -> int:
        return len(self._informer)

    def get(self, namespace: str, name: str) -> PodView | None:
        """One pod; None when there is none, as far as is known."""
        found = self._informer.get(name, namespace)
        return None if found is None else to_view(found)

    def in_namespace(self, namespace: str) -> list[PodView]:
        """All pods of one team."""
        return [to_view(pod) for pod in self._informer.in_namespace(namespace).values()]

    def __iter__(self) -> Iterator[PodView]:
        return (to_view(pod) for pod in self._informer)

    def note(self, pod: dict[str, Any]) -> None:
        """Take in the API's answer to a create: known before the watch tells."""
        self._informer.note(pod)
        self._wake(pod["metadata"]["namespace"], pod["metadata"]["name"])

    def last_of(self, uid: str) -> PodView | None:
        """The last that was seen of a pod that is gone; None if that is too long ago."""
        return self._last.get(uid)

    async def settle(self, view: PodView, *, timeout_s: float = 3.0) -> PodView:
        """A pod whose container has ended, once its status says why too, or so many seconds later.

        The kubelet tells of the end of a container first, and that it was an eviction after that.
        """
        if not view.is_dead or view.phase in _DEAD_PHASES:
            return view

        def is_settled(now: PodView | None) -> bool:
            return now is None or now.uid != view.uid or now.phase in _DEAD_PHASES

        try:
            now = await self.wait_for(view.namespace, view.name, is_settled, timeout_s=timeout_s)
        except TimeoutError:
            return view
        if now is None or now.uid != view.uid:
            return self.last_of(view.uid) or view
        return now

    def seconds_since_one_went(self, namespace: str) -> float:
        """How long ago a pod of this namespace was last seen to go; infinite if never."""
        went = self._gone.get(namespace)
        return float("inf") if went is None else self._clock() - went

    async def wait_for(
        self,
        namespace: str,
        name: str,
        is_enough: Callable[[PodView | None], bool],
        *,
        timeout_s: float,
    ) -> PodView | None:
        """Wait until a pod is as wanted. Raises TimeoutError after ``timeout_s`` seconds."""
        changed = asyncio.Event()
        waiters = self._waiters.setdefault((namespace, name), set())
        waiters.add(changed)
        deadline = asyncio.get_running_loop().time() + timeout_s
        try:
            while True:
                changed.clear()
                view = self.get(namespace, name)
                if is_enough(view):
                    return view
                left = deadline - asyncio.get_running_loop().time()
                try:
                    async with timeout(left):
                        await changed.wait()
                except TIMED_OUT as e:
                    raise TimeoutError(f"pod {namespace}/{name} in {timeout_s:.0f} s") from e
        finally:
            waiters.discard(changed)
            if not waiters:
                self._waiters.pop((namespace, name), None)

    def _take(self, change: Change) -> None:
        meta = change.obj["metadata"]
        if change.new is None:
            self._gone[meta["namespace"]] = self._clock()
            self._gone.move_to_end(meta["namespace"])
            last = to_view(change.obj)
            self._last[last.uid] = last
            for remembered in (self._gone, self._last):
                while len(remembered) > _GONE_MAX:
                    remembered.popitem(last=False)
        self._wake(meta["namespace"], meta["name"])

    def _wake(self, namespace: str, name: str) -> None:
        for waiter in self._waiters.get((namespace, name), ()):
            waiter.set()


_GONE_MAX: Final = 1000  # namespaces of which it is remembered when a pod last went, and pods


@dataclass(frozen=True)
class PodEvent:
    """One event of a pod, trimmed. `count` rises when the same thing happens again."""

    uid: str
    type: str
    reason: str
    message: str
    time: str
    count: int = 1


def to_pod_event(event: Mapping[str, Any]) -> tuple[str, PodEvent] | None:
    """Uid of the pod and its event; None when the event is not a pod's."""
    about = event.get("involvedObject") or {}
    if about.get("kind") != "Pod" or not about.get("uid"):
        return None
    series = event.get("series") or {}
    return about["uid"], PodEvent(
        uid=event["metadata"].get("uid", ""),
        type=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        message=event.get("message") or event.get("note") or "",
        time=event.get("lastTimestamp") or event.get("eventTime") or "",
        count=event.get("count") or series.get("count") or 1,
    )


class EventFeed:
    """Events of pods that start now, told to whoever follows them.

    Only the newest few of pods that nobody follows yet are remembered: an event may come before
    the answer to the create that told the pod's uid.
    """

    def __init__(self, client: KubeClient, *, recent_max: int = 1000) -> None:
        self._client = client
        self._recent: deque[tuple[str, PodEvent]] = deque(maxlen=recent_max)
        self._followers: dict[str, list[Callable[[PodEvent], None]]] = {}
        self._failures = 0

    def follow(self, pod_uid: str, tell: Callable[[PodEvent], None]) -> Callable[[], None]:
        """Have all events of one pod told, those that came already at once. Call to end it."""
        for uid, event in self._recent:
            if uid == pod_uid:
                tell(event)
        self._followers.setdefault(pod_uid, []).append(tell)

        def end() -> None:
            followers = self._followers.get(pod_uid, [])
            if tell in followers:
                followers.remove(tell)
            if not followers:
                self._followers.pop(pod_uid, None)

        return end

    async def run(self) -> None:
        """Watch until cancelled."""
        selector = "involvedObject.kind=Pod"
        version: str | None = None
        while True:
            began = time.monotonic()
            try:
                if version is None:  # one object at most: only the place to begin at is wanted
                    page = await self._client.list_page(EVENT, page_size=1, field_selector=selector)
                    version = page.resource_version
                events = self._client.watch(
                    EVENT, resource_version=version, field_selector=selector
                )
                async for event in events:
                    self._failures = 0
                    version = event.obj["metadata"].get("resourceVersion") or version
                    if event.type in ("ADDED", "MODIFIED"):
                        self._take(event.obj)
                if time.monotonic() - began < 1:
                    await self._pause(None)
            except GoneError:
                version = None
                await self._pause(None)
            except CollabError as error:
                log.warning("Watch of events broke: %s", error)
                await self._pause(error)
                if self._failures > 1:  # an outage: the store may have been restored, see Informer
                    version = None

    def _take(self, obj: Mapping[str, Any]) -> None:
        found = to_pod_event(obj)
        if found is None:
            return
        uid, event = found
        self._recent.append((uid, event))
        for tell in list(self._followers.get(uid, ())):
            tell(event)

    async def _pause(self, error: CollabError | None) -> None:
        ceiling = min(30.0, 0.2 * 2 ** min(self._failures, 16))
        self._failures += 1
        asked = error.retry_after_s if isinstance(error, RetryableError) else None
        jitter = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads load, no secret
        await asyncio.sleep(max(jitter, asked or 0.0))
