"""Does what contests' calendars say: registration and rounds open and close by the clock.

What the clock wants is pure (`policy.contest_calendar`), and it is asked for as any host would: by
an action with a key, so that it is done once however often, and by however many processes, it is
looked. A clock that jumps wants the same again, or nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from ..errors import CollabError, UserError
from ..models.contest_life import ContestRecord, ContestState
from ..policy.contest_calendar import due_actions
from ..storage.contests import ContestStore
from .contest_registry import ContestRegistry

CLOCK: Final = "clock"  # who asks, in operations and in the audit log
LOOK_S: Final = 5.0
_OVER: Final = frozenset({ContestState.FINISHED, ContestState.ARCHIVED, ContestState.DESTROYED})
log = logging.getLogger(__name__)


class ContestClock:
    """One for a registry; several processes may have one each.

    Parameters
    ----------
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        store: ContestStore,
        registry: ContestRegistry,
        *,
        now: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._registry = store, registry
        self._now, self._sleep = now, sleep
        self._refused: dict[str, str] = {}  # so that each is said once

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            try:
                await self.look()
            except CollabError as error:
                log.warning("The calendar could not be looked at: %s", error)
            await self._sleep(LOOK_S)

    async def look(self) -> int:
        """Ask for all that is due now. How much that was."""
        done = 0
        for contest in await self._store.contests():
            if contest.state in _OVER:
                continue
            try:
                done += await self._look_at(contest)
            except CollabError:  # of the database, and so of all
                raise
            except Exception:  # one contest's calendar must not stop the others'
                log.exception("The calendar of contest %s cannot be read", contest.id)
        return done

    async def _look_at(self, contest: ContestRecord) -> int:
        done = 0
        since = await self._since(contest)
        for due in due_actions(contest, self._now(), since=since):
            try:
                await self._registry.act(contest.id, due.request, by=CLOCK, key=due.key)
                done += 1
                self._refused.pop(contest.id, None)
            except UserError as error:  # it is looked again soon
                if self._refused.get(contest.id) != str(error):
                    self._refused[contest.id] = str(error)
                    log.warning("The calendar of contest %s is not kept: %s", contest.id, error)
        return done

    async def _since(self, contest: ContestRecord) -> datetime | None:
        """When it came into its state."""
        past = await self._store.newest_transitions(contest.id, team="", limit=1)
        return past[0].at if past else None
