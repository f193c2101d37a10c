"""Tells a portal, once, that a team's space is ready.

A POST of JSON with an HMAC-SHA256 signature, tried until the portal answers with a success. That it
was told is written on the namespace, by a field manager of its own, so a restart tells nobody twice
but for a crash between the two; the delivery id stays the same then. Nothing waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

import aiohttp

from ...constants import ANNOTATION_TOLD, FIELD_MANAGER
from ...errors import CollabError, RetryableError
from ...kube.client import KubeClient, Manifest
from ...managers.tenancy_status import TeamStatus
from ...policy.webhook_signature import DELIVERY_HEADER, SIGNATURE_HEADER, sign
from ...reconcile.backoff import Backoff
from ...reconcile.conditions import to_time

log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class _News:
    delivery: str  # the namespace's uid: the same for the same news
    team: str
    contest: str
    namespace: str
    spec_hash: str | None
    ready_at: str

    def to_body(self) -> bytes:
        return json.dumps(
            {
                "event": "team.ready",
                "delivery": self.delivery,
                "team": self.team,
                "contest": self.contest,
                "namespace": self.namespace,
                "specHash": self.spec_hash,
                "readyAt": self.ready_at,
            }
        ).encode()


class Webhook:
    """Delivers. `run` it as a task.

    Parameters
    ----------
    note
        Told of the namespace after it was marked.
    on_try
        Told of each try: whether it went well.
    """

    def __init__(
        self,
        url: str,
        secret: bytes,
        kube: KubeClient,
        *,
        note: Callable[[Manifest], object],
        on_try: Callable[[bool], None] = lambda _ok: None,
        backoff: Backoff | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url, self._secret, self._kube = url, secret, kube
        self._note, self._on_try = note, on_try
        self._backoff = backoff or Backoff(first_s=1.0, longest_s=300.0)
        self._now, self._sleep = now, sleep
        self._pending: dict[str, _News] = {}
        self._queue: asyncio.Queue[_News] = asyncio.Queue()

    def offer(self, status: TeamStatus, namespace: Mapping[str, Any]) -> None:
        """This team is ready. Told once for each namespace; returns at once."""
        meta = namespace["metadata"]
        uid = str(meta["uid"])
        if ANNOTATION_TOLD in (meta.get("annotations") or {}) or uid in self._pending:
            return
        ready_at = to_time(self._now())
        news = _News(uid, status.team, status.contest, meta["name"], status.spec_hash, ready_at)
        self._pending[uid] = news
        self._queue.put_nowait(news)

    async def run(self) -> None:
        """Deliver until cancelled."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._deliver_forever(session) for _ in range(_AT_ONCE)))

    async def _deliver_forever(self, session: aiohttp.ClientSession) -> None:
        while True:
            news = await self._queue.get()
            try:
                await self._deliver(session, news)
            finally:  # one that was cut off is offered again by the next pass over the team
                self._pending.pop(news.delivery, None)

    async def _deliver(self, session: aiohttp.ClientSession, news: _News) -> None:
        failures = 0
        while not await self._post(session, news):
            failures += 1
            await self._sleep(self._backoff.delay_s(failures))
        await self._mark(news)

    async def _mark(self, news: _News) -> None:
        """Write on the namespace that it was told, so that nobody is told twice."""
        failures = 0
        while True:
            try:
                answer = await self._kube.apply(
                    {
                        "apiVersion": "v1",
                        "kind": "Namespace",
                        "metadata": {
                            "name": news.namespace,
                            "annotations": {ANNOTATION_TOLD: to_time(self._now())},
                        },
                    },
                    field_manager=f"{FIELD_MANAGER}-webhook",
                    uid=news.delivery,
                )
            except RetryableError as error:
                log.warning("Team %s is not marked as told yet: %s", news.team, error)
                failures += 1
                await self._sleep(self._backoff.delay_s(failures))
            except CollabError as error:  # gone, or not ours to mark: a later pass offers it again
                log.warning("The portal was told of team %s, not marked: %s", news.team, error)
                return
            else:
                self._note(answer)
                return

    async def _post(self, session: aiohttp.ClientSession, news: _News) -> bool:
        body = news.to_body()
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: sign(self._secret, body),
            DELIVERY_HEADER: news.delivery,
        }
        try:
            async with session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                ok = 200 <= answer.status < 300
                if not ok:
                    log.warning("The portal answered %s about %s", answer.status, news.team)
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            log.warning("The portal cannot be told of team %s: %s", news.team, type(error).__name__)
            ok = False
        self._on_try(ok)
        return ok
