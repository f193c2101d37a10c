"""The least that could do the provisioner's work: sends objects, looks at nothing.

``python -m benchmarks._raw_client apply|delete KUBECONFIG FILE CONCURRENCY``; a line of `FILE` is
a JSON list of manifests, and at an empty line all before it is finished first. Everything is
encoded before the clock starts. `apply`: server-side apply of each, one after the other within a
line, a claim again if the quota that counts it is not in force yet. `delete` (a line is a team, the
namespace first): all namespaces, and the volumes of each when it is gone, of which one watch tells.
Prints one JSON line: seconds, requests, processor time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from jupyterhub_collab.constants import FIELD_MANAGER, LABEL_HUB
from jupyterhub_collab.kube.kinds import NAMESPACE, kind_of
from tests.contract.client import Api, connect

Manifest = dict[str, Any]
Thing = TypeVar("Thing")
RETRY_S = 0.05


class NotYetError(Exception):
    """The quota that counts this claim is not in force yet."""


class RawClient:
    """Requests over connections that are kept."""

    def __init__(self, api: Api, session: aiohttp.ClientSession) -> None:
        self._api, self._session = api, session
        self.requests = 0

    async def send(self, method: str, path: str, body: bytes, content_type: str) -> None:
        self.requests += 1
        headers = {"Content-Type": content_type}
        url = self._api.server + path
        async with self._session.request(
            method, url, data=body, headers=headers, ssl=self._api.tls
        ) as answer:
            text = await answer.read()
            if answer.status == 403 and b"status unknown for quota" in text:
                raise NotYetError
            if answer.status >= 300:
                raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")

    async def watch_gone(
        self, hub: str, gone: dict[str, asyncio.Event], listed: asyncio.Event
    ) -> None:
        """Set the event of each namespace that goes. The server may end a watch of thousands."""
        while True:
            found, version = await self._list(hub)
            for name in gone.keys() - found:
                gone[name].set()
            listed.set()
            more = {"watch": "1", "resourceVersion": version}
            async with self._look(hub, "PartialObjectMetadata", more) as answer:
                while line := await answer.content.readline():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        break
                    if event["type"] == "DELETED":
                        gone[event["object"]["metadata"]["name"]].set()

    async def _list(self, hub: str) -> tuple[set[str], str]:
        """Names that are there, and as of when."""
        async with self._look(hub, "PartialObjectMetadataList", {}) as answer:
            said = await answer.json(content_type=None)
        return {one["metadata"]["name"] for one in said["items"]}, said["metadata"][
            "resourceVersion"
        ]

    def _look(self, hub: str, what: str, more: dict[str, str]) -> Any:
        self.requests += 1
        return self._session.get(
            self._api.server + NAMESPACE.path(),
            params={"labelSelector": f"{LABEL_HUB}={hub}", **more},
            headers={"Accept": f"application/json;as={what};v=v1;g=meta.k8s.io"},
            ssl=self._api.tls,
            timeout=aiohttp.ClientTimeout(total=None),
        )


def path_of(manifest: Manifest) -> str:
    meta = manifest["metadata"]
    return kind_of(manifest).path(meta.get("namespace"), meta["name"])


async def in_turn(
    do: Callable[[Thing], Awaitable[None]], things: Iterable[Thing], concurrency: int
) -> None:
    """Do it to each, so many at once."""
    left = iter(things)

    async def worker() -> None:
        for thing in left:
            await do(thing)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


Line = list[Manifest]


async def apply(client: RawClient, stages: list[list[Line]], concurrency: int) -> float:
    query = f"?fieldManager={FIELD_MANAGER}&force=true"
    encoded = [
        [[(path_of(m) + query, json.dumps(m).encode()) for m in line] for line in stage]
        for stage in stages
    ]

    async def one(line: list[tuple[str, bytes]]) -> None:
        for path, body in line:
            while True:
                try:
                    await client.send("PATCH", path, body, "application/apply-patch+yaml")
                    break
                except NotYetError:
                    await asyncio.sleep(RETRY_S)

    began = time.perf_counter()
    for stage in encoded:
        await in_turn(one, stage, concurrency)
    return time.perf_counter() - began


async def delete(client: RawClient, stages: list[list[Line]], concurrency: int) -> float:
    (teams,) = stages
    spaces = [team[0] for team in teams]
    volumes = {
        team[0]["metadata"]["name"]: [m for m in team if m["kind"] == "PersistentVolume"]
        for team in teams
    }
    gone = {space["metadata"]["name"]: asyncio.Event() for space in spaces}
    body = json.dumps({"apiVersion": "v1", "kind": "DeleteOptions"}).encode()
    listed = asyncio.Event()
    hub = spaces[0]["metadata"]["labels"][LABEL_HUB]
    watch = asyncio.create_task(client.watch_gone(hub, gone, listed))
    await listed.wait()

    async def end(manifest: Manifest) -> None:
        await client.send("DELETE", path_of(manifest), body, "application/json")

    async def rest(name: str) -> None:
        await gone[name].wait()
        for volume in volumes[name]:
            await end(volume)

    began = time.perf_counter()
    following = [asyncio.create_task(rest(name)) for name in gone]
    await in_turn(end, spaces, concurrency)
    await asyncio.gather(*following)
    took = time.perf_counter() - began
    watch.cancel()
    await asyncio.gather(watch, return_exceptions=True)
    return took


async def main() -> None:
    verb, kubeconfig, file, concurrency = sys.argv[1:5]
    stages = [
        [json.loads(line) for line in stage.splitlines()]
        for stage in Path(file).read_text().split("\n\n")
    ]
    idle = time.process_time()
    async with connect(Path(kubeconfig)) as api:
        client = RawClient(api, api._session)
        work = {"apply": apply, "delete": delete}[verb]
        seconds = await work(client, stages, int(concurrency))
    cpu = time.process_time() - idle
    print(json.dumps({"seconds": seconds, "requests": client.requests, "cpu_seconds": cpu}))


if __name__ == "__main__":
    asyncio.run(main())
