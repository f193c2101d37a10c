"""Notice at once that a server takes connections.

JupyterHub asks a starting server ever more rarely, in the end every five seconds; a person who
waits for theirs would sit out that pause. So JupyterHub is let ask only once somebody is there.
"""

from __future__ import annotations

import asyncio
from typing import Final

_POLL_S: Final = 0.1
_CONNECT_S: Final = 1.0  # where a policy drops packets nothing ever answers


async def until_listening(host: str, port: int) -> None:
    """Return as soon as a TCP connection is taken. Waits without end: the caller bounds it."""
    while True:
        connecting = asyncio.open_connection(host, port)
        try:
            _, writer = await asyncio.wait_for(connecting, _CONNECT_S)
        except (OSError, asyncio.TimeoutError):  # the latter is no OSError before Python 3.11
            await asyncio.sleep(_POLL_S)
        else:
            writer.transport.abort()
            return
