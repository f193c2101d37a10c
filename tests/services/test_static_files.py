"""Style and script of pages: a service's own and the one that all share, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application

from jupyterhub_collab.services import static_files
from jupyterhub_collab.services.audit import reading_pages
from jupyterhub_collab.services.contests import pages


@pytest.fixture(params=[reading_pages.StaticHandler, pages.StaticHandler])
async def client(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[httpx.AsyncClient, Path]]:
    handler: type[static_files.StaticHandler] = request.param
    server = HTTPServer(Application([(r"/static/(.*)", handler, {"work": None})]))
    socket, port = bind_unused_port()
    server.add_socket(socket)
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False) as found:
        yield found, handler.folder
    server.stop()
    await server.close_all_connections()


async def test_each_file_that_pages_name_is_there(client: tuple[httpx.AsyncClient, Path]) -> None:
    http, folder = client
    own = {file.name for file in folder.iterdir()}
    for name in (*own, "pages.css"):
        answer = await http.get(f"/static/{name}")
        assert answer.status_code == 200
        assert answer.text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        head = await http.head(f"/static/{name}")
        assert head.headers["Content-Length"] == str(len(answer.content))
    assert "pages.css" not in own
    assert ":root" in (await http.get("/static/pages.css")).text


@pytest.mark.parametrize(
    "path",
    [
        *("none.css", "", "..", "../pages.py", "..%2fpages.py", "%2e%2e/pages.py"),
        *("pages.css/", "pages.css%00", "./../static/../pages.py", "//etc/passwd", "/etc/passwd"),
    ],
)
async def test_nothing_else_is(client: tuple[httpx.AsyncClient, Path], path: str) -> None:
    http, _ = client
    answer = await http.get(f"/static/{path}")
    assert answer.status_code in (400, 403, 404)
    assert "import" not in answer.text
