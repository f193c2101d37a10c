"""A person without a browser: signs in to the demo hub, starts a server, asks if it answers."""

from __future__ import annotations

import html
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx

PROBE_EVERY_S = 0.2


class _ThisMachine(httpx.HTTPTransport):
    """Takes ``*.localhost`` for this machine, as browsers do."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return super().handle_request(
            httpx.Request(
                request.method,
                request.url.copy_with(host="127.0.0.1"),
                headers=request.headers,
                stream=request.stream,
                extensions=request.extensions,
            )
        )


class Visitor:
    """One signed-in person. All requests go through the proxy, by the names a browser would use."""

    def __init__(
        self, name: str, *, url: str, accounts: Path | None = None, password: str = ""
    ) -> None:
        self.name = name
        self._url = url
        self._client = httpx.Client(transport=_ThisMachine(), timeout=120, follow_redirects=True)
        self._password: str = json.loads(accounts.read_text())[name] if accounts else password

    @property
    def _xsrf(self) -> str:
        """The hub's token of forms, under the narrowest path; servers have others."""
        found = [
            cookie
            for cookie in self._client.cookies.jar
            if cookie.name == "_xsrf" and not cookie.path.startswith("/user/")
        ]
        return str(max(found, key=lambda cookie: len(cookie.path)).value)

    def sign_in(self) -> None:
        self._client.get(f"{self._url}/hub/login")
        form = {"username": self.name, "password": self._password, "_xsrf": self._xsrf}
        answer = self._client.post(f"{self._url}/hub/login", data=form)
        assert answer.status_code == 200, answer.text
        # There is a new token after signing in.
        home = self._client.get(f"{self._url}/hub/home")
        assert home.url.path == "/hub/home", home.url

    def close(self) -> None:
        self._client.close()

    def api(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask the hub, as the hub's own pages do."""
        headers = {"X-XSRFToken": self._xsrf, "Referer": f"{self._url}/hub/home"}
        return self._client.request(method, f"{self._url}/hub/api/{path}", headers=headers, **more)

    def server(self) -> dict[str, Any]:
        """What the hub says of this person's server; empty when there is none."""
        answer = self.api("GET", f"users/{self.name}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json()["servers"].get("") or {})

    def ask_for_server(self, team: str, **options: str) -> httpx.Response:
        """Ask the hub to start this person's server."""
        body = {"user_options": {"team": team, **options}}
        return self.api("POST", f"users/{self.name}/server", json=body)

    def open(self, url: str) -> httpx.Response:
        """Any page, where it leads in the end."""
        return self._client.get(url)

    def read_page(self, path: str) -> str:
        """A page of the hub, as text."""
        answer = self._client.get(f"{self._url}/hub/{path}")
        assert answer.status_code == 200, answer.text
        return answer.text

    def follow_start(self, timeout_s: float = 120.0) -> list[str]:
        """What the spawn page says while the server starts, until it runs or cannot."""
        url = f"{self._url}/hub/api/users/{self.name}/server/progress"
        headers = {"Referer": f"{self._url}/hub/home"}
        deadline, said = time.monotonic() + timeout_s, []
        with self._client.stream("GET", url, headers=headers, timeout=timeout_s) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line.removeprefix("data:"))
                    said.append(html.unescape(str(message["message"])))
                    if message.get("ready") or message.get("failed"):
                        break
                assert time.monotonic() < deadline, said
        return said

    def start(self, team: str, *, timeout_s: float = 120.0, **options: str) -> None:
        """Start it and wait until it is ready."""
        answer = self.ask_for_server(team, **options)
        assert answer.status_code in (201, 202), answer.text
        deadline = time.monotonic() + timeout_s
        while not (found := self.server()).get("ready"):
            assert found.get("pending"), self.follow_start()
            assert time.monotonic() < deadline, found
            time.sleep(0.2)

    def stop(self, timeout_s: float = 60.0) -> None:
        answer = self.api("DELETE", f"users/{self.name}/server")
        assert answer.status_code in (202, 204), answer.text
        deadline = time.monotonic() + timeout_s
        while self.server():
            assert time.monotonic() < deadline, self.server()
            time.sleep(0.2)

    def write_file(self, path: str, text: str) -> None:
        """Through this person's server, as JupyterLab saves a file."""
        scheme, _, host = self._url.partition("://")
        base = f"{scheme}://{self.name}.{host}/user/{self.name}"
        self._client.get(f"{base}/lab")  # logs in there, and gets the server's own token of forms
        body = {"type": "file", "format": "text", "content": text}
        found = [c for c in self._client.cookies.jar if c.name == "_xsrf" and self.name in c.path]
        headers = {"X-XSRFToken": str(found[-1].value), "Referer": f"{base}/lab"}
        answer = self._client.put(f"{base}/api/contents/{path}", json=body, headers=headers)
        assert answer.status_code in (200, 201), answer.text

    def is_reachable(self, timeout_s: float = 5.0) -> bool:
        """Whether this person's server itself answers, through the proxy."""
        try:
            scheme, _, host = self._url.partition("://")
            url = f"{scheme}://{self.name}.{host}/user/{self.name}/api"
            answer = self._client.get(url, timeout=timeout_s)
        except httpx.HTTPError:
            return False
        return answer.status_code == 200 and "version" in answer.json()


class Probe(threading.Thread):
    """Asks for a server all the time; remembers how often it did not answer."""

    def __init__(
        self, visitor: Visitor, *, every_s: float = PROBE_EVERY_S, timeout_s: float = 5.0
    ) -> None:
        super().__init__(daemon=True)
        self._visitor, self._every_s, self._timeout_s = visitor, every_s, timeout_s
        self._end = threading.Event()
        self.asked = self.failed = 0

    def run(self) -> None:
        while not self._end.wait(self._every_s):
            self.asked += 1
            self.failed += not self._visitor.is_reachable(self._timeout_s)

    def __enter__(self) -> Probe:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()
