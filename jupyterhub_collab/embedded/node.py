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
from .objects import FINISHED, make_event, to_time
from .process import KILLED, Container, clear_pod, kill_pod
from .resources import GIT_VERSION

Json = dict[str, Any]

NAME: Final = "embedded"
_POLL_S: Final = 0.1  # how often a pod's processes and missing mounts are looked at
_RETRY_S: Final = 0.3  # between tries while the API server is away
_LOST: Final = (aiohttp.ClientError, asyncio.TimeoutError)


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

    async def call(self, method: str, path: str, body: Json | None = None) -> Json | None:
        """One request, until it is served; None for 404, 409 and in a namespace that ends.

        Raises
        ------
        ApiError
            Any other refusal.
        """
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        options: Json = {"headers": {"Content-Type": kind}, "ssl": self._tls}
        data = None if body is None else json.dumps(body)
        while True:
            try:
                url = self._base + path
                async with self._session.request(method, url, data=data, **options) as answer:
                    found: Json = await answer.json()
                    if answer.status < 500:
                        break
            except _LOST:
                pass
            await asyncio.sleep(_RETRY_S)
        if not answer.ok and answer.status not in (403, 404, 409):
            raise ApiError(answer.status, found["reason"], found["message"])
        return found if answer.ok else None

    async def follow(self, plural: str, query: str = "") -> AsyncIterator[tuple[str, Json]]:
        """List and watch for ever: ("LISTED", list) at first and after each loss, then events."""
        endless = aiohttp.ClientTimeout(total=None)
        while True:
            listed = await self.call("GET", f"/{plural}?{query}")
            assert listed is not None
            yield "LISTED", listed
            version = listed["metadata"]["resourceVersion"]
            url = f"{self._base}/{plural}?watch=1&resourceVersion={version}&{query}"
            try:
                async with self._session.get(url, timeout=endless, ssl=self._tls) as answer:
                    rest = b""
                    async for chunk in answer.content.iter_any():
                        *lines, rest = (rest + chunk).split(b"\n")
                        for event in map(json.loads, lines):
                            if event["type"] != "ERROR":
                                yield event["type"], event["object"]
            except _LOST:
                await asyncio.sleep(_RETRY_S)


class PodWorker:
    """One pod's life on this node."""

    def __init__(self, node: Node, pod: Json) -> None:
        meta = pod["metadata"]
        self._node = node
        self.pod = pod
        self._path = f"/namespaces/{meta['namespace']}/pods/{meta['name']}"
        self._folder = node.paths.pods / meta["uid"]
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
            self.address = self._node.new_address(self.pod["metadata"]["uid"])
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
                    command = await files.make_command(self._specs[name], self._node.images)
                    container.start(command)
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
        states, codes = {}, []
        for name, container in self._containers.items():
            seen = container.exit_code() if container.was_started else KILLED
            codes.append(KILLED if seen is None else seen)
            times = {"startedAt": self._started_at, "finishedAt": _now()}
            reason = "Error" if codes[-1] else "Completed"
            states[name] = {"terminated": {"exitCode": codes[-1], "reason": reason, **times}}
        kill_pod(self._folder, self._containers.values())
        await self._report_containers("Failed" if any(codes) else "Succeeded", states)
        await self._release()

    async def _release(self) -> None:
        """Let the API forget the pod, if somebody deletes it."""
        if self._grace_s is not None:
            preconditions = {"uid": self.pod["metadata"]["uid"]}
            options = {"gracePeriodSeconds": 0, "preconditions": preconditions}
            await self._node.api.call("DELETE", self._path, options)

    def update(self, pod: Json) -> None:
        """Learn how the API sees the pod now."""
        self.pod = pod
        if self._task.done() and self._grace_s is not None:  # deleted as it ended by itself
            self._task = asyncio.create_task(self._release())

    async def vanish(self) -> None:
        """The API has forgotten the pod: leave nothing of it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        kill_pod(self._folder, self._containers.values())
        clear_pod(self._folder)

    async def _report_containers(self, phase: str, states: dict[str, Json]) -> None:
        ready = phase == "Running"
        flags = {"ready": ready, "started": ready, "restartCount": 0, "imageID": ""}
        images = {name: spec.get("image", "") for name, spec in self._specs.items()}
        found = [{"name": n, "image": images[n], "state": s, **flags} for n, s in states.items()]
        told = {"lastTransitionTime": _now(), "status": str(ready)}
        conditions = [{"type": t, **told} for t in ("Ready", "ContainersReady")]
        conditions += [
            {"type": t, **told, "status": "True"} for t in ("PodScheduled", "Initialized")
        ]
        await self._report(phase=phase, containerStatuses=found, conditions=conditions)

    async def _report(self, **status: Any) -> None:
        body = {"metadata": {"uid": self.pod["metadata"]["uid"]}, "status": status}
        await self._node.api.call("PATCH", f"{self._path}/status", body)

    async def _event(self, reason: str, message: str, kind: str = "Normal") -> None:
        event = make_event(self.pod, reason, message, kind, "kubelet", _now())
        path = f"/namespaces/{self.pod['metadata']['namespace']}/events"
        await self._node.api.call("POST", path, event)


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
            pods = found["items"] if kind == "LISTED" else [found]
            if kind == "DELETED":
                await self._forget(found["metadata"]["uid"])
                continue
            for pod in pods:
                uid = pod["metadata"]["uid"]
                if uid in self._workers:
                    self._workers[uid].update(pod)
                else:
                    self._workers[uid] = PodWorker(self, pod)
            if kind == "LISTED":
                for uid in self._workers.keys() - {p["metadata"]["uid"] for p in pods}:
                    await self._forget(uid)
                for folder in self.paths.pods.iterdir():  # deleted while no node ran
                    if folder.name not in self._workers:
                        clear_pod(folder)

    async def _forget(self, uid: str) -> None:
        if worker := self._workers.pop(uid, None):
            await worker.vanish()

    async def run_volumes(self) -> None:
        """Clear volumes that a claim made and released, for ever. Others are never touched."""
        async for kind, found in self.api.follow("persistentvolumes"):
            for volume in found["items"] if kind == "LISTED" else [found]:
                spec, source = volume["spec"], volume["spec"].get("csi") or {}
                attributes = source.get("volumeAttributes") or {}
                path = Path(attributes.get("path", "/"))
                ours = source.get("driver") == DRIVER and "provisioned" in attributes
                delete = spec.get("persistentVolumeReclaimPolicy") == "Delete"
                released = kind != "DELETED" and volume["status"]["phase"] == "Released"
                if ours and delete and released and self.paths.volumes in path.parents:
                    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
                    name = volume["metadata"]["name"]
                    await self.api.call("DELETE", f"/persistentvolumes/{name}", {})


async def serve(paths: Paths) -> None:
    """Run pods until SIGTERM or SIGINT; their processes stay."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    headers = {"Authorization": f"Bearer {paths.token}", "User-Agent": "embedded-node"}
    async with aiohttp.ClientSession(headers=headers) as session:
        node = Node(paths, Api(paths, session))

        async def work() -> None:
            await node.register()
            print("ready", flush=True)  # noqa: T201  (whoever started it waits for this line)
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
    given = parser.parse_args()
    try:
        with hold_lease(Paths(given.dir), "node"):
            asyncio.run(serve(prepare(given.dir)))
    except PermanentError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
