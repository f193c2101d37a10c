"""An HTTP proxy before a real API server that does it harm, to order.

It speaks plain HTTP to the client, or TLS with a certificate that can be rotated, and TLS to the
server. What it does to one request is decided by a function; watches can be ended, told that they
fell behind, or fall silent while the connection stays open. `kubeconfig_for` has a hub, a
provisioner or kubectl go through it; `proxy_in_thread` serves tests that are not coroutines.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from enum import Enum
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from tests.cluster.certificates import KeyPair


class Harm(Enum):
    """What happens to one request."""

    CONFLICT = "409, not carried out"
    GONE = "410, not carried out"
    BUSY = "429 with Retry-After, not carried out"
    BUSY_UNTIL = "429 with Retry-After as a date, not carried out"
    QUOTA = "403 of the quota, not carried out"
    BROKEN = "500, not carried out"
    AWAY = "503, not carried out"
    LOST = "carried out, the answer lost"
    PARTIAL = "carried out, the answer breaks off in the middle"
    SLOW = "carried out after a delay"
    CUT = "never arrives, the connection is cut"
    DROPPED = "never arrives, and nobody says so"


_CODES = {
    Harm.CONFLICT: 409,
    Harm.GONE: 410,
    Harm.BUSY: 429,
    Harm.BUSY_UNTIL: 429,
    Harm.QUOTA: 403,
    Harm.BROKEN: 500,
    Harm.AWAY: 503,
}


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    at: float
    harm: Harm | None
    is_watch: bool = False

    @property
    def namespace(self) -> str:
        """The namespace it is about, its own name for a namespace."""
        parts = self.path.split("/")
        return parts[parts.index("namespaces") + 1] if "namespaces" in parts[:-1] else ""


Decide = Callable[[Seen], "Harm | None"]


def no_harm(_seen: Seen) -> Harm | None:
    """All is well."""
    return None


def all_down(_seen: Seen) -> Harm | None:
    """Nobody is there."""
    return Harm.CUT


@dataclass
class FaultProxy:
    """The proxy. Use it as an async context manager.

    Attributes
    ----------
    decide
        Asked at each request but watches, which count only for `harms_watches`.
    certificate
        Serve TLS with this; None: plain HTTP.
    """

    kubeconfig: Path
    decide: Decide = no_harm
    seen: list[Seen] = field(default_factory=list)
    retry_after_s: int = 1
    delay_s: float = 0.5
    harms_watches: bool = False
    certificate: KeyPair | None = None
    watches: set[web.StreamResponse] = field(default_factory=set)
    _silenced: set[web.StreamResponse] = field(default_factory=set)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> FaultProxy:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self.token: str = user["token"]
        context = ssl.create_default_context(
            cafile=cluster.get("certificate-authority"),
            cadata=_decode(cluster.get("certificate-authority-data")),
        )
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0))
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{tail:.*}", self._handle)
        if self.certificate is not None:
            app.on_response_prepare.append(_once)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        self._tls: ssl.SSLContext | None = None
        if self.certificate is not None:
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.rotate(self.certificate)
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"{'http' if self._tls is None else 'https'}://{host}:{port}"
        self._closed = False
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await self.cut_watches()
        await self._session.close()
        await self._runner.cleanup()

    def rotate(self, certificate: KeyPair) -> None:
        """Show this certificate at every new connection; those that are open stay."""
        assert self._tls is not None
        self._tls.load_cert_chain(certificate.certificate, certificate.key)

    def configuration(self) -> Configuration:
        """For a client that goes through here, as the kubeconfig's user."""
        configuration = Configuration(host=self.url)
        configuration.api_key["BearerToken"] = f"Bearer {self.token}"
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
        is_watch = request.query.get("watch") == "true"
        at = asyncio.get_running_loop().time()
        seen = Seen(request.method, request.path, at, None, is_watch)
        seen.harm = None if is_watch and not self.harms_watches else self.decide(seen)
        self.seen.append(seen)
        if seen.harm in _CODES:
            return self._refuse(seen.harm)
        if seen.harm is Harm.SLOW:
            await asyncio.sleep(self.delay_s)
        if seen.harm is Harm.DROPPED:
            while not self._closed and not _is_lost(request):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.02)
        if seen.harm in (Harm.CUT, Harm.DROPPED):
            return _cut(request)
        headers = {
            k: v
            for k, v in request.headers.items()
            if k in ("Authorization", "Content-Type", "Accept", "User-Agent")
        }
        headers["Accept-Encoding"] = "identity"
        try:
            answer = await self._session.request(
                request.method,
                f"{self._server}{request.raw_path}",
                headers=headers,
                data=await request.read(),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        except aiohttp.ClientError:  # the server itself is away
            return _cut(request)
        async with answer:
            if is_watch and answer.status == 200:
                return await self._pass_on(request, answer)
            try:
                body = await answer.read()
            except aiohttp.ClientError:
                return _cut(request)
            if seen.harm is Harm.LOST:
                return _cut(request)
            kept = {k: v for k, v in answer.headers.items() if k in ("Content-Type", "Retry-After")}
            if seen.harm is Harm.PARTIAL:
                return await _break_off(request, answer.status, body, kept)
            return web.Response(status=answer.status, body=body, headers=kept)

    def _refuse(self, harm: Harm) -> web.Response:
        code, headers = _CODES[harm], {}
        if harm is Harm.BUSY:
            headers["Retry-After"] = str(self.retry_after_s)
        elif harm is Harm.BUSY_UNTIL:  # a date has whole seconds: one more, or it might be less
            until = datetime.now(timezone.utc) + timedelta(seconds=self.retry_after_s + 1)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        said = "to order"
        if harm is Harm.QUOTA:
            said = (
                "forbidden: exceeded quota: team, requested: pods=1, used: pods=9, limited: pods=9"
            )
        body = {"kind": "Status", "code": code, "reason": "ToOrder", "message": said}
        return web.json_response(body, status=code, headers=headers)

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        ended = asyncio.create_task(self._ended.wait())
        chunk: asyncio.Future[Any] | None = None
        try:
            await response.prepare(request)
            self.watches.add(response)
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
            # A TLS connection would say goodbye and wait for the answer, after us and the loop.
            if answer.connection is not None and answer.connection.transport is not None:
                answer.connection.transport.abort()


async def _once(_request: web.Request, response: web.StreamResponse) -> None:
    """One request a connection, so that every one sees the certificate of the moment."""
    response.force_close()


def _is_lost(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _break_off(
    request: web.Request, status: int, body: bytes, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    _cut(request)
    return response


def _decode(text: str | None) -> str | None:
    return base64.b64decode(text).decode() if text else None


def kubeconfig_for(proxy: FaultProxy, path: Path, *, ca: Path | None = None) -> Path:
    """Kubeconfig of the same user through the proxy: token and authority in files beside it.

    Parameters
    ----------
    ca
        The bundle to trust; for a proxy that serves TLS.
    """
    token_file = path.with_suffix(".token")
    token_file.write_text(proxy.token)
    cluster = {"server": proxy.url, **({"certificate-authority": str(ca)} if ca else {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "faults", "cluster": cluster}],
        "users": [{"name": "faults", "user": {"tokenFile": str(token_file)}}],
        "contexts": [{"name": "faults", "context": {"cluster": "faults", "user": "faults"}}],
        "current-context": "faults",
    }
    path.write_text(json.dumps(document))
    return path


@dataclass(frozen=True)
class ProxyThread:
    """A proxy whose loop runs in a thread. Its attributes may be set from anywhere."""

    proxy: FaultProxy
    _loop: asyncio.AbstractEventLoop

    def run(self, work: Awaitable[Any]) -> Any:
        """Run one of the proxy's coroutines and wait for it."""

        async def go() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(go(), self._loop).result(30)

    def silence_watches(self) -> None:
        """As the proxy's own."""

        async def go() -> None:
            self.proxy.silence_watches()

        self.run(go())


@contextmanager
def proxy_in_thread(kubeconfig: Path, **settings: Any) -> Iterator[ProxyThread]:
    """A proxy for tests that are not coroutines; settings as `FaultProxy` has them."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    found = ProxyThread(FaultProxy(kubeconfig, **settings), loop)
    found.run(found.proxy.__aenter__())
    try:
        yield found
    finally:
        found.run(found.proxy.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
