"""The embedded node: runs pods bound to it as local processes; a program of its own.

A client of the API like any other: it watches its pods and reports. A kill of it, or of the API
server, leaves the pods' processes running; the next node takes them over. Only the deletion of a
pod, or `stop_all`, ends them.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from typing import Any, Final

from ..errors import KubeError, PermanentError, RetryableError
from ..kube import Change, Informer, KubeClient
from ..kube import kinds as k
from .admission import FINISHED
from .folder import Paths
from .mounts import MountError, PodFiles
from .objects import make_event, to_time
from .process import KILLED, Container, clear_pod, kill_pod
from .program import run, until_stopped
from .resources import Json

NAME: Final = "embedded"
_POLL_S: Final = 0.1  # how often a pod's processes and missing mounts are looked at
_RETRY_S: Final = 0.3  # between tries while the API server is away


def _now() -> str:
    return to_time(datetime.now(timezone.utc))


def pick_address(uid: str, used: set[str]) -> str:
    """A loopback address for a pod. By its UID, so that two clusters on a machine seldom meet."""
    if sys.platform != "linux":
        return "127.0.0.1"  # other systems have no more; servers then need ports of their own
    start = int.from_bytes(hashlib.sha256(uid.encode()).digest()[:2], "big")
    for step in range(1 << 16):
        high, low = divmod((start + step) % (1 << 16), 256)
        address = f"127.77.{high}.{low}"
        if address not in used and low not in (0, 255):
            return address
    raise PermanentError("All addresses of 127.77.0.0/16 are taken.")


async def insist(call: Callable[[], Awaitable[Json]]) -> Json | None:
    """The API's answer, however long it is away; None: the object is not there or another by now,
    or its namespace ends."""
    while True:
        try:
            return await call()
        except KubeError as error:
            if error.status in (403, 404, 409):
                return None
            if not isinstance(error, RetryableError):
                raise
        await asyncio.sleep(_RETRY_S)


class PodWorker:
    """One pod's life on this node."""

    def __init__(self, node: Node, pod: Json) -> None:
        self._node = node
        self.pod = pod
        meta = pod["metadata"]
        self._namespace, self._name, self.uid = meta["namespace"], meta["name"], meta["uid"]
        self._folder = node.paths.pods / self.uid
        self._specs: Json = {c["name"]: c for c in pod["spec"]["containers"]}
        self._containers = {name: Container(self._folder, name) for name in self._specs}
        self._started_at = _now()
        self.address: str = pod["status"].get("podIP") or ""
        self._task = asyncio.create_task(self._run())

    @property
    def _grace_s(self) -> float | None:
        """Seconds to end in; None while nobody deletes the pod."""
        if "deletionTimestamp" not in self.pod["metadata"]:
            return None
        return float(self.pod["metadata"].get("deletionGracePeriodSeconds", 0))

    async def _run(self) -> None:
        """From bound to ended. Takes over where another node left off."""
        phase = self.pod["status"].get("phase")
        if phase in FINISHED:
            await self._release()
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.address:
            self.address = self._node.new_address(self.uid)
            addresses = {"podIP": self.address, "podIPs": [{"ip": self.address}]}
            await self._report(**addresses, hostIP="127.0.0.1", startTime=_now())
        if phase != "Pending" or await self._start():
            while self._grace_s is None and self._is_running():  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
        await self._end()

    def _is_running(self) -> bool:
        return any(c.was_started and c.exit_code() is None for c in self._containers.values())

    async def _start(self) -> bool:
        """Start all containers; False when the pod is deleted or refused before that."""
        if self.pod["spec"].get("initContainers"):
            await self._event("Failed", "The embedded node runs no init containers", "Warning")
            return False
        files = PodFiles(self._folder, self.pod, self.address, self._node.read)
        said, wait_s = "", _POLL_S
        for name, container in self._containers.items():
            while not container.was_started:
                try:
                    container.start(await files.make_command(self._specs[name]))
                except (MountError, OSError) as error:
                    if str(error) != said:
                        said = str(error)
                        await self._event("FailedMount", said, "Warning")
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, 1.0)
                    if self._grace_s is not None:
                        return False
            image = self._specs[name].get("image", "")
            await self._event("Pulled", f'Image "{image}" stands for a local environment')
            await self._event("Started", f"Started container {name}")
        state = {"running": {"startedAt": self._started_at}}
        await self._report_containers("Running", dict.fromkeys(self._specs, state))
        return True

    async def _end(self) -> None:
        """Stop what runs, in the time the deletion gives, and report how it ended."""
        if self._grace_s is not None and self._is_running():
            await self._event("Killing", "Stopping container " + ", ".join(self._specs))
            for container in self._containers.values():
                container.signal(signal.SIGTERM)
            waited_s = 0.0
            while waited_s < (self._grace_s or 0) and self._is_running():
                await asyncio.sleep(_POLL_S)
                waited_s += _POLL_S
        states, failed = {}, False
        for name, container in self._containers.items():
            ended = container.exit_code() if container.was_started else None
            code = KILLED if ended is None else ended
            failed |= code != 0
            times = {"startedAt": self._started_at, "finishedAt": _now()}
            reason = "Error" if code else "Completed"
            states[name] = {"terminated": {"exitCode": code, "reason": reason, **times}}
        kill_pod(self._folder, self._containers.values())
        await self._report_containers("Failed" if failed else "Succeeded", states)
        await self._release()

    async def _release(self) -> None:
        """Let the API forget the pod, if somebody deletes it."""
        if self._grace_s is not None:
            delete, where = (
                self._node.client.delete,
                {"namespace": self._namespace, "uid": self.uid},
            )
            await insist(lambda: delete(k.POD, self._name, **where, grace_s=0))

    def update(self, pod: Json) -> None:
        """Learn how the API sees the pod now."""
        self.pod = pod
        if self._task.done() and self._grace_s is not None:  # deleted as it ended by itself
            self._task = asyncio.create_task(self._release())

    def vanish(self) -> None:
        """The API has forgotten the pod: leave nothing of it."""
        self._task.add_done_callback(lambda _: clear_pod(self._folder))
        self._task.cancel()

    async def _report_containers(self, phase: str, states: dict[str, Json]) -> None:
        ready = phase == "Running"
        flags = {"ready": ready, "started": ready, "restartCount": 0, "imageID": ""}
        images = {name: spec.get("image", "") for name, spec in self._specs.items()}
        found = [{"name": n, "image": images[n], "state": s, **flags} for n, s in states.items()]
        since = {"lastTransitionTime": _now()}
        conditions = [{"type": "PodScheduled", "status": "True", **since}]
        conditions.append({"type": "Ready", "status": str(ready), **since})
        await self._report(phase=phase, containerStatuses=found, conditions=conditions)

    async def _report(self, **status: Any) -> None:
        body = {"metadata": {"uid": self.uid}, "status": status}
        patch, where = self._node.client.patch, {"namespace": self._namespace}
        await insist(lambda: patch(k.POD, self._name, body, **where, subresource="status"))

    async def _event(self, reason: str, message: str, kind: str = "Normal") -> None:
        event = make_event(self.pod, reason, message, kind, "kubelet", _now())
        await insist(lambda: self._node.client.create(event))


class Node:
    """All pods of this machine."""

    def __init__(self, paths: Paths, client: KubeClient) -> None:
        self.paths = paths
        self.client = client
        self._workers: dict[str, PodWorker] = {}
        self._pods = Informer(
            client,
            k.POD,
            field_selector=f"spec.nodeName={NAME}",
            on_change=self._take,
            sleep=lambda pause_s: asyncio.sleep(min(pause_s, _RETRY_S)),
        )

    def new_address(self, uid: str) -> str:
        return pick_address(uid, {w.address for w in self._workers.values()})

    async def read(self, kind: k.Kind, namespace: str | None, name: str) -> Json | None:
        """An object, or None."""
        return await insist(lambda: self.client.get(kind, name, namespace))

    async def register(self) -> None:
        """Make this node known and ready."""
        meta = {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": meta}
        await insist(lambda: self.client.create(node))
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": _now()}
        body = {"status": {"conditions": [condition]}}
        await insist(lambda: self.client.patch(k.NODE, NAME, body, subresource="status"))

    async def run(self) -> None:
        """Follow the pods bound to this node, for ever."""
        await asyncio.gather(self._pods.run(), self._clear_leftovers())

    async def _clear_leftovers(self) -> None:
        """What was deleted while no node ran."""
        await self._pods.synced.wait()
        for folder in self.paths.pods.iterdir():
            if folder.name not in self._workers:
                clear_pod(folder)

    def _take(self, change: Change) -> None:
        uids = [obj["metadata"]["uid"] if obj else "" for obj in (change.old, change.new)]
        if uids[0] != uids[1] and uids[0] in self._workers:
            self._workers.pop(uids[0]).vanish()
        if change.new is not None and uids[1] in self._workers:
            self._workers[uids[1]].update(change.new)
        elif change.new is not None:
            self._workers[uids[1]] = PodWorker(self, change.new)


async def serve(paths: Paths) -> None:
    """Run pods until SIGTERM or SIGINT; their processes stay."""
    async with await KubeClient.from_kubeconfig(paths.kubeconfig) as client:
        node = Node(paths, client)
        await node.register()
        tasks = {asyncio.create_task(node.run()), asyncio.create_task(until_stopped())}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for task in done:
            task.result()  # a failure of the work ends the program


if __name__ == "__main__":
    run("node", serve)
