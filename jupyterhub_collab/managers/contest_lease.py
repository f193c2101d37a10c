"""One process at a time does the contests' work; others stand by.

The holder shows every now and then that it is alive (`storage.contest_lease`). Whoever sees nothing
of it for as long as it said takes over, by its own clock alone; a holder on the same machine that
is known to be dead is not waited for.

A holder that was stopped for a while does not know it when it wakes up. So it counts as the holder
only for a part of that time since its last sign of life (`check`, before each call that changes
something elsewhere), and its writes to the registry are refused once the row has another term
(`ContestStore.fenced`). A database that does not answer takes the work from nobody: nobody else can
have taken it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from ..kube.lease import is_dead, make_identity
from ..storage.contest_errors import NotHolderError
from ..storage.contest_lease import Held, LeaseStore
from ..storage.database import DatabaseError

DURATION_S: Final = 8.0  # at most so long nobody works after the holder's machine fell
_SURE: Final = 2 / 3  # of it, the holder may write without another sign of life
_SIGNS: Final = 4  # in that time
log = logging.getLogger(__name__)


def seconds() -> float:
    """A clock that only goes forward, also while the machine sleeps where that can be had."""
    kind = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if kind is None else time.clock_gettime(kind)


class ContestLease:
    """One process's part in it.

    Parameters
    ----------
    holder
        Name of this process among all; made if it is not given.
    duration_s
        Without a sign of life for so long it is another's.
    clock
        Seconds that only go forward.
    """

    def __init__(
        self,
        store: LeaseStore,
        *,
        holder: str = "",
        duration_s: float = DURATION_S,
        clock: Callable[[], float] = seconds,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._holder = store, holder or make_identity()
        self._duration_s, self._clock, self._sleep = duration_s, clock, sleep
        self._held: Held | None = None
        self._sure_until = 0.0
        self._seen: Held | None = None  # of another
        self._seen_at = 0.0
        self.term = 0  # the last one that was ours

    @property
    def is_held(self) -> bool:
        """Whether it is certain that nobody else does the work."""
        return self._held is not None and self._clock() < self._sure_until

    def check(self) -> None:
        """Raise NotHolderError unless it is certain that nobody else does the work."""
        if not self.is_held:
            raise NotHolderError

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work whenever it is ours, until cancelled.

        Parameters
        ----------
        work
            Goes on until it is cancelled. What it raises ends this.
        """
        pause_s = self._duration_s / _SIGNS
        try:
            while True:
                try:
                    if await self.look():
                        await self._do(work)
                        continue
                except DatabaseError as error:
                    self._seen = None  # nobody could show anything meanwhile
                    log.warning("Who does the contests' work is not known: %s", error)
                await self._sleep(pause_s)
        finally:
            await self.give_back()

    async def _do(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work until it is another's."""
        log.info("This process does the contests' work from now on: term=%d", self.term)
        working = asyncio.ensure_future(work())
        try:
            while True:
                sleeping = asyncio.ensure_future(self._sleep(self._duration_s / _SIGNS))
                try:
                    await asyncio.wait({working, sleeping}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    sleeping.cancel()
                if working.done():
                    working.result()
                    raise RuntimeError("the contests' work ended by itself")
                try:
                    if not await self.look():
                        log.error("Another process does the contests' work by now")
                        return
                except DatabaseError as error:
                    log.warning("The contests' lease could not be renewed: %s", error)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def look(self) -> bool:
        """Take it where it is free, renew it where it is ours. Whether it is ours.

        Raises
        ------
        DatabaseError
            It is not known.
        """
        began = self._clock()
        if self._held is not None:
            self._held = await self._store.renew(self._held)
        else:
            found = await self._store.read()
            if self._is_free(found):
                began = self._clock()
                self._held = await self._store.take(
                    self._holder, found, duration_s=self._duration_s
                )
        if self._held is None:
            return False
        self.term, self._seen = self._held.term, None
        self._sure_until = began + self._duration_s * _SURE
        return True

    def _is_free(self, found: Held | None) -> bool:
        # Ours where we do not have it: the answer when we took it, or gave it back, was lost.
        if found is None or found.holder in ("", self._holder) or is_dead(found.holder):
            return True
        now = self._clock()
        if found != self._seen:
            self._seen, self._seen_at = found, now
        return now - self._seen_at >= found.duration_s

    async def give_back(self) -> None:
        """The next one need not wait. Never raises."""
        held, self._held = self._held, None
        if held is not None:
            try:
                await self._store.give_back(held)
            except DatabaseError as error:
                log.info("The contests' lease was not given back: %s", error)
