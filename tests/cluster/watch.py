"""Keeps copies of a few kinds of objects up to date, for the node's agent."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any, Final

import aiohttp

#: Seconds before another try after the API server was away or told us to list again.
RETRY_S: Final = 0.2
#: Seconds for one watch, longer than any test; the server ends it with a clean end of file.
WATCH_S: Final = 1800


class Api:
    """The API server as the agent uses it."""

    def __init__(self, server: str, context: ssl.SSLContext) -> None:
        self._server = server
        connector = aiohttp.TCPConnector(ssl=context)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        # A watch's line holds a whole object, of 1.5 MiB at most.
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=timeout, read_bufsize=2**21
        )
        #: Of objects that a watch told to be gone: a uid never comes back.
        self._deleted: set[str] = set()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and decoded body of one call."""
        async with self._session.request(method, self._server + path, json=body) as response:
            return response.status, await response.json(content_type=None)

    async def keep(self, path: str, objects: dict[str, Any], changed: Callable[[], None]) -> None:
        """Keep `objects` (by uid) as the collection at `path` is; call `changed` after each
        change. Lists anew whenever the watch ends, for whatever reason."""
        while True:
            try:
                version = await self.list_into(path, objects)
                changed()
                await self._watch(path, version, objects, changed)
            except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
                print(f"{path}: {error!r}; listing again", flush=True)
            await asyncio.sleep(RETRY_S)

    async def list_into(self, path: str, objects: dict[str, Any]) -> str:
        """Make `objects` the collection at `path` as it is now; returns its version."""
        answer = await self._list(path)
        objects.clear()
        for item in answer.get("items") or []:
            objects[item["metadata"]["uid"]] = item
        return str(answer["metadata"]["resourceVersion"])

    async def add_listed(self, path: str, objects: dict[str, Any]) -> None:
        """Add what is in the collection now and what a watch has not told yet.

        Nothing is taken away, and nothing comes back: the watch may have told of a deletion or
        of a later state while the list was on its way.
        """
        answer = await self._list(path)
        for item in answer.get("items") or []:
            uid = item["metadata"]["uid"]
            if uid in self._deleted:
                continue
            if uid not in objects or read_version(objects[uid]) < read_version(item):
                objects[uid] = item

    async def _list(self, path: str) -> Any:
        status, answer = await self.call("GET", path)
        if status != 200:
            raise aiohttp.ClientError(f"list answered {status}")
        return answer

    async def _watch(
        self, path: str, version: str, objects: dict[str, Any], changed: Callable[[], None]
    ) -> None:
        query = f"?watch=true&resourceVersion={version}&timeoutSeconds={WATCH_S}"
        async with self._session.get(self._server + path + query) as response:
            if response.status != 200:
                raise aiohttp.ClientError(f"watch answered {response.status}")
            async for line in response.content:
                event = json.loads(line)
                item = event["object"]
                if event["type"] == "ERROR":  # such as 410: what we know is too old
                    return
                if event["type"] == "DELETED":
                    self._deleted.add(item["metadata"]["uid"])
                    objects.pop(item["metadata"]["uid"], None)
                else:
                    objects[item["metadata"]["uid"]] = item
                changed()


def read_version(item: Any) -> int:
    """Return the version of one object, as a number that grows."""
    return int(item["metadata"]["resourceVersion"])
