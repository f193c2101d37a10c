"""Taking events: `POST api/events`, with an emitter's own token.

The answer is sent once what was posted is on disk. Whoever emits must be able to when the hub does
not run, so nobody is asked about the token but the list of emitters.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from ...errors import RetryableError
from ...policy.audit_batch import BODY_BYTES_MAX, BatchError, ReadBatch, read_batch
from ...policy.audit_emitters import Emitter
from .handlers import Handler, Route

log = logging.getLogger(__name__)

_RETRY_AFTER_S: Final = 1.0


class IngestHandler(Handler):
    """Stores a batch of events."""

    is_public = True  # the hub is not asked; `find` is
    methods = ("POST",)

    def check_xsrf_cookie(self) -> None:
        """Not for programs: no cookie lets anybody in here."""

    async def prepare(self) -> None:
        await super().prepare()
        if self.find_emitter() is not None:
            self.take_up_to(BODY_BYTES_MAX)
        else:
            self._refuse_unknown()

    def refuse_body(self) -> None:
        self.work.metrics.on_refused("too-large")
        self.refuse(413, f"A batch has at most {BODY_BYTES_MAX} bytes; send fewer events.")

    async def post(self) -> None:
        work = self.work
        emitter = self.find_emitter()
        if emitter is None:  # taken off the list while it sent
            self._refuse_unknown()
            return
        try:
            read = read_batch(self.request.body, emitter, work.now())
        except BatchError as error:
            work.metrics.on_refused("not-a-batch")
            log.warning("Emitter %s sent what is no batch: %s", emitter.name, error)
            problem = {"field": error.field, "expected": error.expected}
            self.refuse(422, f"Nothing of this can be stored: {error}.", problems=[problem])
            return
        await self._store(emitter, read)

    def _refuse_unknown(self) -> None:
        self.work.metrics.on_refused("unknown")
        self.set_header("WWW-Authenticate", "Bearer")
        self.refuse(401, "This needs the token of an emitter: 'Authorization: Bearer ...'.")

    async def _store(self, emitter: Emitter, read: ReadBatch) -> None:
        work = self.work
        read = work.refusals.apply(emitter.name, read, is_refusing=work.keeper.refusing is not None)
        batch = read.batch
        began = work.metrics.timer()
        try:
            appended = await work.keeper.store(emitter.name, batch)
        except RetryableError as error:
            work.metrics.on_refused("database")
            log.error("Events of emitter %s cannot be stored: %s", emitter.name, error)
            self._refuse_for_now("The audit log's database does not answer.", error.retry_after_s)
            return
        work.metrics.on_stored(emitter.name, len(batch.events), began)
        for sequence, reason in read.rejected.items():
            work.metrics.on_rejected(reason)
            log.warning("Event %s of emitter %s is rejected: %s", sequence, emitter.name, reason)
        stored = None if appended.first is None else [appended.first, appended.last]
        answer: dict[str, Any] = {"acknowledged": appended.acknowledged, "stored": stored}
        if read.rejected:
            answer["rejected"] = sorted(read.rejected)
        self.send(answer)

    def _refuse_for_now(self, why: str, retry_after_s: float | None = None) -> None:
        self.set_header("Retry-After", str(max(1, round(retry_after_s or _RETRY_AFTER_S))))
        self.refuse(503, f"Not stored: {why}")


ROUTES: Final[list[Route]] = [("api/events", IngestHandler)]
