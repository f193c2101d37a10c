"""A way from this machine's loopback to a Service in the node, for a browser."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def relaying(find_target: Callable[[], tuple[str, int]]) -> Iterator[int]:
    """Relay 127.0.0.1 to what is found at the first connection; yields the port."""
    loop = asyncio.new_event_loop()
    cached = functools.cache(find_target)
    ready: threading.Event = threading.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _relay(r, w, cached()), "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_forever()
        pending = asyncio.all_tasks(loop)
        for task in pending:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        loop.close()

    thread = threading.Thread(target=run, name="relay", daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


async def _relay(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]
) -> None:
    with contextlib.suppress(OSError, asyncio.CancelledError):
        inner_reader, inner_writer = await asyncio.open_connection(*target)
        await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
