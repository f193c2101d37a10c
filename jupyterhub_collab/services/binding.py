"""Where a service listens, and what it says of each request. The same for all of them."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import Any
from urllib.parse import urlsplit

from tornado.netutil import bind_sockets

from ..errors import PermanentError


def bind_service(service_url: str, what: str) -> tuple[list[socket.socket], str]:
    """Sockets of JUPYTERHUB_SERVICE_URL, and where they are, in words.

    Its port, and its address where that is one of this machine's; otherwise all addresses.

    Parameters
    ----------
    what
        The service, for people.

    Raises
    ------
    PermanentError
        The port is taken, or not for us.
    """
    url = urlsplit(service_url)
    host, port = url.hostname or "", url.port or 80
    try:
        address = str(ipaddress.ip_address(host))
    except ValueError:
        address = "127.0.0.1" if host == "localhost" else ""
    where = f"{address or 'all addresses'}, port {port}"
    try:
        return bind_sockets(port, address), where
    except OSError as error:
        raise PermanentError(
            f"Cannot listen on {where}: {error.strerror}. Another program has it, another {what}"
            " perhaps; stop it, or set JUPYTERHUB_SERVICE_URL."
        ) from error


def check_is_address(url: str) -> None:
    """Raise PermanentError unless a URL names one address: a name would open all of them."""
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError as error:
        raise PermanentError(
            f"{url!r} is no place to listen: say http://ADDRESS:PORT, with one address of this"
            " machine and not a name."
        ) from error


def log_request(handler: Any) -> None:
    """One line a request, without its query: that may hold a token."""
    status = handler.get_status()
    level = logging.DEBUG if status < 400 else logging.WARNING if status >= 500 else logging.INFO
    request = handler.request
    logging.getLogger(handler.__module__).log(
        level, "%s %s %s", status, request.method, urlsplit(request.uri).path
    )
