"""A loop's pause between two looks, which whoever has something for it cuts short."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Pause:
    """One for a loop: `begin` before each look, `wait` after it.

    Parameters
    ----------
    sleep
        Waits so many seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep, self._cut = sleep, asyncio.Event()

    def begin(self) -> None:
        """What comes from now on may come after the look, and cuts the next pause short."""
        self._cut.clear()

    def cut(self) -> None:
        """Look now."""
        self._cut.set()

    async def wait(self, seconds: float) -> None:
        """So long at most."""
        sleeping = asyncio.ensure_future(self._sleep(seconds))
        cutting = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait({sleeping, cutting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            cutting.cancel()
            await asyncio.gather(sleeping, cutting, return_exceptions=True)
