"""An audit service for tests of those who tell it events: takes them over HTTP, or is away."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jupyterhub_collab.models.audit import SentBatch

Event = dict[str, Any]


class RecordingService:
    """Runs in a thread. Keeps each event once, as the real one does.

    Attributes
    ----------
    is_away
        It answers 503.
    token
        Of the only emitter it knows.
    """

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self.token_file = folder / "audit-token"
        self.token_file.write_text(self.token)
        self.spool = folder / "audit-spool"
        self.is_away = False
        self.events: list[Event] = []
        self._lock = threading.Lock()
        self._last: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def settings(self) -> str:
        """Lines of a hub's configuration."""
        return f"""
c.AuditSettings.url = {self.url!r}
c.AuditSettings.token_file = {str(self.token_file)!r}
c.AuditSettings.spool = {str(self.spool)!r}
"""

    def take(self, body: bytes) -> dict[str, Any]:
        batch = SentBatch.model_validate_json(body)
        with self._lock:
            return self._take(batch)

    def _take(self, batch: SentBatch) -> dict[str, Any]:
        last = self._last.get(batch.incarnation, 0)
        first = len(self.events) + 1
        for sent in batch.events:
            if sent.sequence > last:
                assert sent.sequence == last + 1, "a gap"
                last = sent.sequence
                told = json.loads(sent.event.model_dump_json(exclude_none=True))
                self.events.append({**told, **sent.event.people()})
        self._last[batch.incarnation] = last
        is_news = len(self.events) >= first
        return {"acknowledged": last, "stored": [first, len(self.events)] if is_news else None}

    def find(self, verb: str, **wanted: Any) -> list[Event]:
        """Events of this verb of which all of these hold; names of people by part."""
        return [e for e in list(self.events) if e["verb"] == verb and _holds(e, wanted)]

    def one(self, verb: str, *, timeout_s: float = 20, **wanted: Any) -> Event:
        """The only one of them; it is waited for."""
        found = self.some(verb, timeout_s=timeout_s, **wanted)
        assert len(found) == 1, found
        return found[0]

    def some(self, verb: str, *, timeout_s: float = 20, **wanted: Any) -> list[Event]:
        self._until(lambda: self.find(verb, **wanted), f"{verb} {wanted}", timeout_s)
        return self.find(verb, **wanted)

    def _until(self, is_so: Callable[[], Any], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_so():
            told = "\n".join(map(str, self.events[-40:]))
            assert time.monotonic() < deadline, f"nobody told of {what}:\n{told}"
            time.sleep(0.02)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _holds(event: Event, wanted: dict[str, Any]) -> bool:
    for key, value in wanted.items():
        found = event.get(key)
        if key in ("subject", "actor", "recipient"):
            found = (found or {}).get("name")
        elif key not in event and key in event.get("details", {}):
            found = event["details"][key]
        if found != value:
            return False
    return True


def _handler(service: RecordingService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # hubs are killed
                super().handle()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/api/events"
            assert self.headers["Authorization"] == f"Bearer {service.token}"
            if service.is_away:
                self._answer(503, {"message": "away"})
            else:
                self._answer(200, service.take(body))

        def _answer(self, status: int, value: Any) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
