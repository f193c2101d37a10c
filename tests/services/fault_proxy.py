"""An HTTP proxy before a real API server that does it harm, to order.

It speaks plain HTTP to the client and TLS to the server. What it does to one request is decided by
a function; watches can be ended with 410 or fall silent while the connection stays open.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration


class Harm(Enum):
    """What happens to one request."""

    CONFLICT = "409, not carried out"
    BUSY = "429 with Retry-After, not carried out"
    BROKEN = "500, not carried out"
    AWAY = "503, not carried out"
    LOST = "carried out, the answer lost"
    CUT = "never arrives, the connection is cut"


_CODES = {Harm.CONFLICT: 409, Harm.BUSY: 429, Harm.BROKEN: 500, Harm.AWAY: 503}


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    at: float
    harm: Harm | None

    @property
    def namespace(self) -> str:
        """The namespace it is about, its own name for a namespace."""
        parts = self.path.split("/")
        return parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""


@dataclass
class FaultProxy:
    """The proxy. Use it as an async context manager."""

    kubeconfig: Path
    decide: Callable[[Seen], Harm | None] = lambda _seen: None
    seen: list[Seen] = field(default_factory=list)
    retry_after_s: int = 1
    watches: set[web.StreamResponse] = field(default_factory=set)
    _silenced: set[web.StreamResponse] = field(default_factory=set)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> FaultProxy:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self._token = user["token"]
        context = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"),
            cadata=_decode(cluster.get("certificate-authority-data")),
        )
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0))
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._runner.cleanup()

    def configuration(self) -> Configuration:
        """For a client that goes through here, as the kubeconfig's user."""
        configuration = Configuration(host=self.url)
        configuration.api_key["BearerToken"] = f"Bearer {self._token}"
        return configuration

    def writes(self, namespace: str) -> list[Seen]:
        """Changes that were asked for in a namespace."""
        return [s for s in self.seen if s.namespace == namespace and s.method != "GET"]

    def silence_watches(self) -> None:
        """Pass nothing on any more through the watches that are open; new ones are well."""
        self._silenced |= self.watches

    async def end_watches_with_410(self) -> None:
        """Tell every watch that it fell behind."""
        status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
        line = json.dumps({"type": "ERROR", "object": status}).encode() + b"\n"
        for response in list(self.watches):
            await response.write(line)
        await self.cut_watches()

    async def cut_watches(self) -> None:
        """End every watch."""
        self._ended.set()
        self._ended = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(request.method, request.path, asyncio.get_running_loop().time(), None)
        is_watch = request.query.get("watch") == "true"
        seen.harm = None if is_watch else self.decide(seen)
        self.seen.append(seen)
        if seen.harm in _CODES:
            code = _CODES[seen.harm]
            headers = {"Retry-After": str(self.retry_after_s)} if code == 429 else {}
            body = {"kind": "Status", "code": code, "reason": "ToOrder", "message": "to order"}
            return web.json_response(body, status=code, headers=headers)
        assert request.transport is not None
        if seen.harm is Harm.CUT:
            request.transport.abort()
            return web.Response()
        headers = {
            k: v
            for k, v in request.headers.items()
            if k in ("Authorization", "Content-Type", "Accept", "User-Agent")
        }
        headers["Accept-Encoding"] = "identity"
        async with self._session.request(
            request.method,
            f"{self._server}{request.raw_path}",
            headers=headers,
            data=await request.read(),
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            if is_watch and answer.status == 200:
                return await self._pass_on(request, answer)
            body_ = await answer.read()
            if seen.harm is Harm.LOST:
                request.transport.abort()
            kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Retry-After")}
            return web.Response(status=answer.status, body=body_, headers=kept)

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches.add(response)
        ended = asyncio.create_task(self._ended.wait())
        chunk: asyncio.Future[Any] | None = None
        try:
            while True:
                chunk = asyncio.ensure_future(answer.content.readany())
                await asyncio.wait({chunk, ended}, return_when=asyncio.FIRST_COMPLETED)
                if ended.done() or not chunk.result():
                    return response
                if response not in self._silenced:
                    await response.write(chunk.result())
        except (ConnectionError, aiohttp.ClientError):
            return response
        finally:
            self.watches.discard(response)
            for task in (ended, chunk):
                if task is not None:
                    task.cancel()


def _decode(text: str | None) -> str | None:
    return base64.b64decode(text).decode() if text else None
