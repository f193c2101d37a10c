"""Stands in for the contests service, or for the hub, where a test is about who asks them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class NoticeService:
    """What it answers, and what it was asked."""

    notices: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    answers_after_s: float = 0.0
    asked: list[tuple[str, dict[str, list[str]], str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def notice(text: str, **more: str) -> dict[str, str]:
    """A notice as the service tells it."""
    at = "2027-03-01T10:00:00+00:00"
    made = {"id": "1", "contest": "sea", "team": "", "text": text, "at": at, "until": ""}
    return {**made, **more}


@contextmanager
def serving() -> Iterator[NoticeService]:
    """The service on a port of its own, until the end of the block."""
    state = NoticeService()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            state.asked.append(
                (url.path, parse_qs(url.query), self.headers.get("Authorization", ""))
            )
            time.sleep(state.answers_after_s)
            if state.answers_after_s:
                return  # whoever asked has given up
            body = json.dumps({"notices": state.notices}).encode()
            self.send_response(state.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
