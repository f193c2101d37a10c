"""Notice at once that a server takes connections.

JupyterHub asks a starting server ever more rarely, in the end every five seconds; a person who
waits for theirs would sit out that pause. So JupyterHub is let ask only once somebody is there.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..timeouts import TIMED_OUT, timeout

_POLL_S: Final = 0.1
_CONNECT_S: Final = 1.0  # where a policy drops packets nothing ever answers


async def until_listening(host: str, port: int) -> None:
    """Return as soon as a TCP connection is taken. Waits without end: the caller bounds it."""
    while True:
        try:
            async with timeout(_CONNECT_S):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TIMED_OUT):
            await asyncio.sleep(_POLL_S)
        else:
            writer.transport.abort()
            return
