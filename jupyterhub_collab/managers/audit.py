"""Keeps the audit log: stores what emitters tell, signs checkpoints, has them held outside.

Checkpoints are made every so many events or seconds when there is something new, at the start and
at an orderly end. What no anchor holds yet could still be cut off by whoever has the database; so
how much that is has a bound, and beyond it nothing protected is done. The same goes for a log that
lacks what an anchor holds: it was cut, or put back to an earlier state, and somebody must look.

It must not: speak HTTP, or decide who may tell or read what.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..errors import CollabError, PermanentError
from ..models.audit import AuditEvent, Detail, Outcome, SentBatch, Verb
from ..policy.checkpoint import CheckpointError, LogSigner
from ..storage.audit_log import Appended, AuditLog
from ..timeouts import TIMED_OUT, timeout
from .audit_anchoring import Anchoring, AnchorStatus
from .audit_stored import stored_at_of

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_LAST_DELIVERY_S: Final = 5.0


@dataclass(frozen=True)
class KeeperSettings:
    """How a log is kept.

    Attributes
    ----------
    checkpoint_events, checkpoint_s
        A checkpoint is made after so many new events, or so many seconds after the first of them.
    unanchored_events_max, unanchored_s_max
        Nothing protected is done while more events, or older ones, are held by no anchor; 0: no
        bound.
    is_anchor_required
        The bound holds without any anchor too.
    """

    checkpoint_events: int = 1000
    checkpoint_s: float = 60.0
    unanchored_events_max: int = 100_000
    unanchored_s_max: float = 3600.0
    is_anchor_required: bool = False


class AuditKeeper:
    """One of these for a log.

    Parameters
    ----------
    now
        Aware UTC clock, for what is written. Waiting goes by `monotonic`.
    """

    def __init__(
        self,
        audit_log: AuditLog,
        signer: LogSigner,
        anchoring: Anchoring,
        settings: KeeperSettings,
        *,
        now: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.log, self.signer, self.anchoring = audit_log, signer, anchoring
        self._settings, self._now, self._monotonic = settings, now, monotonic
        self._checkpointed = 0
        self._grew, self._is_full = asyncio.Event(), asyncio.Event()
        self._forks: tuple[str, ...] = ()
        self._last_seen: dict[str, float] = {}

    async def start(
        self, configuration: Mapping[str, Detail], *, accepted_size: int | None = None
    ) -> None:
        """Compare with the anchors, record the start, make a checkpoint.

        Parameters
        ----------
        configuration
            In force from now on; nothing secret.
        accepted_size
            An admin looked at a log that lacks what an anchor holds, and it has so many events.

        Raises
        ------
        PermanentError
            The newest checkpoint in the database is not of this key or this log; or there is
            nothing to accept.
        RetryableError
            The database does not answer, or an anchor that must be changed.
        """
        await self._check_own()
        forks = await self.anchoring.find_forks()
        event = AuditEvent(time=self._now(), verb=Verb.AUDIT_START, details=dict(configuration))
        if accepted_size is not None:
            event = await self._accept(accepted_size, forks, event)
            forks = []
        self._forks = tuple(forks)
        for said in forks:
            log.critical("The audit log lacks a part of its past: %s", said)
        if forks:
            event = event.model_copy(update={"outcome": Outcome.FAILED, "reason": "anchor-ahead"})
        if not self.anchoring.names:
            log.warning("The audit log has no anchor outside; its end can be cut off unseen")
        await self._note_oldest()
        await self.log.append_own(event)
        self._grow()
        await self._make_checkpoint()

    async def _check_own(self) -> None:
        """The newest checkpoint in the database is of this key, and of this log."""
        last = await self.log.last_checkpoint()
        if last is None:
            return
        size, note = last
        try:
            held = self.signer.verifier.open(note)
        except CheckpointError as error:
            raise PermanentError(
                f"The audit log's newest checkpoint is not of the key in use: {error}. Start with"
                " the key that it was begun with; a log has one key and one name for good."
            ) from error
        if not held.size == size <= self.log.size:
            raise PermanentError(
                f"The audit log has {self.log.size} events, its own checkpoint says {held.size}."
                " Nothing is written to it. Look at it with `jupyterhub-collab audit verify`, and"
                " restore it from a backup."
            )
        self._checkpointed = size

    async def _accept(
        self, accepted_size: int, forks: Sequence[str], event: AuditEvent
    ) -> AuditEvent:
        if not forks:
            raise PermanentError(
                "There is no rollback to accept: all anchors that answer hold this log's past."
                " Start without --accept-rollback."
            )
        if accepted_size != self.log.size:
            raise PermanentError(
                f"The log has {self.log.size} events, not {accepted_size}: what was looked at is"
                f" not what is here. Look again, and accept what there is. Wrong is: "
                + "; ".join(forks)
            )
        try:
            await self.anchoring.accept()
        except OSError as error:
            raise PermanentError(
                f"What the anchors took cannot be written down: {error.strerror}"
            ) from error
        log.critical("A rollback to %s events is accepted: %s", accepted_size, "; ".join(forks))
        details: dict[str, Detail] = {
            **event.details,
            "accepted_size": accepted_size,
            "lacking": tuple(forks),
        }
        return event.model_copy(update={"reason": "rollback-accepted", "details": details})

    async def _note_oldest(self) -> None:
        """How long the oldest event that no anchor holds has waited already."""
        size = self.log.size
        held = min(size, size - self._unanchored_at_start())
        if size > held:
            at = await stored_at_of(self.log, held + 1)
            ago_s = 0.0 if at is None else max(0.0, (self._now() - at).total_seconds())
            self.anchoring.grow(size, ago_s=ago_s)

    def _unanchored_at_start(self) -> int:
        held = max((status.size for status in self.anchoring.status()), default=0)
        return max(0, self.log.size - held)

    async def store(self, emitter: str, batch: SentBatch) -> Appended:
        """Store what an emitter told; on disk when this returns.

        Raises
        ------
        DatabaseError
            Nothing is stored, or nobody knows; to be sent again.
        """
        appended = await self.log.append(emitter, batch)
        self._last_seen[emitter] = self._monotonic()
        self._grow()
        return appended

    async def store_own(self, event: AuditEvent) -> int:
        """Store an event of the service itself; its place in the log. Raises DatabaseError."""
        sequence = await self.log.append_own(event)
        self._grow()
        return sequence

    def note_growth(self) -> None:
        """The log has grown by another way (erasure, retirement)."""
        self._grow()

    @property
    def refusing(self) -> str | None:
        """Why nothing protected is stored now, in words; None: it is."""
        if self._forks:
            return (
                "an anchor outside holds what this log lacks, so nothing protected is done until"
                " an administrator has looked at it."
            )
        settings = self._settings
        if not (self.anchoring.names or settings.is_anchor_required):
            return None
        events, age_s = self.anchoring.window
        is_over = (0 < settings.unanchored_events_max < events) or (
            0 < settings.unanchored_s_max < age_s
        )
        if not is_over:
            return None
        return (
            "no anchor outside has taken the log's newest part for too long, so nothing protected"
            " is done until one does."
        )

    @property
    def forks(self) -> tuple[str, ...]:
        """What anchors hold that is not in this log's past, a sentence each."""
        return self._forks

    @property
    def last_seen(self) -> Mapping[str, float]:
        """By emitter: when, by the monotonic clock, it last told something."""
        return self._last_seen

    def status(self) -> list[AnchorStatus]:
        """Of each anchor."""
        return self.anchoring.status()

    async def run(self) -> None:
        """Make checkpoints and deliver them until cancelled."""
        await asyncio.gather(self._checkpoint_forever(), self.anchoring.run())

    async def end(self) -> None:
        """A last checkpoint, one try with each anchor; then nothing is open."""
        try:
            await self._make_checkpoint()
            async with timeout(_LAST_DELIVERY_S):
                await self.anchoring.deliver_once()
        except TIMED_OUT:
            log.warning("Not every anchor took the last checkpoint in time")
        except CollabError as error:
            log.warning("There is no last checkpoint: %s", error)
        finally:
            await self.anchoring.close()

    def _grow(self) -> None:
        size = self.log.size
        self.anchoring.grow(size)
        if size > self._checkpointed:
            self._grew.set()
        if size - self._checkpointed >= self._settings.checkpoint_events:
            self._is_full.set()

    async def _checkpoint_forever(self) -> None:
        while True:
            await self._grew.wait()
            with suppress(TIMED_OUT):
                async with timeout(self._settings.checkpoint_s):
                    await self._is_full.wait()
            try:
                await self._make_checkpoint()
            except CollabError as error:
                log.error("No checkpoint can be made: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _make_checkpoint(self) -> None:
        frontier = self.log.frontier()
        if frontier.size > self._checkpointed:
            note = self.signer.sign(frontier.size, frontier.root(), self._now())
            await self.log.add_checkpoint(frontier.size, note)
            self._checkpointed = frontier.size
            self._grew.clear()
            self._is_full.clear()
            self._grow()  # what came meanwhile
            self.anchoring.offer(frontier.size, note)
        elif frontier.size and frontier.size == self._checkpointed:
            last = await self.log.last_checkpoint()
            if last is not None:
                self.anchoring.offer(*last)
