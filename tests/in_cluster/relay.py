"""A way from this machine's loopback to a Service in the node, for a browser."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator

Target = tuple[str, int]


@contextlib.contextmanager
def relaying(find_target: Callable[[], Target]) -> Iterator[int]:
    """Relay 127.0.0.1 to what is found at the first connection; yields the port."""
    relay = _Relay(functools.cache(find_target))
    relay.start()
    try:
        yield relay.port
    finally:
        relay.end()


class _Relay(threading.Thread):
    def __init__(self, find_target: Callable[[], Target]) -> None:
        super().__init__(name="relay", daemon=True)
        self._find_target = find_target
        self._begun = threading.Event()
        self._port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None

    @property
    def port(self) -> int:
        assert self._begun.wait(10)
        return self._port

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        self._begun.set()
        await self._over.wait()
        server.close()  # what is open ends with the loop

    def end(self) -> None:
        assert self._loop is not None
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(10)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            target = await asyncio.to_thread(self._find_target)
            inner_reader, inner_writer = await asyncio.open_connection(*target)
            with contextlib.closing(inner_writer):
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
