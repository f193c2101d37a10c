"""Tells audit events to the service by way of a spool.

`emit` writes to a file and returns: it may be called from any thread, at any time, also before the
emitter is started (events wait in memory then). `record` waits until the service has the event on
its disk. If nobody says so in time, what was to be done must not be done; the event may be in the
log all the same, or come there later, so a second one follows it that says ``refused``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final

from ..errors import AuditUnavailableError
from ..models.audit import EVENT_BYTES_MAX, AuditEvent, Outcome
from ..timeouts import TIMED_OUT, timeout
from .client import AuditClient
from .correlation import correlation, current_correlation
from .metrics import LOST, OLDEST, UNDELIVERED, UNRECORDED
from .sender import Sender
from .spool import Spool

TIMEOUT_S: Final = 5.0  # of `record`; what a person waits without wondering
FLUSH_S: Final = 3.0  # at the end; what is not delivered then waits on the disk
NOT_RECORDED: Final = "not-recorded"  # reason of what was refused because of us
log = logging.getLogger(__name__)


class Emitter:
    """A Recorder with a spool. An async context manager: opens the spool, starts the sender.

    Parameters
    ----------
    folder
        Of the spool; made if it is not there. One process at a time.
    url
        The audit service's address, such as ``https://audit.example.org/services/audit``.
    token
        This emitter's own.
    now
        Clock for the events that the emitter makes itself.
    timeout_s
        How long `record` waits for the service at most.
    ca_file
        Certificates that the service's is checked against, in place of the system's.
    flush_s
        How long the end waits at most for what is not delivered.
    spool
        Made from `folder` if not given.

    Raises
    ------
    PermanentError
        Address or token cannot be ones. On entering: the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        token: str,
        *,
        now: Callable[[], datetime],
        timeout_s: float = TIMEOUT_S,
        ca_file: Path | None = None,
        flush_s: float = FLUSH_S,
        spool: Spool | None = None,
    ) -> None:
        self.spool = spool or Spool(folder)
        self._client = AuditClient(url, token, now=now, ca_file=ca_file)
        self._now, self._timeout_s, self._flush_s = now, timeout_s, flush_s
        self._sender: Sender | None = None
        self._task: asyncio.Task[None] | None = None
        self._open = AsyncExitStack()

    async def read_checkpoint(self) -> str:
        """The log's newest signed head; empty: none yet. Raises RetryableError, PermanentError."""
        return await self._client.read_checkpoint()

    async def __aenter__(self) -> Emitter:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(self.spool.open)
            stack.push_async_callback(asyncio.to_thread, self.spool.close)
            await stack.enter_async_context(self._client)
            self._sender = Sender(self.spool, self._client)
            self.spool.on_flushed = self._sender.wake
            self._task = asyncio.create_task(self._sender.run(), name="audit-sender")
            self._open = stack.pop_all()
        UNDELIVERED.set_function(lambda: self.spool.undelivered)
        OLDEST.set_function(self.spool.oldest_s)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        async with self._open:
            assert self._sender is not None
            assert self._task is not None
            try:
                async with timeout(self._flush_s):
                    await self._sender.acknowledged(self.spool.last)
            except (TIMED_OUT, AuditUnavailableError):
                log.warning("Audit events wait for the next start: %d", self.spool.undelivered)
            finally:
                self._sender = None
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    def emit(self, event: AuditEvent) -> None:
        """Tell of something. Never raises, never waits; the event is in the spool after it."""
        try:
            self.spool.append(_to_json(event, current_correlation()))
        except Exception:  # nobody's log-in ends for a fault of ours
            LOST.labels("form").inc()
            log.exception("An audit event is lost: verb=%s", event.verb.value)

    async def record(self, event: AuditEvent) -> None:
        """Tell of something that must not happen untold: returns once the log has it on disk.

        To be awaited on the loop on which the emitter was started.

        Raises
        ------
        AuditUnavailableError
            Nobody said in time that it is recorded. Do not do what it tells of.
        """
        if event.correlation is None:
            event = event.model_copy(update={"correlation": correlation()})
        sender = self._sender
        number = None
        if sender is not None:
            try:
                number = self.spool.append(_to_json(event, None), may_wait=False)
            except ValueError:
                log.exception("An audit event cannot be recorded: verb=%s", event.verb.value)
        if sender is None or number is None:
            self._refuse(event)
            raise AuditUnavailableError
        asked_s = sender.asked_to_wait_s
        try:
            if asked_s >= self._timeout_s:
                raise AuditUnavailableError(retry_after_s=asked_s)
            async with timeout(self._timeout_s):
                await sender.acknowledged(number)
        except TIMED_OUT as e:
            self._refuse(event)
            raise AuditUnavailableError from e
        except BaseException:  # refused for good, or whoever asked went away
            self._refuse(event)
            raise

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        """As `Recorder.keep`. Waits for the disk, not for the service."""
        texts = []
        for event in events:
            try:
                texts.append(_to_json(event, current_correlation()))
            except ValueError:  # it never can be told: whoever keeps it need not go on
                LOST.labels("form").inc()
                log.exception("An audit event is lost: verb=%s", event.verb.value)
        kept = await asyncio.to_thread(self.spool.keep, texts, timeout_s=self._timeout_s)
        return len(events) if kept == len(texts) else kept

    def _refuse(self, event: AuditEvent) -> None:
        """Say that what the event told of was not done."""
        UNRECORDED.inc()
        change = {"time": self._now(), "outcome": Outcome.REFUSED, "reason": NOT_RECORDED}
        self.emit(event.model_copy(update=change))


def _to_json(event: AuditEvent, correlated: str | None) -> bytes:
    """The event's JSON; without its details if it were too large with them.

    Raises
    ------
    ValueError
        It is too large even so.
    """
    if event.correlation is None and correlated is not None:
        event = event.model_copy(update={"correlation": correlated})
    text = event.model_dump_json(exclude_none=True).encode()
    if len(text) > EVENT_BYTES_MAX:
        event = event.model_copy(update={"details": {"cut": True}})
        text = event.model_dump_json(exclude_none=True).encode()
        if len(text) > EVENT_BYTES_MAX:
            raise ValueError(f"an event of {len(text)} bytes; at most {EVENT_BYTES_MAX} are kept")
        log.error("An audit event is too large; its details are cut: verb=%s", event.verb.value)
    return text
