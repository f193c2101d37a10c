"""An API that says what a test tells it to, for the informer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from jupyterhub_collab.kube.client import Page
from jupyterhub_collab.kube.errors import Target, from_status, no_answer
from jupyterhub_collab.kube.watch_lines import WatchEvent

Script = list[Any]


def obj(name: str, version: int, uid: str = "", **body: Any) -> dict[str, Any]:
    """An object of namespace ``n``."""
    meta = {"name": name, "namespace": "n", "resourceVersion": str(version)}
    meta["uid"] = uid or f"uid-{name}"
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, **body}


def event(kind: str, thing: dict[str, Any]) -> WatchEvent:
    return WatchEvent(kind, thing)


def gone() -> Exception:
    return from_status(Target("watch", "ResourceQuota"), 410, {"message": "too old"})


def silent() -> Exception:
    return no_answer(Target("watch", "ResourceQuota"), TimeoutError("nothing was said"))


class ScriptedApi:
    """Answers lists and watches from scripts. An exception in a script is raised.

    A watch script ends with None: the server ends the watch; without it, it goes on in silence.
    """

    def __init__(self, lists: Script, watches: list[Script]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []
        self.told: dict[str, Any] = {}  # how it was last asked to watch
        self.pushed: asyncio.Queue[WatchEvent | Exception | None] = asyncio.Queue()

    async def list_page(self, kind: Any, *, token: str | None = None, **_: Any) -> Page:
        self.asked.append(f"list {token or ''}".strip())
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        items, version, following = answer
        return Page(list(items), str(version), following)

    async def watch(
        self, kind: Any, *, resource_version: str, **told: Any
    ) -> AsyncIterator[WatchEvent]:
        self.told = told
        self.asked.append(f"watch {resource_version}")
        script: Script = self.watches.pop(0) if self.watches else []
        for step in script:
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            yield step
        while True:
            pushed = await self.pushed.get()
            if pushed is None:
                return
            if isinstance(pushed, Exception):
                raise pushed
            yield pushed
