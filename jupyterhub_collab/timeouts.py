"""A limit in seconds on what is awaited: `async with timeout(5): ...`, ends with TIMED_OUT.

In place of `asyncio.wait_for`, which before Python 3.12 loses a cancellation that comes in the turn
in which what it waits for is done: a loop that waits so would run on after it was told to end.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

TIMED_OUT: Final = asyncio.TimeoutError  # not the built-in TimeoutError before Python 3.11

__all__ = ["TIMED_OUT", "timeout"]
