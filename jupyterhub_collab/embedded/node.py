"""The embedded node: runs pods bound to it as local processes; a program of its own.

A client of the API like any other: it watches its pods and reports. A kill of it, or of the API
server, leaves the pods' processes running; the next node takes them over. Only the deletion of a
pod, or `stop_all`, ends them.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import aiohttp

from ..errors import PermanentError
from .controllers import DRIVER
from .failures import ApiError
from .folder import Paths, hold_lease, prepare
from .mounts import MountError, PodFiles
from .objects import to_time
from .process import KILLED, Container, found_containers, kill_pod, remove_pod
from .resources import GIT_VERSION

Json = dict[str, Any]

NAME: Final = "embedded"
_POLL_S: Final = 0.1  # how often a pod's processes and missing mounts are looked at
_RETRY_S: Final = 0.3  # between tries while the API server is away
_FINISHED: Final = ("Succeeded", "Failed")
_LOST: Final = (aiohttp.ClientConnectionError, asyncio.TimeoutError, aiohttp.ClientPayloadError)


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


class Api:
    """The node's connection; waits for an API server that is away."""

    def __init__(self, paths: Paths, session: aiohttp.ClientSession) -> None:
        self._base = f"{paths.server}/api/v1"
        self._session = session
        self._tls = ssl.create_default_context(cafile=paths.ca_certificate)
        headers = {"Authorization": f"Bearer {paths.token}", "User-Agent": "embedded-node"}
        self._options: Json = {"headers": headers, "ssl": self._tls}

    async def call(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """One request, until it is answered; None for 404, 409 and in a namespace that ends.

        Raises
        ------
        ApiError
            Any other refusal.
        """
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        options = {**self._options, "headers": {**self._options["headers"], "Content-Type": kind}}
        data = None if body is None else json.dumps(body)
        while True:
            try:
                url = self._base + path
                async with self._session.request(method, url, data=data, **options) as answer:
                    found: Json = await answer.json()
            except _LOST:
                await asyncio.sleep(_RETRY_S)
                continue
            if answer.ok:
                return found
            if answer.status in (403, 404, 409):
                return None
            raise ApiError(answer.status, found.get("reason", ""), found.get("message", ""))

    async def follow(self, plural: str, query: str = "") -> AsyncIterator[tuple[str, Json]]:
        """List and watch for ever: ("LISTED", list) at first and after each loss, then events."""
        while True:
            listed = await self.call("GET", f"/{plural}?{query}")
            assert listed is not None
            yield "LISTED", listed
            version = listed["metadata"]["resourceVersion"]
            url = f"{self._base}/{plural}?watch=1&resourceVersion={version}&{query}"
            try:
                timeout = aiohttp.ClientTimeout(total=None)
                async with self._session.get(url, timeout=timeout, **self._options) as answer:
                    buffer = b""
                    async for chunk in answer.content.iter_any():
                        *lines, buffer = (buffer + chunk).split(b"\n")
                        for event in map(json.loads, lines):
                            if event["type"] != "ERROR":
                                yield event["type"], event["object"]
            except _LOST:
                await asyncio.sleep(_RETRY_S)


class PodWorker:
    """One pod's life on this node."""

    def __init__(self, node: Node, pod: Json) -> None:
        self._node = node
        self._pod = pod
        meta = pod["metadata"]
        self._path = f"/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self.folder = node.paths.pods / meta["uid"]
        self._names = [c["name"] for c in pod["spec"]["containers"]]
        self._containers = {name: Container(self.folder, name) for name in self._names}
        self._started_at = _now()
        self.address: str = pod["status"].get("podIP") or ""
        self.task: asyncio.Task[None] | None = None

    def update(self, pod: Json) -> None:
        self._pod = pod

    @property
    def _grace_s(self) -> float | None:
        """Seconds to end in; None while nobody deletes the pod."""
        meta = self._pod["metadata"]
        if "deletionTimestamp" not in meta:
            return None
        return float(meta.get("deletionGracePeriodSeconds", 0))

    async def run(self) -> None:
        """From bound to gone. Takes over where another node left off."""
        if self._pod["status"].get("phase") in _FINISHED:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.address:
            self.address = self._node.new_address(self._pod["metadata"]["uid"])
            conditions = [{"type": "PodScheduled", "status": "True"}]
            await self._report(podIP=self.address, podIPs=[{"ip": self.address}], hostIP="127.0.0.1",
                               startTime=_now(), conditions=conditions)  # fmt: skip
        if self._pod["status"].get("phase") == "Pending" and not await self._start():
            return await self._end()
        while self._grace_s is None and self._running():
            await asyncio.sleep(_POLL_S)
        await self._end()

    def _running(self) -> bool:
        return any(c.was_started and c.exit_code() is None for c in self._containers.values())

    async def _start(self) -> bool:
        """Start all containers; False when the pod is deleted or refused before that."""
        if self._pod["spec"].get("initContainers"):
            await self._event("Failed", "The embedded node runs no init containers", "Warning")
            return False
        files = PodFiles(self._node.paths, self._pod, self.address, self._node.read)
        said = ""
        for spec in self._pod["spec"]["containers"]:
            container = self._containers[spec["name"]]
            while not container.was_started:
                try:
                    command = await files.make_command(spec, self._node.images)
                except (MountError, OSError) as error:
                    if str(error) != said:
                        said = str(error)
                        await self._event("FailedMount", said, "Warning")
                    await asyncio.sleep(_POLL_S)
                    if self._grace_s is not None:
                        return False
                    continue
                image = spec.get("image", "")
                await self._event("Pulled", f'Image "{image}" stands for a local environment')
                container.start(command)
                await self._event("Started", f"Started container {spec['name']}")
                break
        state = {"running": {"startedAt": self._started_at}}
        await self._report(
            phase="Running",
            containerStatuses=[self._container_status(n, state, ready=True) for n in self._names],
            conditions=[
                {"type": kind, "status": "True", "lastTransitionTime": self._started_at}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
        )
        return True

    def _container_status(self, name: str, state: Json, *, ready: bool) -> Json:
        images = {c["name"]: c.get("image", "") for c in self._pod["spec"]["containers"]}
        flags = {"ready": ready, "started": ready, "restartCount": 0}
        return {"name": name, "image": images[name], "imageID": "", **flags, "state": state}

    async def _end(self) -> None:
        """Stop what runs, in the time the deletion gives; report; let the API forget the pod."""
        if self._grace_s is not None and self._running():
            await self._event("Killing", "Stopping container " + ", ".join(self._names))
            for container in self._containers.values():
                container.terminate()
            waited_s = 0.0
            while waited_s < (self._grace_s or 0) and self._running():
                await asyncio.sleep(_POLL_S)
                waited_s += _POLL_S
        codes = {}
        for name, container in self._containers.items():
            code = container.exit_code() if container.was_started else None
            codes[name] = KILLED if code is None else code
        kill_pod(self.folder, self._containers.values())
        statuses = []
        for name, code in codes.items():
            reason = "Completed" if code == 0 else "Error"
            state = {"exitCode": code, "reason": reason, "finishedAt": _now()}
            state["startedAt"] = self._started_at
            statuses.append(self._container_status(name, {"terminated": state}, ready=False))
        phase = "Failed" if any(codes.values()) else "Succeeded"
        not_ready = [{"type": "Ready", "status": "False", "lastTransitionTime": _now()}]
        await self._report(phase=phase, containerStatuses=statuses, conditions=not_ready)
        if self._grace_s is not None:
            uid = self._pod["metadata"]["uid"]
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            await self._node.api.call("DELETE", self._path, options)

    async def vanish(self) -> None:
        """The API has forgotten the pod: leave nothing of it."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        kill_pod(self.folder, self._containers.values())
        remove_pod(self.folder)

    async def _report(self, **status: Any) -> None:
        body = {"metadata": {"uid": self._pod["metadata"]["uid"]}, "status": status}
        await self._node.api.call("PATCH", f"{self._path}/status", body)

    async def _event(self, reason: str, message: str, kind: str = "Normal") -> None:
        meta, now = self._pod["metadata"], _now()
        where = {"namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
        event = {
            "metadata": {"generateName": f"{meta['name']}."},
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", **where},
            **{"reason": reason, "message": message, "type": kind, "count": 1},
            **{"firstTimestamp": now, "lastTimestamp": now, "eventTime": None},
            "source": {"component": "kubelet", "host": NAME},
        }
        await self._node.api.call("POST", f"/namespaces/{meta['namespace']}/events", event)


class Node:
    """All pods of this machine."""

    def __init__(self, paths: Paths, api: Api) -> None:
        self.paths = paths
        self.api = api
        table = paths.root / "images.json"
        self.images: dict[str, str] = json.loads(table.read_text()) if table.exists() else {}
        self._workers: dict[str, PodWorker] = {}

    def new_address(self, uid: str) -> str:
        return pick_address(uid, {w.address for w in self._workers.values()})

    async def read(self, plural: str, namespace: str, name: str) -> Json | None:
        """An object, or None."""
        scope = f"/namespaces/{namespace}" if namespace else ""
        return await self.api.call("GET", f"{scope}/{plural}/{name}")

    async def register(self) -> None:
        """Make this node known and ready."""
        meta = {"name": NAME, "labels": {"kubernetes.io/hostname": NAME}}
        await self.api.call("POST", "/nodes", {"metadata": meta})
        capacity = {"cpu": str(os.cpu_count()), "pods": "1000"}
        status = {
            "capacity": capacity,
            "allocatable": capacity,
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": _now()}],
            "nodeInfo": {"kubeletVersion": GIT_VERSION, "osImage": sys.platform},
        }
        await self.api.call("PATCH", f"/nodes/{NAME}/status", {"status": status})

    async def run_pods(self) -> None:
        """Follow the pods bound to this node, for ever."""
        async for kind, found in self.api.follow("pods", f"fieldSelector=spec.nodeName%3D{NAME}"):
            if kind == "LISTED":
                listed = {p["metadata"]["uid"] for p in found["items"]}
                for uid in [u for u in self._workers if u not in listed]:
                    await self._workers.pop(uid).vanish()
                self._clear_folders(listed)
                for pod in found["items"]:
                    self._take(pod)
            elif kind == "DELETED":
                worker = self._workers.pop(found["metadata"]["uid"], None)
                if worker is not None:
                    await worker.vanish()
            else:
                self._take(found)

    def _take(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if uid in self._workers:
            self._workers[uid].update(pod)
            return
        worker = self._workers[uid] = PodWorker(self, pod)
        worker.task = asyncio.create_task(worker.run())

    def _clear_folders(self, listed: set[str]) -> None:
        """End what is left of pods that were deleted while no node ran."""
        for folder in self.paths.pods.iterdir():
            if folder.name not in listed:
                kill_pod(folder, found_containers(folder))
                remove_pod(folder)

    async def run_volumes(self) -> None:
        """Clear volumes that a claim made and released, for ever. Others are never touched."""
        async for kind, found in self.api.follow("persistentvolumes"):
            for volume in found["items"] if kind == "LISTED" else [found]:
                spec, csi = volume["spec"], volume["spec"].get("csi") or {}
                path = Path(csi.get("volumeAttributes", {}).get("path", "/"))
                made_here = csi.get("driver") == DRIVER and self.paths.volumes in path.parents
                delete = spec.get("persistentVolumeReclaimPolicy") == "Delete"
                if kind == "DELETED" or volume["status"]["phase"] != "Released":
                    continue
                if made_here and delete and "provisioned" in csi["volumeAttributes"]:
                    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                    name = volume["metadata"]["name"]
                    await self.api.call("DELETE", f"/persistentvolumes/{name}", {})


async def serve(paths: Paths) -> None:
    """Run pods until SIGTERM or SIGINT; their processes stay."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with aiohttp.ClientSession() as session:
        node = Node(paths, Api(paths, session))

        async def work() -> None:
            await node.register()
            print("ready", flush=True)
            await asyncio.gather(node.run_pods(), node.run_volumes())

        tasks = {asyncio.create_task(work()), asyncio.create_task(stop.wait())}
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        for task in done:
            task.result()  # a failure of the work ends the program


def main() -> None:
    """Command line of the node."""
    parser = argparse.ArgumentParser(prog="python -m jupyterhub_collab.embedded.node")
    parser.add_argument("--dir", type=Path, required=True, help="folder of the cluster")
    try:
        paths = prepare(parser.parse_args().dir)
        with hold_lease(paths, "node"):
            asyncio.run(serve(paths))
    except PermanentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
