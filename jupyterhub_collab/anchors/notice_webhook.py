"""Notices by webhook: a POST of each, with an HMAC of its body.

It must not: follow redirects, or put the secret anywhere.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

import aiohttp

from ..errors import PermanentError, RetryableError
from ..policy.webhook_signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign
from .notice_channel import ChannelAwayError, NoticeMessage

_TIMEOUT_S: Final = 15.0
_NEVER: Final = frozenset({400, 405, 413, 415, 422})  # this notice is not what it takes
_OF_THIS_ONE: Final = frozenset({409, 500})  # it may be this notice that it stumbles over


class NoticeWebhook:
    """As `NoticeChannel` has it."""

    is_per_team = False

    def __init__(self, name: str, url: str, secret: bytes) -> None:
        self.name = name
        self._url, self._secret = url, secret
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: NoticeMessage) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        notice = message.notice
        body = json.dumps(
            {
                "event": "contest.notice",
                "notice": message.number,
                "contest": notice.contest,
                "team": notice.team or None,
                "text": notice.text,
                "at": notice.at.isoformat(),
                "until": None if notice.until is None else notice.until.isoformat(),
            }
        ).encode()
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign(self._secret, body),
            DELIVERY_HEADER: f"notice/{message.number}",
        }
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as e:
            raise ChannelAwayError(f"The webhook does not answer ({type(e).__name__})") from e
        if 200 <= status < 300:
            return
        said = f"The webhook answered {status}"
        if status in _NEVER:
            raise PermanentError(said)
        raise RetryableError(said) if status in _OF_THIS_ONE else ChannelAwayError(said)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
