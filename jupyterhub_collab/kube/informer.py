"""A cache of one kind of object, kept true by list and watch.

One informer watches one kind in the whole cluster, all of it or what a selector lets through. It
lists in pages, then watches from there; bookmarks keep its place, 410 makes it list anew, silence
makes it connect anew, and errors make it wait, ever longer, without end: it never gives up and
never ends the process. What `transform` trims is never kept.

Who writes objects tells the informer the answer (`note`), so that a pass right after a write sees
it, and the event that follows is no news, nor even parsed. Events older than what is known are
dropped.

A store may be restored from a backup: versions go back, and pass ours again by other ways. A watch
from a version that is yet to come is not refused, it only stays silent. So what was away for more
than one attempt is listed anew; and of what the list says and what was known before, the list is
right.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..errors import CollabError, RetryableError
from .client import KubeClient, Manifest
from .errors import GoneError
from .kinds import Kind
from .watch_lines import WatchEvent

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_BURIED: Final = 2000  # more than are gone while one answer is on its way
_NOTED: Final = 2000  # more than are written while one event is on its way
_SHORTEST_WATCH_S: Final = 1.0  # a watch that ends sooner counts as a failure, or it would spin
_ABSENT: Final = (403, 404)  # what a cluster answers that does not know a kind, or not to us
_ABSENT_LOOK_S: Final = 300.0
_FAILURES_OF_AN_OUTAGE: Final = 2  # in a row: nobody restores a store between two attempts


@dataclass(frozen=True)
class Change:
    """One object is not what it was. `old` is None for a new one, `new` for one that is gone."""

    kind: Kind
    old: Manifest | None
    new: Manifest | None

    @property
    def obj(self) -> Manifest:
        """The object as last known."""
        found = self.new if self.new is not None else self.old
        if found is None:
            raise ValueError("a change without an object")
        return found


ObjectTransform = Callable[[Manifest], Manifest | None]


class Informer:
    """Cache of one kind. `run` it as a task; read it from the same event loop.

    Parameters
    ----------
    on_change
        Called at each change that is news, in the event loop; must be quick and must not raise.
    transform
        Trims an object that came, in place or not, and gives None for one not to be kept. None: as
        `without` nothing more.
    stall_s
        Seconds of silence after which a watch counts as broken.
    may_be_absent
        The cluster may not know this kind, or not let us see it: then there is nothing of it, and
        it is looked again now and then.
    gather_s
        Seconds for which a busy watch's events may be gathered (`KubeClient.watch`).
    """

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        *,
        on_change: Callable[[Change], None] = lambda _: None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        transform: ObjectTransform | None = None,
        page_size: int = 500,
        watch_s: int = 300,
        stall_s: float = 90.0,
        gather_s: float = 0.0,
        may_be_absent: bool = False,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.kind = kind
        self._client = client
        self._on_change = on_change
        self._where = {
            "label_selector": label_selector,
            "field_selector": field_selector,
        }
        self._transform = transform or without()
        self._page_size, self._watch_s, self._stall_s = page_size, watch_s, stall_s
        self._gather_s, self._may_be_absent = gather_s, may_be_absent
        self._clock, self._uniform, self._sleep = clock, uniform, sleep
        self._objects: dict[str, dict[str, Manifest]] = {}
        self._resource_version: str | None = None
        self._failures = 0
        self._newest = 0  # highest version seen
        self._buried: OrderedDict[str, None] = OrderedDict()  # uids that are gone, the last ones
        # Uid and version of what was noted, the last ones, since the watch began: a store that was
        # restored gives versions anew.
        self._noted: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.synced = asyncio.Event()  # the first list is complete
        self.live = False  # a watch is open: what is here is true, give or take milliseconds
        self.lists = 0  # complete lists so far
        self.is_absent = False  # the cluster did not know this kind when it was last looked

    def get(self, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, None when there is none. Do not change it."""
        return self._objects.get(namespace or "", {}).get(name)

    def in_namespace(self, namespace: str) -> Mapping[str, Manifest]:
        """Objects of one namespace by name. Do not change them."""
        return self._objects.get(namespace, {})

    def __iter__(self) -> Iterator[Manifest]:
        return (obj for objects in self._objects.values() for obj in objects.values())

    def __len__(self) -> int:
        return sum(len(objects) for objects in self._objects.values())

    def note(self, obj: Manifest) -> Manifest | None:
        """Take in what the API answered to a write of ours. Not news, so nobody is called.

        The watch may have told meanwhile that the object is gone: then it stays gone. Returns the
        object of that name as it is known now, younger than the answer perhaps.
        """
        namespace, name = _key(obj)
        if obj["metadata"].get("uid") not in self._buried:
            self._noted[str(obj["metadata"].get("uid", "")), _version_of(obj)] = None
            if len(self._noted) > _NOTED:
                self._noted.popitem(last=False)
            self._store(obj, silent=True)
        return self.get(name, namespace)

    def forget(self, name: str, namespace: str | None = None, *, uid: str) -> None:
        """Take in that an object is gone, as the API answered. Not news, so nobody is called."""
        known = self.get(name, namespace)
        if known is not None and known["metadata"].get("uid") == uid:
            self._remove(known, silent=True)

    def invalidate(self) -> None:
        """What is here may be old: the next `run` lists anew, and until then it is not synced."""
        self._resource_version = None
        self.synced.clear()

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            began = self._clock()
            try:
                if self._resource_version is None:
                    await self._list()
                await self._watch()
                if self._clock() - began < _SHORTEST_WATCH_S:
                    await self._pause(None)
            except GoneError:
                log.info("Watch of %s fell behind; listing anew", self.kind.plural)
                self._resource_version = None
                if self._clock() - began < _SHORTEST_WATCH_S:
                    await self._pause(None)
            except CollabError as error:
                if self._may_be_absent and getattr(error, "status", 0) in _ABSENT:
                    self._know_absent(error)
                    await self._sleep(self._uniform(_ABSENT_LOOK_S / 2, _ABSENT_LOOK_S))
                    continue
                log.warning("Watch of %s broke: %s", self.kind.plural, error)
                await self._pause(error)
                if self._failures >= _FAILURES_OF_AN_OUTAGE:
                    self._resource_version = None
            finally:
                self.live = False

    def _know_absent(self, error: CollabError) -> None:
        if not self.is_absent:
            log.info("The cluster has no %s for us: %s", self.kind.plural, error)
        for obj in list(self):
            self._remove(obj)
        self.live, self.is_absent, self._resource_version = False, True, None
        self.synced.set()

    async def _pause(self, error: CollabError | None) -> None:
        self.live = False
        ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(self._failures, 16))
        self._failures += 1
        asked = error.retry_after_s if isinstance(error, RetryableError) else None
        await self._sleep(max(self._uniform(ceiling / 2, ceiling), asked or 0.0))

    async def _list(self) -> None:
        seen: set[tuple[str, str]] = set()
        token, first = None, ""
        newest, listed, restored = self._newest, 0, False
        while True:
            page = await self._client.list_page(
                self.kind, page_size=self._page_size, token=token, **self._where
            )
            first = first or page.resource_version
            listed = _version(first)
            restored = 0 < listed < newest
            for obj in page.items:
                seen.add(_key(obj))
                self._store(obj, listed=newest if restored else listed)
            token = page.next_token
            if token is None:
                break
            await asyncio.sleep(0)  # let others work between pages
        gone = [
            obj
            for obj in self
            # what we made while the pages came is younger than the list
            if _key(obj) not in seen
            and (restored or not listed or _version(_version_of(obj)) <= listed)
        ]
        for obj in gone:
            self._remove(obj)
        self._resource_version, self.is_absent = first, False
        self._newest = listed if restored else max(self._newest, listed)
        self.lists += 1
        self.synced.set()

    async def _watch(self) -> None:
        self._noted.clear()
        events = self._client.watch(
            self.kind,
            resource_version=self._resource_version or "",
            timeout_s=self._watch_s,
            stall_s=self._stall_s,
            gather_s=self._gather_s,
            is_known=self._is_noted,
            **self._where,
        )
        self.live = True
        async for event in events:
            self._failures = 0
            self._take(event)

    def _take(self, event: WatchEvent) -> None:
        # Before the transform, which may drop the object.
        version = _version_of(event.obj)
        if event.type == "DELETED":
            self._bury(event.obj)
            self._remove(event.obj)
        elif event.type != "BOOKMARK":
            self._store(event.obj)
        if version:
            self._resource_version = version

    def _is_noted(self, uid: str, version: str) -> bool:
        return (uid, version) in self._noted

    def _bury(self, obj: Manifest) -> None:
        self._buried[str(obj["metadata"].get("uid", ""))] = None
        if len(self._buried) > _BURIED:
            self._buried.popitem(last=False)

    def _store(self, obj: Manifest, *, silent: bool = False, listed: int = 0) -> None:
        """Keep an object unless a younger one is known.

        `listed` is the version of the list that it stands in: a list leaves nothing out that was
        written before, so what is known and no younger than the list gives way to it.
        """
        namespace, name = _key(obj)
        known = self._objects.get(namespace, {}).get(name)
        version = _version(_version_of(obj))
        if known is not None:
            old = _version(_version_of(known))
            if version and version <= old and old > listed:
                return
        self._newest = max(self._newest, version)
        kept = self._transform(obj)
        if kept is None:
            if known is not None:
                self._remove(known, silent=silent)
            return
        self._objects.setdefault(namespace, {})[name] = kept
        if not silent and (known is None or not _is_same(known, kept)):
            self._on_change(Change(self.kind, known, kept))

    def _remove(self, obj: Manifest, *, silent: bool = False) -> None:
        namespace, name = _key(obj)
        known = self._objects.get(namespace, {}).get(name)
        if known is None or known["metadata"].get("uid") != obj["metadata"].get("uid"):
            return  # the one that was deleted is not the one we know
        del self._objects[namespace][name]
        if not self._objects[namespace]:
            del self._objects[namespace]
        if not silent:
            self._on_change(Change(self.kind, known, None))


def _key(obj: Manifest) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _version_of(obj: Manifest) -> str:
    return str(obj.get("metadata", {}).get("resourceVersion", ""))


def _version(text: str) -> int:
    """A resourceVersion as a number, 0 when it is none. Of one kind they can be compared."""
    return int(text) if text.isdecimal() else 0


def _is_same(one: Manifest, other: Manifest) -> bool:
    """Whether two objects differ in their resourceVersion at most."""
    if one.keys() != other.keys():
        return False
    for key, value in one.items():
        mine, its = value, other[key]
        if key == "metadata":
            mine = {**mine, "resourceVersion": None}
            its = {**its, "resourceVersion": None}
        if mine != its:
            return False
    return True


def label_selector(labels: Mapping[str, str]) -> str:
    """Selector of objects that bear all these labels."""
    return ",".join(f"{key}={value}" for key, value in labels.items())


def without(*fields: str) -> ObjectTransform:
    """Transform that drops these top-level fields, and managedFields: the largest part of most
    objects, of use to nobody here."""

    def transform(obj: Manifest) -> Manifest | None:
        obj["metadata"].pop("managedFields", None)
        for field in fields:
            obj.pop(field, None)
        return obj

    return transform
