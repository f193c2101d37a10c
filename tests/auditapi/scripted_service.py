"""An audit service that answers to order, and keeps what it takes as the real one does."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from jupyterhub_collab.models.audit import SentBatch
from jupyterhub_collab.timeouts import timeout

TOKEN: Final = "audit-token-of-the-test"


@dataclass(frozen=True)
class Status:
    """Refuse with this status."""

    code: int
    retry_after: str | None = None


LOST: Final = "store, then cut the connection"
CUT: Final = "cut the connection"
SILENCE: Final = "say nothing"
NONSENSE: Final = "say what no audit service says"
REJECT: Final = "store that there was no event"


@dataclass
class Service:
    """What it does and has.

    Attributes
    ----------
    script
        What to do with the next requests: a `Status` or one of the words above. Then it behaves.
    always
        What to do with all that come, if anything.
    indigestible
        Things of events because of which a batch is answered 422.
    bytes_max
        Larger batches are answered 413.
    stored
        Emitter's sequence and event, by incarnation.
    """

    url: str = ""
    script: deque[Any] = field(default_factory=deque)
    always: Any = None
    indigestible: set[str] = field(default_factory=set)
    bytes_max: int = 1024 * 1024
    stored: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    late: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    requests: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    token: str = TOKEN
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def things(self) -> list[str]:
        """Of all events, in order."""
        return [event["thing"] for log in self.stored.values() for _, event in log]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for log in self.stored.values() for _, event in log]

    @property
    def sequences(self) -> list[int]:
        return [sequence for log in self.stored.values() for sequence, _ in log]

    async def until(self, count: int) -> None:
        """Wait until it has so many events."""
        async with self.changed, timeout(30):
            await self.changed.wait_for(lambda: len(self.events) >= count)

    async def until_asked(self, times: int) -> None:
        async with self.changed, timeout(30):
            await self.changed.wait_for(lambda: self.requests >= times)

    def take(self, batch: SentBatch, *, rejects: bool = False) -> dict[str, Any]:
        log = self.stored.setdefault(batch.incarnation, [])
        last = log[-1][0] if log else 0
        new = [sent for sent in batch.events if sent.sequence > last]
        first = len(self.events) + 1
        for sent in new:
            log.append((sent.sequence, sent.event.to_wire()))
            if sent.late:
                self.late.add(sent.sequence)
        if rejects:
            self.rejected |= {sent.sequence for sent in new}
        return {
            "acknowledged": log[-1][0],
            "stored": [first, first + len(new) - 1] if new else None,
            "rejected": sorted(self.rejected & {sent.sequence for sent in batch.events}),
        }


class _Events(RequestHandler):
    def initialize(self, service: Service) -> None:
        self.service = service

    async def post(self) -> None:
        service = self.service
        service.requests += 1
        try:
            await self._answer(service.script.popleft() if service.script else service.always)
        finally:
            async with service.changed:
                service.changed.notify_all()

    async def _answer(self, order: Any) -> None:
        service = self.service
        if isinstance(order, Status):
            self.set_status(order.code)
            if order.retry_after is not None:
                self.set_header("Retry-After", order.retry_after)
            self.finish({"message": "as ordered"})
            return
        if order == SILENCE:
            async with service.changed:
                service.changed.notify_all()
            await service.ended.wait()
            return
        if order == NONSENSE:
            self.finish("<html>Welcome</html>")
            return
        if order != CUT:
            if self.request.headers.get("Authorization") != f"Bearer {service.token}":
                self.set_status(401)
                return
            if len(self.request.body) > service.bytes_max:
                self.set_status(413)
                return
            batch = SentBatch.model_validate_json(self.request.body)
            if any(sent.event.thing in service.indigestible for sent in batch.events):
                self.set_status(422)
                return
            answer = service.take(batch, rejects=order == REJECT)
            if order != LOST:
                self.finish(json.dumps(answer))
                return
        self.request.connection.stream.close()

    def on_connection_close(self) -> None:
        pass


@asynccontextmanager
async def serving(
    service: Service, *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Service]:
    """The service on this machine, until the block ends."""
    (socket,) = bind_sockets(port, "127.0.0.1")
    routes = [(r"/api/events", _Events, {"service": service})]
    server = HTTPServer(Application(routes), ssl_options=tls)
    server.add_sockets([socket])
    service.url = f"http{'s' if tls else ''}://127.0.0.1:{socket.getsockname()[1]}"
    try:
        yield service
    finally:
        service.ended.set()
        server.stop()
        await server.close_all_connections()
