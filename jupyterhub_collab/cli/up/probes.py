"""Is a program ready: asked of the program itself, never read from its log."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from ...timeouts import TIMED_OUT, timeout
from .program import IsReady

_TIMEOUT = aiohttp.ClientTimeout(total=3)


async def _get(
    url: str, headers: Mapping[str, str], ca_file: Path | None
) -> tuple[int, bytes] | None:
    try:
        context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
            session.get(url, ssl=context) as answer,
        ):
            return answer.status, await answer.read()
    except (OSError, aiohttp.ClientError, asyncio.TimeoutError):
        return None


def http_probe(
    url: str, *, token: str | None = None, host: str | None = None, ca_file: Path | None = None
) -> IsReady:
    """Ready when a GET answers 200.

    Parameters
    ----------
    token
        Sent as ``Authorization: token``.
    host
        Host header, when the name does not lead to the address.
    ca_file
        Certificates to trust, read at each question: it may not exist yet.
    """
    headers = {}
    if token:
        headers["Authorization"] = f"token {token}"
    if host:
        headers["Host"] = host

    async def is_ready() -> bool:
        answer = await _get(url, headers, ca_file)
        return answer is not None and answer[0] == 200

    return is_ready


def routes_probe(url: str, *, token: str) -> IsReady:
    """Ready when the hub has written its routes into the proxy.

    The hub answers before that, and until then requests for servers that outlived it go astray.
    Its own route bears a mark that the proxy's default target does not.

    Parameters
    ----------
    url
        Of the proxy's list of routes.
    """
    headers = {"Authorization": f"token {token}"}

    async def is_ready() -> bool:
        answer = await _get(url, headers, None)
        if answer is None or answer[0] != 200:
            return False
        return "jupyterhub" in json.loads(answer[1]).get("/", {})

    return is_ready


def node_probe(server: str, token: str, ca_file: Path) -> IsReady:
    """Ready when a node of the cluster says that it is."""
    headers = {"Authorization": f"Bearer {token}"}

    async def is_ready() -> bool:
        answer = await _get(f"{server}/api/v1/nodes", headers, ca_file)
        if answer is None or answer[0] != 200:
            return False
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for node in json.loads(answer[1])["items"]
            for condition in node.get("status", {}).get("conditions", ())
        )

    return is_ready


def all_of(*probes: IsReady) -> IsReady:
    """Ready when every probe says so."""

    async def is_ready() -> bool:
        for probe in probes:
            if not await probe():
                return False
        return True

    return is_ready


def tls_probe(address: str, port: int, *, ca_file: Path) -> IsReady:
    """Ready when a server there shows a certificate that this authority signed."""

    async def is_ready() -> bool:
        try:
            context = ssl.create_default_context(cafile=str(ca_file))
            opening = asyncio.open_connection(address, port, ssl=context, server_hostname=address)
            async with timeout(3):
                _, writer = await opening
            writer.close()
            await writer.wait_closed()
        except (OSError, TIMED_OUT):
            return False
        return True

    return is_ready
