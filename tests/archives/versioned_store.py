"""An object store that keeps versions, as much of it as copies of volumes need."""

from __future__ import annotations

import hashlib
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


class _Objects:
    """Versions by path, in order."""

    def __init__(self) -> None:
        self.versions: dict[str, dict[str, bytes]] = defaultdict(dict)
        self.count = 0

    def put(self, path: str, data: bytes) -> str:
        self.count += 1
        self.versions[path][f"v{self.count}"] = data
        return f"v{self.count}"

    def find(self, path: str, version: str) -> tuple[str, bytes] | None:
        there = self.versions[path]
        named = version or next(reversed(there), "")
        return (named, there[named]) if named in there else None


def _make_handler(objects: _Objects) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(200, b"", objects.put(self._wanted()[0], data))

        def do_GET(self) -> None:
            found = objects.find(*self._wanted())
            if found is None:
                self._answer(404, b"", "")
            else:
                self._answer(200, found[1], found[0])

        do_HEAD = do_GET

        def do_DELETE(self) -> None:
            path, version = self._wanted()
            objects.versions[path].pop(version, None)
            self._answer(204, b"", version)

        def _wanted(self) -> tuple[str, str]:
            url = urlsplit(self.path)
            return url.path, parse_qs(url.query).get("versionId", [""])[0]

        def _answer(self, status: int, data: bytes, version: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()[:32]}"')
            self.send_header("Last-Modified", "Sat, 02 Jan 2027 03:04:05 GMT")
            if version:
                self.send_header("x-amz-version-id", version)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    return Handler


@contextmanager
def versioned_store() -> Iterator[str]:
    """Its endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(_Objects()))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
