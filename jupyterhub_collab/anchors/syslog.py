"""A line a time to a SIEM: syslog (RFC 5424) over TCP, TLS (RFC 5425) or UDP, or standard output.

Over TCP and TLS each message bears its length (RFC 6587, 3.4.1). Syslog acknowledges nothing: what
was handed to a connection that then broke may be lost, so what was sent last is sent again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
from typing import Final, Protocol
from urllib.parse import urlsplit

from ..errors import PermanentError, RetryableError
from ..timeouts import TIMED_OUT, timeout

_TIMEOUT_S: Final = 15.0
_PRIORITY: Final = 13 * 8 + 5  # facility "log audit", severity "notice"
_APP: Final = "jupyterhub-collab"
_PORTS: Final = {"tcp": 601, "tls": 6514, "udp": 514}


class LineSink(Protocol):
    """Takes lines."""

    async def send(self, at: str, line: bytes) -> None:
        """Take a line; `at` is its time. Raises RetryableError."""

    async def close(self) -> None:
        """Leave nothing open."""


class StdoutSink:
    """Lines of JSON on standard output, for what collects a container's output."""

    async def send(self, at: str, line: bytes) -> None:
        await asyncio.to_thread(self._write, line)

    async def close(self) -> None:
        pass

    def _write(self, line: bytes) -> None:
        try:
            sys.stdout.buffer.write(line + b"\n")
            sys.stdout.buffer.flush()
        except OSError as e:
            raise RetryableError(f"standard output does not take it: {e.strerror}") from e


class SyslogSink:
    """A syslog server."""

    def __init__(self, kind: str, host: str, port: int, ca_file: str | None = None) -> None:
        self._kind, self._host, self._port, self._ca_file = kind, host, port, ca_file
        self._name = socket.gethostname()
        self._writer: asyncio.StreamWriter | None = None
        self._reader: asyncio.StreamReader | None = None
        self._socket: socket.socket | None = None

    async def send(self, at: str, line: bytes) -> None:
        message = f"<{_PRIORITY}>1 {at} {self._name} {_APP} - audit - ".encode() + line
        try:
            async with timeout(_TIMEOUT_S):
                if self._kind == "udp":
                    await self._send_datagram(message)
                else:
                    await self._send_framed(message)
        except (OSError, ssl.SSLError, TIMED_OUT) as e:
            await self.close()
            raise RetryableError(f"the syslog server does not take it ({type(e).__name__})") from e

    async def close(self) -> None:
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TIMED_OUT):
                async with timeout(2):
                    await writer.wait_closed()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _send_framed(self, message: bytes) -> None:
        # A server that closed its end is seen before the next line is lost to it.
        if self._reader is not None and self._reader.at_eof():
            await self.close()
        if self._writer is None:
            context = await asyncio.to_thread(self._make_context) if self._kind == "tls" else None
            self._reader, self._writer = await asyncio.open_connection(
                self._host, self._port, ssl=context
            )
        self._writer.write(b"%d %b" % (len(message), message))
        await self._writer.drain()

    def _make_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._ca_file)

    async def _send_datagram(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            family, kind, protocol, _, address = found[0]
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setblocking(False)
            await loop.sock_connect(self._socket, address)
        await loop.sock_sendall(self._socket, message)


def make_sink(url: str, ca_file: str | None = None) -> LineSink:
    """``stdout``, ``tcp://host:601``, ``tls://host:6514`` or ``udp://host:514``.

    Raises
    ------
    PermanentError
        It is none of these.
    """
    if url == "stdout":
        return StdoutSink()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/"):
        raise PermanentError(
            f"Events cannot be streamed to {url!r}: say stdout, tcp://host:601, tls://host:6514 or"
            " udp://host:514."
        )
    return SyslogSink(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], ca_file)
