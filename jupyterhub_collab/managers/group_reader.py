"""How some of the hub's groups are looked at: one alone, many by small pages.

To read a group costs the hub almost what writing it does, on a page of its list a quarter of that
or less. So where it is known who stands together, a page is read for all of them at once; and where
it is not known, what is read to find out is used as well.

Who writes a group looks at it right before, because `PUT properties` replaces what others keep
beside our corner, and the hub compares nothing. What is read by a page may be a moment older than
what is read alone. So it is used at once or not at all, and never for a group in which somebody
else keeps something: that one is read alone.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from ..constants import PROPERTIES_KEY
from ..errors import CollabError
from ..hubapi.client import GroupPage
from ..models import HubGroup

PAGE: Final = 20  # groups; written in 0.1 s, by a busy hub in half a second
WORTH: Final = 6  # a hub that was started anew takes six times as long for a page as for one group
MANY: Final = 50  # groups whose place is not known; also a page where they are looked for
FRESH_S: Final = 5.0  # how old a group on a page may be when it is used, by a very busy hub

log = logging.getLogger(__name__)


class Groups(Protocol):
    """Where the hub's groups are read. `hubapi.HubClient` is one."""

    async def list_groups(self) -> Mapping[str, HubGroup]:
        """All groups by name, in the order of the hub's list."""

    async def read_group(self, name: str) -> HubGroup | None:
        """One group, None when there is none."""

    async def read_page(self, offset: int, limit: int) -> GroupPage:
        """Some groups from a position in the list on."""


@dataclass(frozen=True)
class _Seen:
    """What a page showed, and when it was asked for."""

    asked_at: float = -math.inf
    groups: Mapping[str, HubGroup] = field(default_factory=dict)


class GroupReader:
    """Knows where groups stand in the hub's list. One for a hub.

    The list is in the order in which groups were made. So what is not known stands at its end, and
    places are right until a group is deleted; then they are found anew.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(self, hub: Groups, *, clock: Callable[[], float]) -> None:
        self.hub, self.clock = hub, clock
        self._places: dict[str, int] = {}  # names alone: thousands of groups are not kept
        self._known_to = 0  # position in the list
        self._total = 0
        self.seen = _Seen()  # by the last page that was read to learn places

    def knows(self, groups: Iterable[str]) -> bool:
        """Whether the places of nearly all of these are known; it is not worth to look for few."""
        return sum(group not in self._places for group in groups) < MANY

    def learn(self, groups: Iterable[str]) -> None:
        """All groups, as the hub's list has just named them."""
        self._places = {group: at for at, group in enumerate(groups)}
        self._known_to = self._total = len(self._places)

    async def discover(self) -> Collection[str]:
        """Read on in the list from where it is not known. Which groups are there; none: its end.

        Whoever asks writes these groups next.
        """
        self.seen = await self._read(self._known_to, MANY)
        self._known_to += len(self.seen.groups)
        return self.seen.groups.keys()

    async def page(self, number: int) -> _Seen:
        """One of those that `page_of` tells."""
        return await self._read(number * PAGE, PAGE)

    async def _read(self, offset: int, limit: int) -> _Seen:
        """Where the hub does not say: nothing, and each group is read alone."""
        asked_at = self.clock()
        try:
            page = await self.hub.read_page(offset, limit)
        except CollabError as error:
            log.info("A page of the hub's groups was not read, each is read alone: %s", error)
            return _Seen()
        self._note(offset, page)
        return _Seen(asked_at, {group.name: group for group in page.items})

    def _note(self, offset: int, page: GroupPage) -> None:
        if page.total < self._total:  # all that stood behind what is gone have moved
            self._places.clear()
            self._known_to = 0
        self._total = page.total
        self._places.update((group.name, at) for at, group in enumerate(page.items, offset))

    def page_of(self, group: str) -> int | None:
        """On which page it was when it was seen last."""
        place = self._places.get(group)
        return None if place is None else place // PAGE

    def forget(self, group: str) -> None:
        """It is not where it was."""
        self._places.pop(group, None)

    def in_order(self, groups: Iterable[str]) -> list[str]:
        """As they stand in the list, so that those of one page come together; then all others."""
        return sorted(groups, key=lambda group: self._places.get(group, math.inf))

    def look(self, groups: Iterable[str], *, to_write: bool = False) -> Look:
        """For a batch that is worked on now. `to_write`: each is written after it was read."""
        return Look(self, groups, to_write=to_write)


class Look:
    """Groups of one batch, each read when it is asked for. Ends with the batch."""

    def __init__(self, reader: GroupReader, groups: Iterable[str], *, to_write: bool) -> None:
        self._reader, self._to_write = reader, to_write
        pages = (reader.page_of(group) for group in groups)
        counts = Counter(page for page in pages if page is not None)
        self._worth = frozenset(page for page, count in counts.items() if count >= WORTH)
        self._read: dict[int, _Seen] = {}
        self._reading: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._before = reader.seen
        self._is_failing = False  # the hub did not give a page: it is not asked for more

    async def read(self, group: str) -> HubGroup | None:
        """The group as it is; None: there is none of that name.

        Raises
        ------
        PermanentError, RetryableError
            The hub does not say.
        """
        return (await self.ask(group))[1]

    async def ask(self, group: str) -> tuple[float, HubGroup | None]:
        """As `read`, and when the hub was asked, by the reader's clock."""
        seen, found = self._before, self._usable(self._before, group)
        if found is None:
            seen = await self._page_with(group)
            found = self._usable(seen, group)
        if found is not None:
            return seen.asked_at, found
        asked_at = self._reader.clock()
        return asked_at, await self._reader.hub.read_group(group)

    def _usable(self, seen: _Seen, group: str) -> HubGroup | None:
        """What was seen of a group, if that can be relied on."""
        found = seen.groups.get(group)
        if found is None or self._reader.clock() - seen.asked_at > FRESH_S:
            return None
        is_shared = bool(found.properties.keys() - {PROPERTIES_KEY})
        return None if is_shared and self._to_write else found

    async def _page_with(self, group: str) -> _Seen:
        """The page that it stands on; nothing where that is not known or not worth it."""
        page = self._reader.page_of(group)
        if page is None or page not in self._worth:
            return _Seen()
        async with self._reading[page]:  # whoever comes first reads it for all
            if page not in self._read and not self._is_failing:
                self._read[page] = await self._reader.page(page)
                self._is_failing = not self._read[page].groups
        seen = self._read.get(page, _Seen())
        if group not in seen.groups and not self._is_failing:
            self._reader.forget(group)
        return seen
