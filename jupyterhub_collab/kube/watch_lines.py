"""The lines of a watch, with as little work as they need.

Where much is written, a watch tells of every single write, our own among them, and to be woken up
by each, to decrypt and to parse it would cost more than what it says is worth. So who may wait has
lines gathered for a moment, and of those that came together parses no more than it takes: not what
was learnt from the answer to the write itself, and of several states of one object only the last.

It must not: lose an object's last state, or that an object is gone.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from pydantic_core import from_json

from .errors import Target, from_status, no_answer

# As the API server writes every object's metadata: neighbours, and before anything that people can
# write freely. Another's JSON that has them otherwise is parsed, that is all; so is every DELETED.
_STATE: Final = re.compile(
    rb'\{"type":"(?:ADDED|MODIFIED)",'
    rb'.{0,1024}?"uid":"([^"\\]+)","resourceVersion":"([0-9]+)"'
)
# What is more than this is read at once. A second of the busiest watch, and no strain on buffers.
_GATHER_BYTES: Final = 2**17


@dataclass(frozen=True)
class WatchEvent:
    """One line of a watch. `obj` of a BOOKMARK has only a resourceVersion."""

    type: str  # ADDED, MODIFIED, DELETED, BOOKMARK
    obj: dict[str, Any]


IsKnown = Callable[[str, str], bool]


async def gather_lines(
    response: aiohttp.ClientResponse, gather_s: float
) -> AsyncIterator[list[bytes]]:
    """Lines of any length as they come; an incomplete last one is dropped: the connection was cut.

    `gather_s`: seconds after some lines in which nothing is read. The first after a silence do not
    wait.

    Notes
    -----
    socket(7), SO_RCVLOWAT: since Linux 2.6.28 poll and epoll heed it.
    """
    rest = b""
    async for chunk in response.content.iter_any():
        *ended, rest = (rest + chunk).split(b"\n")
        lines = [line for line in ended if line.strip()]
        if not lines:
            continue
        yield lines
        if gather_s:
            await _look_away(response, gather_s)


async def _look_away(response: aiohttp.ClientResponse, seconds: float) -> None:
    """Have what comes wait in the kernel, which wakes nobody up below the low-water mark.

    To pause the transport would not do: over TLS it goes on reading, and only keeps what it read.
    """
    connection = response.connection
    transport = connection.transport if connection is not None else None
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is None:  # it has ended
        return
    with suppress(OSError):  # it ends at this moment
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, _GATHER_BYTES)
    try:
        await asyncio.sleep(seconds)
    finally:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def to_events(
    target: Target, lines: Sequence[bytes], is_known: IsKnown | None
) -> Iterator[WatchEvent]:
    """What lines that came together say. One that tells what is known is a BOOKMARK.

    Raises
    ------
    GoneError, RetryableKubeError
        A line says so, or cannot be understood.
    """
    if len(lines) == 1 and is_known is None:
        yield _to_event(target, lines[0])
        return
    states = [_STATE.match(line) for line in lines]
    last = {state[1]: at for at, state in enumerate(states) if state is not None}
    for at, (line, state) in enumerate(zip(lines, states, strict=True)):
        if state is None:
            yield _to_event(target, line)
        elif last[state[1]] == at:
            uid, version = state[1].decode(), state[2].decode()
            if is_known is not None and is_known(uid, version):
                yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": version}})
            else:
                yield _to_event(target, line)


def _to_event(target: Target, line: bytes) -> WatchEvent:
    try:
        event = from_json(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as error:
        raise no_answer(target, error) from error
    if kind == "ERROR":
        raise from_status(target, int(obj.get("code") or 500), obj)
    return WatchEvent(kind, obj)
