"""A wire to a directory that takes its time: answers come so much later, in a process of its own.

``python -m benchmarks._slow_wire LISTEN_PORT TARGET_PORT DELAY_S``; prints ``ready``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

_CHUNK = 65536


async def main(port: int, target: int, delay_s: float) -> None:
    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                writer.write(data)
                if not data:
                    break
                await writer.drain()
            writer.close()

        delivery = asyncio.create_task(deliver())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK):
                waiting.put_nowait((loop.time() + wait_s, data))
        waiting.put_nowait((loop.time(), b""))
        with contextlib.suppress(ConnectionError):
            await delivery

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(carry(reader, theirs[1], 0.0), carry(theirs[0], writer, delay_s))

    server = await asyncio.start_server(accept, "127.0.0.1", port, backlog=512)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
