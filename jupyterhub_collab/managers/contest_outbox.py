"""Tells the audit log of every transition, whoever dies when.

A transition and its row in the outbox are one transaction. Here the event is made of the row, and
the row is taken out of the outbox only once the recorder's spool has the event on its disk: where
that takes nothing, or whoever does this is killed in between, it is told again. So each is told at
least once, and events of one transition have its number in their details (`transition`), by which a
second one is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from ..auditapi import Recorder
from ..errors import CollabError
from ..models.audit import AuditEvent, Person, Verb
from ..storage.contests import ContestStore, PastTransition
from .contest_pause import Pause

AT_ONCE: Final = 200
LOOK_S: Final = 5.0  # between looks for what another process wrote
REASON: Final = "transition"
_NOTE_MAX: Final = 1024
log = logging.getLogger(__name__)


class TransitionOutbox:
    """One for a registry."""

    def __init__(
        self,
        store: ContestStore,
        recorder: Recorder,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._recorder = store, recorder
        self._pause = Pause(sleep)

    def wake(self) -> None:
        """Something was committed: look now."""
        self._pause.cut()

    async def run(self) -> None:
        """Tell what is to be told, until cancelled."""
        while True:
            self._pause.begin()
            try:
                if await self.tell_some():
                    continue
            except CollabError as error:
                log.warning("The audit log was not told of transitions yet: %s", error)
            except Exception:  # a defect: the service has other things to do as well
                log.exception("The audit log was not told of transitions yet")
            await self._pause.wait(LOOK_S)

    async def tell_some(self) -> int:
        """Tell of the oldest ones. How many. Raises DatabaseError, NotHolderError."""
        untold = await self._store.untold(limit=AT_ONCE)
        kept = await self._recorder.keep([to_event(past) for past in untold]) if untold else 0
        if kept:
            await self._store.mark_told(past.number for past in untold[:kept])
        if kept < len(untold):
            log.warning("Transitions wait to be told: %d or more", len(untold) - kept)
        return kept


def to_event(past: PastTransition) -> AuditEvent:
    """What the audit log is told of a transition."""
    changed = past.transition
    actor = Person(name=_to_line(past.by), note=_to_line(changed.reason))
    return AuditEvent(
        time=past.at,
        verb=Verb.CONTEST_CHANGE,
        reason=REASON,
        contest=changed.contest,
        team=changed.team or None,
        details={
            "what": REASON,
            "before": changed.before,
            "after": changed.after,
            "operation": past.operation,
            "transition": past.number,
        },
        actor=actor,
        subject=actor,
    )


def _to_line(text: str) -> str:
    """One line of any text, as the log takes it: what somebody typed keeps no event back."""
    whole = text.encode("utf-8", "replace").decode()
    return " ".join(whole.split()).translate(_CONTROLS)[:_NOTE_MAX]


_CONTROLS: Final = dict.fromkeys((*range(0x20), 0x7F))
