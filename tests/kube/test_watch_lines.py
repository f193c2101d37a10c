"""Lines of a watch: what is not parsed, and that nothing which counts is among it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from jupyterhub_collab.kube.errors import GoneError, RetryableKubeError, Target
from jupyterhub_collab.kube.watch_lines import IsKnown, WatchEvent, gather_lines, to_events

WATCH = Target("watch", "ResourceQuota")


def line(kind: str, uid: str, version: int, **more: Any) -> bytes:
    """As the API server writes it."""
    meta = {"name": "a", "namespace": "n", "uid": uid, "resourceVersion": str(version), **more}
    obj = {"kind": "ResourceQuota", "apiVersion": "v1", "metadata": meta}
    return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode()


def told(lines: list[bytes], is_known: IsKnown | None = None) -> list[tuple[str, str]]:
    return [
        (event.type, event.obj["metadata"]["resourceVersion"])
        for event in to_events(WATCH, lines, is_known)
    ]


def test_of_several_states_of_one_object_the_last_is_told() -> None:
    lines = [line("ADDED", "a", 1), line("ADDED", "b", 2), line("MODIFIED", "a", 3)]
    assert told(lines) == [("ADDED", "2"), ("MODIFIED", "3")]


def test_that_something_went_is_always_told() -> None:
    lines = [
        line("MODIFIED", "a", 1),
        line("DELETED", "a", 2),
        line("ADDED", "a", 3),  # it left the selector, and came back
        line("DELETED", "b", 4),
    ]
    everything = told(lines, lambda _uid, _version: True)
    assert everything == [("DELETED", "2"), ("BOOKMARK", "3"), ("DELETED", "4")]


def test_what_is_known_keeps_the_place_and_is_not_parsed() -> None:
    broken = line("ADDED", "a", 7)[:-1]
    assert told([broken], lambda uid, version: (uid, version) == ("a", "7")) == [("BOOKMARK", "7")]
    assert told([line("MODIFIED", "a", 8)], lambda _, version: version == "7") == [
        ("MODIFIED", "8")
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ADDED","object":{"metadata":{"resourceVersion":"5","uid":"a"}}}',
        '{"type": "ADDED", "object": {"metadata": {"uid": "a", "resourceVersion": "5"}}}',
        '{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5"}}}',
        json.dumps(
            {
                "type": "ADDED",
                "object": {
                    "metadata": {
                        "resourceVersion": "5",
                        "annotations": {"x": '"uid":"a","resourceVersion":"5"'},
                    }
                },
            },
            separators=(",", ":"),
        ),
    ],
    ids=["another order", "white space", "bookmark", "in a text"],
)
def test_what_is_written_otherwise_is_parsed(text: str) -> None:
    (event,) = to_events(WATCH, [text.encode()], lambda _uid, _version: True)
    assert event == WatchEvent(**_as_event(text))


def _as_event(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return {"type": found["type"], "obj": found["object"]}


def test_errors_come_in_their_turn() -> None:
    gone = b'{"type":"ERROR","object":{"kind":"Status","code":410}}'
    events = to_events(WATCH, [line("ADDED", "a", 1), gone], None)
    assert next(events).type == "ADDED"
    with pytest.raises(GoneError):
        next(events)
    with pytest.raises(RetryableKubeError):
        told([b"{"])


async def test_lines_after_some_are_gathered_and_the_first_are_not() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for word in (b"one\n", b"two\nthr", b"ee\n", b"\n", b"four"):
            await response.write(word)
            if word == b"one\n":
                await seen.wait()
        return response

    seen = asyncio.Event()
    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    found: list[list[bytes]] = []
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{port}/") as answer:
        async for lines in gather_lines(answer, 0.05):
            found.append(lines)
            seen.set()
    await runner.cleanup()
    assert found[0] == [b"one"], "a first line does not wait"
    assert [each for lines in found for each in lines] == [b"one", b"two", b"three"]
