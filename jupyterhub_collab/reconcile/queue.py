"""Which key is worked on next: each once, fair between groups, urgent ones first.

The queue holds keys (teams), not events: a key that is added ten times is worked on once, and one
that is added while it is worked on comes once more afterwards. Within a lane the groups (contests)
take turns, so a contest of 2,000 teams does not keep one of three waiting. It is a plain data
structure: the time comes with each call, and it never waits by itself.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from enum import IntEnum

from .backoff import Backoff


class Lane(IntEnum):
    """Urgent work (drift, somebody waiting) goes before bulk work."""

    URGENT = 0
    BULK = 1


@dataclass
class _Entry:
    group: str
    lane: Lane
    failures: int = 0
    not_before: float = 0.0  # what the other side asked for; nothing goes before it
    due: float = 0.0  # of the delayed turn
    queued: Lane | None = None  # stands in this lane
    running: bool = False
    again: Lane | None = None  # asked for while it was running


@dataclass
class _Turns:
    """Round robin over groups, first come first served in each. Every step takes constant time.

    A group that has no more keys has no turn, and takes the last place when it has some again. So
    whoever stands behind n others of its own group waits for at most n + 1 rounds, whatever the
    other groups do meanwhile.
    """

    groups: OrderedDict[str, OrderedDict[str, None]] = field(default_factory=OrderedDict)
    count: int = 0

    def push(self, group: str, key: str) -> None:
        """Put a key that is not here behind the others of its group."""
        self.groups.setdefault(group, OrderedDict())[key] = None
        self.count += 1

    def pop(self) -> str | None:
        if not self.groups:
            return None
        group, keys = next(iter(self.groups.items()))
        key, _ = keys.popitem(last=False)
        self.count -= 1
        if keys:
            self.groups.move_to_end(group)
        else:
            del self.groups[group]
        return key

    def remove(self, group: str, key: str) -> None:
        keys = self.groups[group]
        del keys[key]
        self.count -= 1
        if not keys:
            del self.groups[group]


class WorkQueue:
    """Keys that want work. Times are seconds of whatever clock the caller has."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self._backoff = backoff or Backoff()
        self._entries: dict[str, _Entry] = {}
        self._lanes = {lane: _Turns() for lane in Lane}
        self._delayed: list[tuple[float, int, str]] = []
        self._counter = 0

    def __len__(self) -> int:
        """Keys that stand in a lane, delayed ones not counted."""
        return sum(turns.count for turns in self._lanes.values())

    def failures(self, key: str) -> int:
        """Failures in a row of a key."""
        entry = self._entries.get(key)
        return entry.failures if entry else 0

    def add(self, key: str, *, group: str, lane: Lane = Lane.BULK, now: float) -> None:
        """Ask for work on a key. Never before what the other side asked for (Retry-After)."""
        entry = self._entries.setdefault(key, _Entry(group, lane))
        if entry.running:
            entry.group = group
            entry.again = lane if entry.again is None else min(entry.again, lane)
        elif entry.not_before > now:
            entry.lane = min(entry.lane, lane)
            self._delay(key, entry, entry.not_before)
        else:
            self._push(key, entry, group, lane)

    def _push(self, key: str, entry: _Entry, group: str, lane: Lane) -> None:
        if entry.queued is not None:
            if entry.queued <= lane:
                return
            self._lanes[entry.queued].remove(entry.group, key)
        entry.group, entry.queued, entry.lane, entry.due = group, lane, lane, 0.0
        self._lanes[lane].push(group, key)

    def _delay(self, key: str, entry: _Entry, due: float) -> None:
        if entry.queued is not None or (entry.due and entry.due <= due):
            return
        entry.due = due
        self._counter += 1
        heapq.heappush(self._delayed, (due, self._counter, key))

    def _promote(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            due, _, key = heapq.heappop(self._delayed)
            entry = self._entries.get(key)
            if entry is not None and entry.due == due and not entry.running:
                self._push(key, entry, entry.group, entry.lane)

    def take(self, now: float, *, urgent_only: bool = False) -> str | None:
        """Next key to work on, None when there is none now. Ends with `done` or `failed`."""
        self._promote(now)
        for lane in Lane:
            if urgent_only and lane is not Lane.URGENT:
                continue
            key = self._lanes[lane].pop()
            if key is not None:
                entry = self._entries[key]
                entry.queued, entry.running, entry.again = None, True, None
                return key
        return None

    def next_due(self) -> float | None:
        """When the next delayed key comes up, None when there is none."""
        while self._delayed:
            due, _, key = self._delayed[0]
            entry = self._entries.get(key)
            if entry is not None and entry.due == due and not entry.running:
                return due
            heapq.heappop(self._delayed)
        return None

    def done(self, key: str, now: float) -> None:
        """Work on a key succeeded."""
        entry = self._entries[key]
        entry.running, entry.failures, entry.not_before = False, 0, 0.0
        if entry.again is not None:
            self._push(key, entry, entry.group, entry.again)
        else:
            del self._entries[key]

    def failed(
        self, key: str, now: float, *, asked_s: float | None = None, at_least_s: float = 0.0
    ) -> float:
        """Work on a key failed; it comes back later. Returns in how many seconds.

        Parameters
        ----------
        asked_s
            Seconds the other side asked to be left alone: nothing goes before.
        at_least_s
            Shortest delay, for failures that time alone does not heal.
        """
        entry = self._entries[key]
        entry.running = False
        entry.failures += 1
        delay = max(at_least_s, self._backoff.delay_s(entry.failures, asked_s=asked_s))
        entry.not_before = now + delay if asked_s is not None else 0.0
        entry.lane = Lane.BULK if entry.again is None else entry.again
        if entry.again is not None and asked_s is None and entry.failures == 1:
            # Something changed while it ran: once, that is reason enough to try at once.
            self._push(key, entry, entry.group, entry.again)
            return 0.0
        entry.due = 0.0
        self._delay(key, entry, now + delay)
        return delay
