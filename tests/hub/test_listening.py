"""A server is noticed as soon as it takes connections."""

import asyncio
import socket

from jupyterhub_collab.hub.listening import until_listening


async def test_it_waits_for_the_first_connection_that_is_taken():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # taken, and nobody listens
        port = place.getsockname()[1]
        waiting = asyncio.create_task(until_listening("127.0.0.1", port))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        place.listen()
        await asyncio.wait_for(waiting, 5)


async def test_it_can_be_given_up():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        waiting = asyncio.create_task(until_listening("127.0.0.1", place.getsockname()[1]))
        await asyncio.wait({waiting}, timeout=0.05)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
