"""What leaves the audit log: a person's data on request, the oldest events by rule.

Both say first what they would do, and leave an event that says who decided it. What is left can
still be verified.

It must not: decide who may ask for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from ..errors import CollabError
from ..models.audit import AuditEvent, Detail, Person, Verb
from ..models.audit_query import EventQuery, Scope
from ..policy.tiles import TILE_WIDTH
from ..storage.audit_log import AuditLog
from .audit import AuditKeeper

log = logging.getLogger(__name__)

_ALL: Final = Scope(everything=True)
_PAGE: Final = 1000


@dataclass(frozen=True)
class RetentionSettings:
    """The rule for the oldest events.

    Attributes
    ----------
    days
        They are kept so long; 0: for ever.
    hold
        Contests of which nothing leaves, nor anything that came after: the log goes from its
        beginning only.
    every_s
        The rule is looked at so often.
    """

    days: int = 0
    hold: frozenset[str] = frozenset()
    every_s: float = 6 * 3600.0


class AuditRetention:
    """Erasure and retirement of one log."""

    def __init__(
        self, keeper: AuditKeeper, settings: RetentionSettings, *, now: Callable[[], datetime]
    ) -> None:
        self._keeper, self._settings, self._now = keeper, settings, now

    @property
    def _log(self) -> AuditLog:
        return self._keeper.log

    async def count(self, name: str) -> int:
        """In how many events somebody stands, who is not erased there. Raises DatabaseError."""
        query, found, before = EventQuery(_ALL, people=frozenset({name})), 0, None
        while True:
            page = await self._log.read(query, before=before, limit=_PAGE)
            found += len(page)
            if len(page) < _PAGE:
                return found
            before = page[-1].sequence

    async def erase(self, name: str, *, reason: str, actor: Person) -> dict[str, Detail]:
        """Erase a person. What was done.

        Parameters
        ----------
        reason
            In words; it must not name the person, and is kept beside the actor.
        actor
            Who decided it.

        Raises
        ------
        DatabaseError
            Not all is erased: ask again.
        """
        event = AuditEvent(
            time=self._now(),
            verb=Verb.AUDIT_ERASE,
            actor=actor.model_copy(update={"note": reason}),
        )
        done = await self._log.erase(name, authorised=event)
        self._keeper.note_growth()
        log.warning("A person was erased from the audit log: events=%d", done.events)
        return {
            "events": done.events,
            "parts": done.parts,
            "recorded": tuple(str(sequence) for sequence in done.recorded),
            "overwritten": done.is_overwritten,
        }

    async def find_end(self, before: datetime) -> int:
        """Up to which event the log can go, of those stored before a moment: whole tiles, and none
        of what is held. 0: none. Raises DatabaseError."""
        newest = await self._log.read(EventQuery(_ALL, until=before), limit=1)
        until = newest[0].sequence if newest else 0
        if self._settings.hold:
            held = EventQuery(_ALL, contests=self._settings.hold)
            first = await self._log.read(held, after=0, limit=1)
            if first:
                until = min(until, first[0].sequence - 1)
        return until // TILE_WIDTH * TILE_WIDTH

    async def retire(self, until: int, *, reason: str, actor: Person | None) -> dict[str, Detail]:
        """Delete the oldest events up to a place, short of what is held. What was done.

        Raises DatabaseError.
        """
        event = AuditEvent(
            time=self._now(),
            verb=Verb.AUDIT_RETIRE,
            reason=None if actor else "retention",
            actor=None if actor is None else actor.model_copy(update={"note": reason}),
            details={} if actor else {"days": self._settings.days},
        )
        hold = self._settings.hold
        done = await self._log.retire(until, authorised=event, hold=hold)
        self._keeper.note_growth()
        end = until // TILE_WIDTH * TILE_WIDTH
        if hold and end and await self._is_there(end):
            log.error(
                "Not all is retired up to audit event %d: before it are events of contests on hold."
                " If searches do not find them, see `jupyterhub-collab audit verify`.",
                end,
            )
        log.warning("The oldest audit events are retired: events=%d", done.events)
        return {
            "events": done.events,
            "until": done.until,
            "recorded": tuple(str(sequence) for sequence in done.recorded),
        }

    async def run(self) -> None:
        """Follow the rule until cancelled."""
        while self._settings.days:
            try:
                until = await self.find_end(self._now() - timedelta(days=self._settings.days))
                if until and await self._is_there(until):
                    await self.retire(until, reason="", actor=None)
            except CollabError as error:
                log.error("The audit log's oldest events cannot be retired now: %s", error)
            await asyncio.sleep(self._settings.every_s)
        await asyncio.Event().wait()

    async def _is_there(self, sequence: int) -> bool:
        """Whether an event is not retired yet."""
        found = await self._log.read(EventQuery(_ALL), after=sequence - 1, limit=1)
        return bool(found) and found[0].sequence == sequence
