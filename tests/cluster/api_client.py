"""A few synchronous JSON calls to the API server, with the standard library alone.

For starting the cluster and for its fixtures. It must not grow into a client: tests use the
real ones.
"""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.cluster.certificates import KeyPair
from tests.cluster.errors import ClusterError


class ApiClient:
    """Calls one API server with a client certificate; a new connection for each call."""

    def __init__(self, server: str, ca: Path, pair: KeyPair, *, timeout_s: float = 5.0) -> None:
        parts = urlsplit(server)
        if parts.hostname is None:
            raise ClusterError(f"{server!r} is no address of an API server")
        self._host, self._port = parts.hostname, parts.port or 443
        self._timeout_s = timeout_s
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(pair.certificate, pair.key)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Return status and body of one call.

        Raises
        ------
        OSError
            If the server cannot be reached.
        """
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout_s, context=self._context
        )
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def is_found(self, path: str) -> bool:
        """Say whether a GET of `path` answers 200; False also while nothing answers."""
        try:
            return self.call("GET", path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, path: str) -> Any:
        """Return the object at `path`."""
        return self._expect("GET", path, None, {200})

    def create(self, path: str, body: object) -> Any:
        """Create an object below the collection `path`; one that is there already is fine."""
        return self._expect("POST", path, body, {200, 201, 409})

    def _expect(self, method: str, path: str, body: object, statuses: set[int]) -> Any:
        status, data = self.call(method, path, body)
        if status not in statuses:
            raise ClusterError(f"{method} {path} answered {status}: {data[:400].decode()}")
        return json.loads(data)
