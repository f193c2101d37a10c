"""Brings checkpoints of the audit log to its anchors, each at its own pace.

An anchor gets the newest checkpoint, and with it those it missed; one that does not answer is tried
again, ever more slowly, and holds up no other. What it took is remembered over a restart.

It must not: go on with an anchor that holds another past. That needs an admin's eyes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ..anchors.anchor import Anchor, Delivery, ForkError
from ..anchors.memory import AnchorMemory, Taken
from ..errors import CollabError, PermanentError
from ..policy.audit_window import Window
from ..policy.checkpoint import CheckpointError, LogVerifier
from ..policy.tiles import Tile, tiles_between
from ..reconcile.backoff import Backoff
from ..storage.audit_log import AuditLog

log = logging.getLogger(__name__)

_EARLIER_MAX: Final = 10_000


@dataclass(frozen=True)
class AnchorStatus:
    """How it is with one anchor.

    Attributes
    ----------
    size
        Events that it holds.
    error
        Why it does not take the newest checkpoint, None if it does.
    """

    name: str
    size: int
    events: int
    age_s: float
    failures: int
    error: str | None


class _Link:
    """The way to one anchor."""

    def __init__(self, anchor: Anchor, taken: Taken | None) -> None:
        self.anchor = anchor
        self.size = 0 if taken is None else taken.size
        self.window = Window(self.size)
        self.wake = asyncio.Event()
        self.failures = 0  # in a row
        self.error: str | None = None
        self.is_stopped = False
        self.last_s = float("-inf")


class Anchoring:
    """All anchors of a log.

    Parameters
    ----------
    on_try
        Told of each try: which anchor, and whether it took the checkpoint.
    """

    def __init__(
        self,
        audit_log: AuditLog,
        verifier: LogVerifier,
        anchors: Sequence[Anchor],
        memory: AnchorMemory,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        backoff: Backoff | None = None,
        on_try: Callable[[str, bool], None] = lambda _name, _ok: None,
    ) -> None:
        self._log, self._verifier, self._memory = audit_log, verifier, memory
        self._monotonic, self._on_try = monotonic, on_try
        self._backoff = backoff or Backoff(first_s=1.0, longest_s=60.0)
        taken = memory.taken()
        self._links = [_Link(anchor, taken.get(anchor.name)) for anchor in anchors]
        self._newest: Taken | None = None
        self._window = Window(max((link.size for link in self._links), default=0))

    @property
    def names(self) -> tuple[str, ...]:
        """Of all anchors."""
        return tuple(link.anchor.name for link in self._links)

    async def find_forks(self) -> list[str]:
        """What the anchors hold that is not in this log's past, a sentence each; none is well.

        One that does not answer is not waited for: what it took last is in our memory.
        """
        wrong = []
        for name, taken in self._memory.taken().items():
            said = await self._compare(taken.note)
            if said is not None:
                wrong.append(f"{name} took {said}")
                # Else the next checkpoint that it takes would be all that we remember.
                for link in self._links:
                    if link.anchor.name == name:
                        link.is_stopped, link.error = True, f"it took {said}"
        for link in self._links:
            name = link.anchor.name
            try:
                note = await link.anchor.newest()
            except CollabError as error:
                link.error = str(error)
                log.warning("Anchor %s cannot be compared with the log: %s", name, error)
                continue
            if note is None:
                continue
            said = await self._compare(note)
            if said is not None:
                link.is_stopped, link.error = True, f"it holds {said}"
                wrong.append(f"{name} holds {said}")
        return wrong

    async def _compare(self, note: str) -> str | None:
        """What is wrong with a checkpoint that was held outside, None if nothing is."""
        try:
            held = self._verifier.open(note)
        except CheckpointError as error:
            return f"a checkpoint that is not this log's: {error}"
        if held.size > self._log.size:
            return f"a checkpoint of {held.size} events, and the log has {self._log.size}"
        root = await asyncio.to_thread(root_at, self._log, held.size)
        if root != held.root:
            return f"a checkpoint of {held.size} events that says otherwise than the log"
        return None

    async def accept(self) -> None:
        """An admin looked: what is held stays, out of the way, and the log begins anew from here.

        Raises
        ------
        CollabError
            It cannot be moved.
        OSError
            Our memory cannot be written.
        """
        for link in self._links:
            await link.anchor.set_aside()
            link.size, link.window, link.is_stopped, link.error = 0, Window(), False, None
        await self._memory.forget()
        self._window = Window()

    def grow(self, size: int, *, ago_s: float = 0.0) -> None:
        """The log has so many events, the new ones since so many seconds at most."""
        now_s = self._monotonic() - ago_s
        for window in (self._window, *(link.window for link in self._links)):
            window.grow(size, now_s)

    def offer(self, size: int, note: str) -> None:
        """There is a new checkpoint."""
        self._newest = Taken(size, note)
        for link in self._links:
            link.wake.set()

    @property
    def window(self) -> tuple[int, float]:
        """Events that no anchor holds, and the seconds that the oldest has waited."""
        return self._window.events, self._window.age_s(self._monotonic())

    def status(self) -> list[AnchorStatus]:
        """Of each anchor."""
        now_s = self._monotonic()
        return [
            AnchorStatus(
                link.anchor.name,
                link.size,
                link.window.events,
                link.window.age_s(now_s),
                link.failures,
                link.error,
            )
            for link in self._links
        ]

    async def run(self) -> None:
        """Deliver until cancelled."""
        await asyncio.gather(*(self._serve(link) for link in self._links))

    async def deliver_once(self) -> None:
        """One try for each that lacks the newest checkpoint: at an orderly end."""
        late = [link for link in self._links if not link.is_stopped and self._lacks(link)]
        await asyncio.gather(*(self._try(link) for link in late))

    async def close(self) -> None:
        """Leave nothing open."""
        for link in self._links:
            await link.anchor.close()

    def _lacks(self, link: _Link) -> bool:
        return self._newest is not None and link.size < self._newest.size

    async def _serve(self, link: _Link) -> None:
        while True:
            await link.wake.wait()
            link.wake.clear()
            while not link.is_stopped and self._lacks(link):
                wait_s = link.last_s + link.anchor.interval_s - self._monotonic()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                if not await self._try(link) and not link.is_stopped:
                    await asyncio.sleep(self._backoff.delay_s(link.failures))

    async def _try(self, link: _Link) -> bool:
        name, newest = link.anchor.name, self._newest
        assert newest is not None
        try:
            await self._deliver(link, newest)
        except ForkError as error:
            link.is_stopped = True
            self._note_failure(link, f"it holds another past: {error}")
            return False
        except Exception as error:
            is_ours = isinstance(error, CollabError)
            self._note_failure(link, str(error) if is_ours else type(error).__name__)
            if not is_ours:
                log.exception("Anchor %s failed in a way that was not foreseen", name)
            return False
        if link.failures:
            log.info("Anchor %s takes checkpoints again", name)
        link.failures, link.error, link.last_s = 0, None, self._monotonic()
        link.size = newest.size
        for window in (link.window, self._window):
            window.hold(newest.size)
        self._on_try(name, True)
        try:
            await self._memory.remember(name, newest)
        except OSError as error:
            log.warning("What anchor %s took cannot be written down: %s", name, error.strerror)
        return True

    def _note_failure(self, link: _Link, said: str) -> None:
        if not link.failures or link.error != said:
            log.error("Anchor %s did not take a checkpoint: %s", link.anchor.name, said)
        link.failures += 1
        link.error = said
        self._on_try(link.anchor.name, False)

    async def _deliver(self, link: _Link, newest: Taken) -> None:
        notes = await self._log.checkpoints()
        earlier = [(size, note) for size, note in notes if link.size < size < newest.size]
        delivery = Delivery(
            origin=self._verifier.origin,
            size=newest.size,
            note=newest.note,
            held=link.size,
            earlier=tuple(earlier[-_EARLIER_MAX:]),
            read_tiles=lambda held: read_tiles(self._log, held, newest.size),
        )
        await link.anchor.deliver(delivery)


def root_at(audit_log: AuditLog, size: int) -> bytes:
    """Head that the log's tree had with so many events. Blocks. Raises DatabaseError."""
    return audit_log.at(size).frontier().root()


def read_tiles(audit_log: AuditLog, held: int, size: int) -> Iterator[tuple[Tile, bytes]]:
    """Tiles that a copy of `held` events lacks of a tree of `size`. Blocks."""
    for tile in tiles_between(held, size):
        data = audit_log.fetch(tile)
        if data is None:
            raise PermanentError(
                f"The log itself lacks {tile.path}. Look at it with"
                " `jupyterhub-collab audit verify`"
            )
        yield tile, data
