"""Bodies over raw sockets: nobody has theirs read before it is known who they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import pytest
from tornado.testing import bind_unused_port
from tornado.web import HTTPError, RequestHandler

from jupyterhub_collab.services import application
from jupyterhub_collab.services.application import make_server
from jupyterhub_collab.services.handlers import BODY_BYTES_MAX, ServiceHandler

TOKEN: Final = "Authorization: token ada\r\n"
MIB: Final = 1 << 20


class _HubAuth:
    """The hub's word: one token is Ada's, one cookie too."""

    class _Cache:
        max_age = 5

    cache = _Cache()

    async def get_user(self, handler: Any, sync: bool = False) -> dict[str, Any] | None:
        said = handler.request.headers
        handler._cached_hub_user = None
        handler._token_authenticated = "Authorization" in said
        handler.check_xsrf_cookie()  # as the hub's own does for cookies
        if said.get("Authorization") == "token ada" or "login=ada" in said.get("Cookie", ""):
            return {"name": "ada", "kind": "user", "scopes": []}
        return None

    def check_xsrf_cookie(self, handler: Any) -> None:
        if not handler._token_authenticated and handler.get_argument("_xsrf", "") != "right":
            raise HTTPError(403, "'_xsrf' argument missing")


class Taking(ServiceHandler):
    """Says how much came."""

    hub_auth = _HubAuth()

    def check_hub_user(self, model: dict[str, Any]) -> dict[str, Any]:
        return model

    async def post(self) -> None:
        self.work.append(len(self.request.body))
        self.send({"bytes": len(self.request.body), "name": self.get_body_argument("name", "")})

    async def put(self) -> None:
        raise AssertionError("nobody comes so far")


class Generous(Taking):
    """Takes more from those who may."""

    async def prepare(self) -> None:
        await super().prepare()
        if not self._finished:
            self.take_up_to(4 * MIB)


class Open(ServiceHandler):
    """Asks nobody who they are."""

    is_public = True

    async def post(self) -> None:
        self.send({"kept": len(self.request.body)})


class Foreign(RequestHandler):
    """Not ours: JupyterHub's own, for instance."""

    def initialize(self, work: Any) -> None:
        self.work = work

    def post(self) -> None:
        self.write(str(len(self.request.body)))


class Peer:
    """One end of a connection, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [n for n in head.split("\r\n") if n.lower().startswith("content-length:")]
        length = int(lengths[0].partition(":")[2]) if lengths else 0
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def is_closed(self) -> bool:
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def serving(body_s: float = 30.0) -> AsyncIterator[tuple[int, list[int]]]:
    """Port of a server with these handlers, and how much each request was that they took."""
    taken: list[int] = []
    routes = [
        (f"/{cls.__name__.lower()}", cls, {"work": taken})
        for cls in (Taking, Generous, Open, Foreign)
    ]
    server = make_server(routes, taken, body_s=body_s, log_function=lambda _: None)
    socket, port = bind_unused_port()
    server.add_socket(socket)
    try:
        yield port, taken
    finally:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
async def service() -> AsyncIterator[tuple[int, list[int]]]:
    async with serving() as found:
        yield found


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


def head(path: str, *lines: str, who: str = "", verb: str = "POST") -> bytes:
    more = "".join(f"{line}\r\n" for line in lines)
    return f"{verb} /{path} HTTP/1.1\r\nHost: x\r\n{who}{more}\r\n".encode()


CHUNKED: Final = "Transfer-Encoding: chunked"


@pytest.mark.parametrize("who", ["", "Authorization: token wrong\r\n"])
@pytest.mark.parametrize("how", [f"Content-Length: {32 * MIB}", CHUNKED])
@pytest.mark.parametrize("path", ["taking", "generous"])
async def test_nobody_is_answered_after_the_headers_and_sent_away(
    service: tuple[int, list[int]], path: str, how: str, who: str
) -> None:
    port, taken = service
    async with connected(port) as peer:
        await peer.send(head(path, how, who=who))
        status, _ = await peer.answer()
        assert status == 401, "not a byte of the body had to come"
        assert await peer.is_closed()
    assert taken == []


async def test_who_sends_all_the_same_does_not_fill_the_memory(
    service: tuple[int, list[int]],
) -> None:
    port, _ = service
    async with connected(port) as peer:
        await peer.send(head("taking", f"Content-Length: {64 * MIB}"))
        sent = 0
        with suppress(ConnectionError):
            while sent < 64:
                await peer.send(bytes(MIB))
                sent += 1
        assert sent < 32, "what the two sockets hold, and no more"


@pytest.mark.parametrize(
    ("path", "announced", "status"),
    [
        ("taking", BODY_BYTES_MAX, 200),
        ("taking", BODY_BYTES_MAX + 1, 413),
        ("generous", 4 * MIB, 200),
        ("generous", 4 * MIB + 1, 413),
    ],
)
async def test_who_was_let_in_may_send_so_much(
    service: tuple[int, list[int]], path: str, announced: int, status: int
) -> None:
    port, taken = service
    async with connected(port) as peer:
        body = bytes(announced if status == 200 else 1)
        await peer.send(head(path, f"Content-Length: {announced}", who=TOKEN) + body)
        found, said = await peer.answer()
        assert found == status
        if status == 413:
            assert b"larger than" in said
            assert await peer.is_closed()
    assert taken == ([announced] if status == 200 else [])


async def test_chunks_are_counted(service: tuple[int, list[int]]) -> None:
    port, taken = service
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    async with connected(port) as peer:
        await peer.send(head("taking", CHUNKED, who=TOKEN) + 2 * chunk + b"0\r\n\r\n")
        assert (await peer.answer())[0] == 200
        assert taken == [0x20000]
        await peer.send(head("taking", CHUNKED, who=TOKEN) + 16 * chunk)
        await peer.send(chunk[:100])
        assert (await peer.answer())[0] == 413
        assert await peer.is_closed()
    assert taken == [0x20000]


async def test_neither_length_nor_chunks_is_an_empty_body(service: tuple[int, list[int]]) -> None:
    port, taken = service
    async with connected(port) as peer:
        await peer.send(head("taking", who=TOKEN))
        assert await peer.answer() == (200, b'{"bytes": 0, "name": ""}')
        await peer.send(head("taking", "Content-Length: 2", who=TOKEN) + b"{}")
        assert (await peer.answer())[0] == 200, "and the connection goes on"
    assert taken == [0, 2]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 2", CHUNKED),
        ("Content-Length: 2", "Content-Length: 3"),
        ("Content-Length: -1",),
        ("Content-Length: 1e3",),
        ("Transfer-Encoding: gzip",),
    ],
)
async def test_who_leaves_open_where_a_body_ends_is_sent_away(
    service: tuple[int, list[int]], lines: tuple[str, ...]
) -> None:
    port, taken = service
    async with connected(port) as peer:
        await peer.send(head("taking", *lines, who=TOKEN) + b"{}")
        assert (await peer.answer())[0] == 400
        assert await peer.is_closed()
    assert taken == []


@pytest.mark.parametrize("how", ["Content-Length: 1000", CHUNKED])
async def test_who_sends_byte_by_byte_is_cut_off(how: str) -> None:
    async with serving(body_s=0.3) as (port, taken), connected(port) as peer:
        await peer.send(head("taking", how, who=TOKEN) + b"1")
        assert await peer.is_closed(), "it would wait for ever"
    assert taken == []


async def test_where_nobody_is_asked_nothing_is_kept(service: tuple[int, list[int]]) -> None:
    port, _ = service
    async with connected(port) as peer:
        await peer.send(head("open", "Content-Length: 9") + b"some body")
        assert await peer.answer() == (200, b'{"kept": 0}')
        await peer.send(head("open", f"Content-Length: {BODY_BYTES_MAX + 1}") + b"x")
        assert (await peer.answer())[0] == 413


async def test_what_is_not_ours_takes_next_to_nothing(service: tuple[int, list[int]]) -> None:
    port, _ = service
    async with connected(port) as peer:
        await peer.send(head("foreign", f"Content-Length: {MIB}"))
        assert (await peer.answer())[0] == 400
        assert await peer.is_closed()


async def test_a_path_that_is_not_there_takes_no_body(service: tuple[int, list[int]]) -> None:
    port, _ = service
    async with connected(port) as peer:
        await peer.send(head("nowhere", f"Content-Length: {32 * MIB}"))
        assert (await peer.answer())[0] == 404
        assert await peer.is_closed()


async def test_a_form_is_read_and_its_token_checked(service: tuple[int, list[int]]) -> None:
    port, taken = service
    form = "Content-Type: application/x-www-form-urlencoded"
    for body, status in ((b"name=reef&_xsrf=right", 200), (b"name=reef&_xsrf=wrong", 403)):
        async with connected(port) as peer:
            length = f"Content-Length: {len(body)}"
            await peer.send(head("taking", "Cookie: login=ada", form, length) + body)
            found, said = await peer.answer()
            assert found == status, said
            assert (b'"reef"' in said) == (status == 200)
    assert taken == [21], "nothing was done for a page of somebody else"


async def test_a_form_that_is_none_is_said(service: tuple[int, list[int]]) -> None:
    port, taken = service
    async with connected(port) as peer:
        form = "Content-Type: multipart/form-data; boundary=x"
        await peer.send(head("taking", form, "Content-Length: 4", who=TOKEN) + b"none")
        assert (await peer.answer())[0] == 400
    assert taken == []


async def test_who_goes_in_the_middle_leaves_nothing_behind(
    service: tuple[int, list[int]],
) -> None:
    port, taken = service
    async with connected(port) as peer:
        await peer.send(head("taking", "Content-Length: 100", who=TOKEN) + b"half")
        await turns(lambda: handlers_at_work() == 1)
    await turns(lambda: handlers_at_work() == 0)
    assert taken == [], "half of something was not done"


def handlers_at_work() -> int:
    return sum("_execute" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def turns(check: Callable[[], bool]) -> None:
    """Let the loop turn until it is so."""
    for _ in range(100_000):
        if check():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


def test_limits_are_what_the_docs_say() -> None:
    assert (BODY_BYTES_MAX, application.BODY_S) == (MIB, 60.0)
