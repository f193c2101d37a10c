"""An audit service that stores nothing and acknowledges at once; prints its address."""

from __future__ import annotations

import asyncio
import json

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler


class Events(RequestHandler):
    stored = 0

    def post(self) -> None:
        events = json.loads(self.request.body)["events"]
        first, Events.stored = Events.stored + 1, Events.stored + len(events)
        answer = {"acknowledged": events[-1]["sequence"], "stored": [first, Events.stored]}
        self.finish(json.dumps(answer))


async def serve() -> None:
    (socket,) = bind_sockets(0, "127.0.0.1")
    server = HTTPServer(Application([("/api/events", Events)]))
    server.add_sockets([socket])
    print(f"http://127.0.0.1:{socket.getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
