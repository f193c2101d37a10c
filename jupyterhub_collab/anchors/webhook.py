"""A sponsor's webhook: a POST of each checkpoint, with an HMAC of its body.

It must not: follow redirects, or put the secret anywhere.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import aiohttp

from ..errors import RetryableError
from ..policy.webhook_signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign
from .anchor import Delivery

_TIMEOUT_S: Final = 15.0


class WebhookAnchor:
    """As `Anchor` has it. It cannot be read."""

    def __init__(self, name: str, url: str, secret: bytes, *, interval_s: float = 0.0) -> None:
        self.name, self.interval_s = name, interval_s
        self._url, self._secret = url, secret
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, delivery: Delivery) -> None:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
            self._session = aiohttp.ClientSession(timeout=timeout)
        body = json.dumps(
            {
                "event": "audit.checkpoint",
                "log": delivery.origin,
                "size": delivery.size,
                "checkpoint": delivery.note,
            }
        ).encode()
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign(self._secret, body),
            DELIVERY_HEADER: f"{delivery.origin}/{delivery.size}",
        }
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as e:
            raise RetryableError(f"The webhook does not answer ({type(e).__name__})") from e
        if not 200 <= status < 300:
            raise RetryableError(f"The webhook answered {status}")

    async def newest(self) -> str | None:
        return None

    async def set_aside(self) -> None:
        pass

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
