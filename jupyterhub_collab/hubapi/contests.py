"""Client of the contests service, for the command line.

As the hub's client: what is asked for with a key may be asked for again; redirects, which would
carry the token to a login page, are not followed. What the service says to the person goes to the
person as it is.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final

import aiohttp
from yarl import URL

from ..errors import Problem, RetryableError, SpecError, UserError

TIMEOUT_S: Final = 60.0
TRIES: Final = 5
FIRST_WAIT_S: Final = 0.5  # doubles
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
Json = dict[str, Any]


class ContestsRefusedError(UserError):
    """The service said no; the text is its own. `status` is the HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ContestsUnavailableError(RetryableError):
    """It did not answer, or cannot just now."""


class ContestsClient:
    """Talks to one contests service with one token of its hub. An async context manager.

    Parameters
    ----------
    url
        Such as ``https://hub.example.org/services/contests``.
    """

    def __init__(self, url: str, token: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._token, self._timeout_s = token, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> ContestsClient:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"token {self._token}"},
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str) -> Json:
        """What there is. Raises ContestsRefusedError, ContestsUnavailableError."""
        found: Json = json.loads(await self._persist("GET", path))
        return found

    async def get_text(self, path: str) -> str:
        """The same, of what is no JSON."""
        return await self._persist("GET", path)

    async def put(self, path: str, body: object) -> Json:
        """Have something be so. Raises likewise, SpecError for fields that are not right."""
        found: Json = json.loads(await self._persist("PUT", path, body))
        return found

    async def post(self, path: str, body: object, *, key: str | None = None) -> Json:
        """Have something done, once.

        Parameters
        ----------
        key
            The same for the same wish; None: one of its own.
        """
        headers = {"Idempotency-Key": key or secrets.token_hex(16)}
        found: Json = json.loads(await self._persist("POST", path, body, headers))
        return found

    async def _persist(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> str:
        wait_s = FIRST_WAIT_S
        for _ in range(TRIES - 1):
            try:
                return await self._call(method, path, body, headers or {})
            except ContestsUnavailableError as e:
                await asyncio.sleep(max(wait_s, min(e.retry_after_s or 0.0, 10.0)))
                wait_s *= 2
        return await self._call(method, path, body, headers or {})

    async def _call(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> str:
        if self._session is None:
            raise RuntimeError("use ContestsClient as a context manager")
        url = URL(f"{self.url}/api/{path}", encoded=True)
        data = None if body is None else json.dumps(body)
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                headers={"Content-Type": "application/json", **headers},
                allow_redirects=False,
            ) as response:
                status, text = response.status, await response.text(errors="replace")
                retry_after = response.headers.get("Retry-After", "")
        except _NO_ANSWER as e:
            what = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
            raise ContestsUnavailableError(
                f"no answer from the contests service at {self.url} ({what})"
            ) from e
        if status < 300:
            return text
        said = _to_json(text)
        message = str(said.get("message") or "")
        if status in (408, 429) or status >= 500:
            raise ContestsUnavailableError(
                f"the contests service could not do this just now ({status}):"
                f" {message or 'no reason given'}",
                retry_after_s=float(retry_after) if retry_after.isdigit() else None,
            )
        if status == 422 and said.get("problems"):
            raise SpecError([_to_problem(problem) for problem in said["problems"]])
        if not message or status < 400:
            raise ContestsRefusedError(
                f"{self.url} answered {status} and is no contests service. Give its address with"
                " --contests-url, as the hub's admin says it.",
                status,
            )
        if status in (401, 403):
            message = (
                f"the contests service refused ({status}): {message} Check the token; a program's"
                " needs the scopes access:services!service=contests and"
                " custom:collab:contests:manage"
            )
        raise ContestsRefusedError(message, status)


def _to_json(text: str) -> Json:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _to_problem(said: Any) -> Problem:
    if not isinstance(said, dict):
        return Problem("(request)", str(said), "something else")
    field, found, expected = (str(said.get(key, "")) for key in ("field", "found", "expected"))
    return Problem(field, found, expected)
