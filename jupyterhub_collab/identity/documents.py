"""Documents of an identity provider or portal (discovery, key sets), fetched and kept for a while.

Each is small, public and the root of who is let in. So: https only, no redirect followed, a bound
on its size and on the time it takes, and an answer that cannot be read is no answer. A provider
that is away for a while throws nobody out: what was fetched before is used for a bounded time.

`DocumentReader.send` also asks what is not public, under the same bounds. What is secret goes into
a body or header: addresses here carry no token, and no answer is repeated in an error.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

import aiohttp

from ..errors import CollabError, PermanentError, RetryableError
from .strict_json import parse_object

TIMEOUT_S: Final = 5.0  # a person waits in front of it
MAX_BYTES: Final = 256 * 1024  # real key sets have up to 20 KiB
T = TypeVar("T")
log = logging.getLogger(__name__)


class SourceUnavailableError(RetryableError):
    """A provider or portal does not answer as it should just now."""


class SourceMisconfiguredError(PermanentError):
    """A setting of ours or a document of theirs cannot be used until somebody mends it."""


def check_address(url: object, what: str, *, plain_http: bool = False) -> str:
    """An address that may say who is let in: https, or http on this machine.

    Parameters
    ----------
    what
        What the address is of, for the error.
    plain_http
        Also allow http elsewhere: whoever is on the way can then be anybody.

    Raises
    ------
    SourceMisconfiguredError
        It is none.
    """
    try:
        if not isinstance(url, str) or not url.isprintable() or any(c in url for c in " \\"):
            raise ValueError
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise SourceMisconfiguredError(f"{what}: not an address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SourceMisconfiguredError(f"{what}: not an https address")
    if "@" in parts.netloc or "#" in url:
        raise SourceMisconfiguredError(f"{what}: holds a user, password or fragment")
    if parts.scheme == "http" and not plain_http and not _is_loopback(parts.hostname):
        raise SourceMisconfiguredError(
            f"{what}: {url} is http; use https, else whoever is on the way can sign in as anybody"
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DocumentReader:
    """Fetches JSON objects. Close it when done.

    Parameters
    ----------
    ca_file
        Certificates (PEM) to trust in place of the system's.
    plain_http
        See `check_address`. Only for tests and networks of one's own.

    Raises
    ------
    SourceMisconfiguredError
        ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        *,
        ca_file: str | None = None,
        plain_http: bool = False,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.plain_http = plain_http
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        try:
            # Now and not at the first read: it takes tens of milliseconds of somebody's loop.
            self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ValueError) as e:
            raise SourceMisconfiguredError(
                f"ca_file: {ca_file} cannot be used ({type(e).__name__}); it holds certificates in"
                " PEM"
            ) from e
        self._session: aiohttp.ClientSession | None = None
        if plain_http:
            log.warning("Identity documents may be fetched over http: their sender is not verified")

    async def close(self) -> None:
        """Close its connections; the next read opens others."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def read(self, url: str, what: str) -> dict[str, Any]:
        """The JSON object at an address.

        Raises
        ------
        SourceUnavailableError
            No answer in time, no success, too large, or not a JSON object.
        SourceMisconfiguredError
            The address may not be used, or the certificate is not one we trust.
        """
        status, data = await self._fetch("GET", url, what)
        if status != 200:
            raise SourceUnavailableError(f"{what}: {url} answered with status {status}")
        try:
            return parse_object(data)
        except ValueError as e:
            raise SourceUnavailableError(f"{what}: the answer of {url} is wrong: {e}") from None

    async def send(
        self,
        url: str,
        what: str,
        *,
        headers: Mapping[str, str],
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON object of an answer; the object is empty where there is none.

        Parameters
        ----------
        form
            Is posted; without one it is a GET.

        Raises
        ------
        SourceUnavailableError
            No answer in time, one that is too large or asks to try later (429, 5xx), or a success
            that is no JSON object.
        SourceMisconfiguredError
            As `read`.
        """
        method = "GET" if form is None else "POST"
        status, data = await self._fetch(method, url, what, headers=headers, form=form)
        if status == 429 or status >= 500:
            raise SourceUnavailableError(f"{what}: {url} answered with status {status}")
        try:
            return status, parse_object(data)
        except ValueError as e:
            if status < 300:
                raise SourceUnavailableError(f"{what}: the answer of {url} is wrong: {e}") from None
            return status, {}

    async def _fetch(
        self,
        method: str,
        url: str,
        what: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        check_address(url, what, plain_http=self.plain_http)
        shown = url.partition("?")[0]
        try:
            # A redirect would let another address speak for this one.
            async with self._open_session().request(
                method, url, headers=headers, data=form, allow_redirects=False
            ) as response:
                if response.headers.get("Content-Encoding", "identity") != "identity":
                    raise SourceUnavailableError(f"{what}: {shown} answered compressed, unasked")
                data = bytearray()
                async for chunk in response.content.iter_chunked(16 * 1024):
                    data += chunk
                    if len(data) > self._max_bytes:
                        raise SourceUnavailableError(
                            f"{what}: {shown} answered with more than {self._max_bytes} bytes"
                        )
                return response.status, bytes(data)
        except aiohttp.ClientConnectorCertificateError as e:
            raise SourceMisconfiguredError(
                f"{what}: the certificate of {shown} cannot be verified"
                f" ({e.certificate_error}); give the file of its authority's certificate"
            ) from e
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as e:
            # Other errors may repeat what was answered.
            why = str(e) if isinstance(e, aiohttp.ClientConnectorError) else type(e).__name__
            raise SourceUnavailableError(f"{what}: no answer from {shown} ({why})") from e

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                # Nothing to unpack: a small answer cannot become a large one.
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


class CachedDocument(Generic[T]):
    """One document, read again when it is old; who asks at the same time shares one read.

    Parameters
    ----------
    load
        Reads it. A `CollabError` counts as "not just now".
    clock
        Seconds of a clock that never jumps.
    max_age_s
        How long it is used without asking again.
    stale_s
        How long past that, when it cannot be read.
    cool_down_s
        At least this long between reads that `get_newer` forces.
    retry_s
        At least this long between reads after one that failed: nobody waits for a dead provider
        on behalf of everybody else.
    """

    def __init__(
        self,
        what: str,
        load: Callable[[], Awaitable[T]],
        *,
        clock: Callable[[], float],
        max_age_s: float,
        stale_s: float,
        cool_down_s: float,
        retry_s: float,
    ) -> None:
        self._what = what
        self._load = load
        self._clock = clock
        self._max_age_s = max_age_s
        self._stale_s = stale_s
        self._cool_down_s = cool_down_s
        self._retry_s = retry_s
        self._value: tuple[T, float] | None = None  # and when its read began
        self._tried_at: float | None = None
        self._error: CollabError | None = None  # of the last read
        self._reading: asyncio.Task[None] | None = None

    async def get(self) -> T:
        """The document, at most ``max_age_s + stale_s`` old.

        Raises
        ------
        CollabError
            What `load` said, when there is none so young.
        """
        if self._value is not None and self._age_s() < self._max_age_s:
            return self._value[0]
        if not (self._error is not None and self._since_try_s() < self._retry_s):
            await self._read()
        if self._value is not None and self._age_s() < self._max_age_s + self._stale_s:
            return self._value[0]
        raise self._refusal()

    async def get_newer(self) -> T:
        """The document as it is now, read anew unless that was done a moment ago.

        Raises
        ------
        CollabError
            The last read failed.
        """
        if self._reading is not None or self._since_try_s() >= self._cool_down_s:
            await self._read()
        if self._error is not None or self._value is None:
            raise self._refusal()
        return self._value[0]

    async def close(self) -> None:
        """Stop a read that is on its way."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    def _age_s(self) -> float:
        assert self._value is not None
        return self._clock() - self._value[1]

    def _since_try_s(self) -> float:
        return float("inf") if self._tried_at is None else self._clock() - self._tried_at

    def _refusal(self) -> CollabError:
        """A new error each time: one that is raised again and again would gather tracebacks."""
        if self._error is None:
            return SourceUnavailableError(f"{self._what}: not read yet")
        again = type(self._error)(str(self._error))
        again.__cause__ = self._error.__cause__
        return again

    async def _read(self) -> None:
        if self._reading is None:
            self._tried_at = self._clock()
            self._reading = asyncio.create_task(self._read_once(self._tried_at))
        # One who gives up does not take the others' read along.
        await asyncio.shield(self._reading)

    async def _read_once(self, began: float) -> None:
        try:
            value = await self._load()
        except (RetryableError, PermanentError) as e:
            self._error = e
            log.warning("An identity document could not be read: %s", e)
        else:
            self._value, self._error = (value, began), None
        finally:
            self._reading = None
