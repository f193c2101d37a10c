"""An audit service for tests of those who tell it events: takes them over HTTP, or is away."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from jupyterhub_collab.models.audit import SentBatch
from jupyterhub_collab.policy.audit_emitters import (
    DEFAULT_VERBS,
    Emitter,
    Emitters,
    hash_token,
)
from tests.services.audit.running import AuditService

Event = dict[str, Any]


class Told:
    """Events that a service has."""

    events: list[Event]

    def find(self, verb: str, **wanted: Any) -> list[Event]:
        """Events of this verb of which all of these hold; names of people by part."""
        return [e for e in list(self.events) if e["verb"] == verb and _holds(e, wanted)]

    def one(self, verb: str, *, timeout_s: float = 20, **wanted: Any) -> Event:
        """The only one of them; it is waited for."""
        found = self.some(verb, timeout_s=timeout_s, **wanted)
        assert len(found) == 1, found
        return found[0]

    def some(self, verb: str, *, timeout_s: float = 20, **wanted: Any) -> list[Event]:
        self.until(lambda: self.find(verb, **wanted), f"{verb} {wanted}", timeout_s)
        return self.find(verb, **wanted)

    def until(self, is_so: Callable[[], Any], what: str, timeout_s: float = 20) -> None:
        """Wait for it."""
        deadline = time.monotonic() + timeout_s
        while not is_so():
            told = "\n".join(map(str, self.events[-40:]))
            assert time.monotonic() < deadline, f"nobody told of {what}:\n{told}"
            time.sleep(0.02)


def hub_settings(url: str, folder: Path, token: str) -> str:
    """Lines of a hub's configuration: tell this service."""
    token_file = folder / "audit-token"
    token_file.write_text(token)
    return f"""
c.AuditSettings.url = {url!r}
c.AuditSettings.token_file = {str(token_file)!r}
c.AuditSettings.spool = {str(folder / "audit-spool")!r}
"""


class LoggingService(Told):
    """The genuine audit service; what it has is read from its database."""

    def __init__(self, folder: Path) -> None:
        self.token = secrets.token_hex(16)
        self._folder = folder
        self.process = AuditService(folder / "service")
        self.process.prepare()
        verbs = DEFAULT_VERBS["hub"]
        hub = Emitter(name="hub", token_sha256=hash_token(self.token), verbs=verbs)
        (self.process.folder / "emitters.json").write_text(Emitters((hub,)).to_text())
        self.process.start_and_wait()

    def settings(self) -> str:
        """Lines of a hub's configuration."""
        return hub_settings(self.process.url, self._folder, self.token)

    @property
    def events(self) -> list[Event]:  # type: ignore[override]
        """All but the service's own."""
        with contextlib.closing(sqlite3.connect(self.process.sqlite)) as db:
            rows = db.execute("SELECT body, people FROM audit_events ORDER BY sequence").fetchall()
        found = [_to_event(json.loads(body), json.loads(people or "{}")) for body, people in rows]
        assert not [e for e in found if e["verb"] in ("audit.reject", "audit.gap")], found
        return [e for e in found if not e["verb"].startswith("audit.")]

    def close(self) -> None:
        assert self.process.end() == 0


def _to_event(body: Event, people: dict[str, Any]) -> Event:
    kept = ("time", "verb", "outcome", "reason", "contest", "team", "thing", "datasets", "details",
            "correlation")  # fmt: skip
    event = {key: body[key] for key in kept if key in body}
    return {"details": {}, **event, **{part: kept["value"] for part, kept in people.items()}}


class RecordingService(Told):
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
        self._folder = folder
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
        return hub_settings(self.url, self._folder, self.token)

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
