"""What a member reads while their server starts, for tests that wait for it."""

from __future__ import annotations

import json
import threading
from contextlib import suppress

import httpx

from tests.hub.conftest import until
from tests.hub.running import RunningHub


class Progress(threading.Thread):
    """Reads what a member reads while their server starts."""

    def __init__(self, hub: RunningHub, user: str) -> None:
        super().__init__(daemon=True)
        self.said: list[str] = []
        self._url = f"{hub.api_url}/users/{user}/server/progress"
        self._headers = {"Authorization": f"token {hub.token}"}
        self.start()

    def run(self) -> None:
        with (
            suppress(httpx.TransportError),  # the hub ended with its test
            httpx.stream(
                "GET", self._url, headers=self._headers, timeout=120, verify=False
            ) as stream,
        ):
            for line in stream.iter_lines():
                if line.startswith("data: "):
                    self.said.append(json.loads(line.removeprefix("data: "))["message"])

    def wait_for(self, words: str, times: int = 1) -> None:
        until(lambda: sum(words in message for message in self.said) >= times, timeout_s=40)
