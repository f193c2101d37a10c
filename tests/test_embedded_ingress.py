"""The embedded stand-in for an ingress controller: what it answers, what the proxy is told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from jupyterhub_collab.embedded.folder import Paths
from jupyterhub_collab.embedded.ingress import (
    CLASS,
    REDIRECT,
    IngressController,
    NamesSettings,
    read_names,
    write_names,
)

PAGE = "http://hub.localhost:8000/hub/team/ocean"


def ingress(host: str, *, kind: str = CLASS, page: str | None = PAGE) -> dict[str, Any]:
    annotations = {} if page is None else {REDIRECT: page}
    spec = {"ingressClassName": kind, "rules": [{"host": host}]}
    return {"metadata": {"name": "team-name", "annotations": annotations}, "spec": spec}


class Objects:
    """A store of Ingresses."""

    def __init__(self, *found: dict[str, Any]) -> None:
        self.found = list(found)

    def select(self, _kind: object, _namespace: object) -> list[dict[str, Any]]:
        return self.found


class Proxy:
    """The proxy's API, as far as it is asked; it wants its token."""

    def __init__(self) -> None:
        self.routes: dict[str, Any] = {"/": {"target": "http://hub", "jupyterhub": True}}
        self.changed = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "token secret"
        host = request.path.removeprefix("/api/routes").strip("/")
        if request.method == "GET":
            return web.json_response(self.routes)
        if request.method == "POST":
            self.routes[f"/{host}"] = await request.json()
        else:
            del self.routes[f"/{host}"]
        self.changed.set()
        return web.Response(status=201 if request.method == "POST" else 204)


async def serve(handler: Any) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


def test_names_lead_where_their_ingress_says() -> None:
    objects = Objects(
        ingress("ocean.x.localhost"),
        ingress("other.x.localhost", kind="nginx"),
        ingress("bare.x.localhost", page=None),
    )

    async def run() -> None:
        controller = IngressController(objects, NamesSettings(0, ""))  # type: ignore[arg-type]
        server = await serve(controller.handle)
        async with aiohttp.ClientSession() as session:
            for host, status in (
                ("ocean.x.localhost:8000", 302),
                ("ocean.x.localhost", 302),
                ("other.x.localhost", 404),
                ("bare.x.localhost", 404),
                ("ocean.x.localhost.evil", 404),
                ("<b>.localhost", 404),
            ):
                url, headers = server.make_url("/lab"), {"Host": host}
                async with session.get(url, headers=headers, allow_redirects=False) as answer:
                    assert answer.status == status, host
                    assert answer.headers.get("Location") == (PAGE if status == 302 else None)
                    assert answer.content_type == "text/plain" or status == 302
        await server.close()

    asyncio.run(run())


def test_the_proxy_knows_the_hosts_there_are_and_no_others(monkeypatch: Any) -> None:
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
    objects = Objects(ingress("ocean.x.localhost"))

    async def run() -> None:
        proxy = Proxy()
        server = await serve(proxy.handle)
        settings = NamesSettings(4321, str(server.make_url("")).rstrip("/"))
        following = asyncio.create_task(
            IngressController(objects, settings).follow()  # type: ignore[arg-type]
        )
        await asyncio.wait_for(proxy.changed.wait(), 10)
        assert proxy.routes["/ocean.x.localhost"]["target"] == "http://127.0.0.1:4321"
        assert "jupyterhub" not in proxy.routes["/ocean.x.localhost"], "the hub would delete it"
        objects.found = []
        proxy.changed.clear()
        await asyncio.wait_for(proxy.changed.wait(), 10)
        assert list(proxy.routes) == ["/"], "what is not ours stays"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.close()

    asyncio.run(run())


def test_settings_lie_in_the_cluster_s_folder(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    assert read_names(paths) is None
    settings = NamesSettings(4321, "http://127.0.0.1:8001")
    write_names(paths, settings)
    assert read_names(paths) == settings
