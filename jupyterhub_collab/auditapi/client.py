"""HTTP to the audit service: batches, and its newest signed head; errors tell what to do next.

The token goes into one header and nowhere else: not into an address, a log or an error. Redirects
are not followed, they would carry it elsewhere. Nothing is tried again here.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from ..errors import CollabError, PermanentError, RetryableError

POST_TIMEOUT_S: Final = 15.0
_ANSWER_BYTES_MAX: Final = 64 * 1024
_NO_ANSWER = (aiohttp.ClientError, asyncio.TimeoutError, OSError)


class NotTakenError(CollabError):
    """The service does not take this batch; it may take others, or parts of it (413, 422)."""


class DeniedError(PermanentError):
    """The service takes nothing from us until an admin changes something (401, 403, 404, ...)."""


class NoAnswerError(RetryableError):
    """The service did not answer, or not with what a service says (5xx, a lost connection)."""


@dataclass(frozen=True)
class Answer:
    """What the service has.

    Attributes
    ----------
    acknowledged
        The last of our sequence that is on its disk.
    is_new
        Whether it stored anything that it had not before.
    rejected
        Sequences in whose place it stored that it got no event.
    """

    acknowledged: int
    is_new: bool
    rejected: frozenset[int] = frozenset()


def to_events_url(url: str) -> str:
    """Where events go, from the service's address.

    Raises
    ------
    PermanentError
        It is no http(s) address, or holds a user name or password.
    """
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise PermanentError(
            "the audit service's address must not hold a user, password, query or fragment"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PermanentError(
            f"{url!r} is no address of an audit service; write https://audit.example.org"
        )
    return f"{url.rstrip('/')}/api/events"


def check_token(token: str) -> str:
    """The token, if it can be one. Raises PermanentError, which does not show it."""
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise PermanentError(
            "the audit emitter's token is empty or holds spaces or other signs that no token has;"
            " look at the file or variable it was read from"
        )
    return token


class AuditClient:
    """Posts to one service with one token. An async context manager.

    Parameters
    ----------
    ca_file
        Certificates that the service's is checked against, in place of the system's.
    now
        Clock for a Retry-After that is a date.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        now: Callable[[], datetime],
        ca_file: Path | None = None,
        timeout_s: float = POST_TIMEOUT_S,
    ) -> None:
        self.url = to_events_url(url)
        self._headers = {
            "Authorization": f"Bearer {check_token(token)}",
            "Content-Type": "application/json",
        }
        self._now, self._ca_file, self._timeout_s = now, ca_file, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AuditClient:
        connector = None
        if self.url.startswith("https:"):  # reads files: not on the loop
            connector = aiohttp.TCPConnector(ssl=await asyncio.to_thread(self._make_context))
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    def _make_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ssl.SSLError) as e:
            raise PermanentError(f"{self._ca_file} holds no certificates: {e}") from e

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, body: bytes) -> Answer:
        """Send a batch (its JSON).

        Raises
        ------
        NotTakenError, DeniedError, NoAnswerError
            As they say.
        """
        status, text, asked_s = await self._ask("POST", self.url, body)
        if status == 200:
            return _to_answer(text)
        if status in (413, 422):
            raise NotTakenError(f"{status} {_reason(text)}")
        raise _refusal(status, text, asked_s)

    async def read_checkpoint(self) -> str:
        """The log's newest signed head (a signed note); empty: it has signed none yet.

        Raises
        ------
        DeniedError, NoAnswerError
            As they say.
        """
        url = f"{self.url.removesuffix('events')}checkpoints?limit=1"
        status, text, asked_s = await self._ask("GET", url)
        if status != 200:
            raise _refusal(status, text, asked_s)
        try:
            notes = [str(found["note"]) for found in json.loads(text)["checkpoints"]]
        except (ValueError, TypeError, KeyError) as e:
            raise NoAnswerError("200, but not with what an audit service says") from e
        return notes[0] if notes else ""

    async def _ask(
        self, method: str, url: str, body: bytes | None = None
    ) -> tuple[int, bytes, float | None]:
        """Status, text and after how many seconds to ask again. Raises as `post`."""
        if self._session is None:
            raise RuntimeError("use AuditClient as a context manager")
        try:
            async with self._session.request(
                method, url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                status, text = response.status, await _read(response)
                return status, text, self._retry_after_s(response.headers.get("Retry-After"))
        except aiohttp.ClientSSLError as e:
            raise DeniedError(
                f"the certificate of {url} is not trusted; name its issuer's as ca_file"
            ) from e
        except _NO_ANSWER as e:
            raise NoAnswerError(f"no answer from {url} ({type(e).__name__})") from e

    def _retry_after_s(self, header: str | None) -> float | None:
        """Seconds of a Retry-After header, which is a number or a date (RFC 9110)."""
        if header is None:
            return None
        try:
            seconds = float(header)
        except ValueError:
            try:
                moment = email.utils.parsedate_to_datetime(header)
            except ValueError:
                return None
            if moment.tzinfo is None:  # "-0000": UTC, from nobody knows where
                moment = moment.replace(tzinfo=timezone.utc)
            seconds = (moment - self._now()).total_seconds()
        return max(0.0, seconds) if math.isfinite(seconds) else None


def _refusal(status: int, text: bytes, asked_s: float | None) -> CollabError:
    if status in (408, 425, 429) or status >= 500:
        return NoAnswerError(f"{status} {_reason(text)}", retry_after_s=asked_s)
    return DeniedError(f"{status} {_reason(text)}")


def to_body(incarnation: str, events: Sequence[tuple[int, bytes, bool]]) -> bytes:
    """A batch's JSON from sequences, events' JSON and whether they are late."""
    parts = (
        b'{"sequence":%d,%b"event":%b}' % (sequence, b'"late":true,' if late else b"", event)
        for sequence, event, late in events
    )
    return b'{"incarnation":"%b","events":[%b]}' % (incarnation.encode(), b",".join(parts))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for part in response.content.iter_chunked(8192):
        text += part
        if len(text) > _ANSWER_BYTES_MAX:
            break
    return bytes(text)


def _to_answer(text: bytes) -> Answer:
    try:
        said = json.loads(text)
        acknowledged, rejected = said["acknowledged"], frozenset(said.get("rejected", ()))
        is_new = "stored" not in said or any(said["stored"] or ())
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise NoAnswerError("200, but not with what an audit service says") from e
    if type(acknowledged) is not int or acknowledged < 0:
        raise NoAnswerError("200, but without saying what it has")
    return Answer(acknowledged, is_new, rejected)


def _reason(text: bytes) -> str:
    """The service's own sentence, from its JSON; at most a line."""
    try:
        said = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        said = ""
    return "".join(sign for sign in str(said)[:200] if sign.isprintable())
