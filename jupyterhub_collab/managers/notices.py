"""Brings notices out of the hub, and writes those that nobody writes.

Each notice goes on each way to everybody once. A way has two lanes, each with a few calls under way
at once: one for those who were not tried yet, and one for those on whom it failed, who are tried
ever more seldom and then given up. So whoever is slow or refuses takes one place, and never the
others' turn. A way on which nobody can be reached is left alone as a whole, which counts as a try
of nobody.

What came of a call is kept after it, so whoever is killed goes on with the calls they were in:
those may be made twice, with the same name, by which whoever takes them can tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from ..anchors.notice_channel import (
    ChannelAwayError,
    NotAllTookItError,
    NoticeChannel,
    NoticeMessage,
)
from ..errors import CollabError, PermanentError
from ..models import Invitation
from ..models.contest_life import ContestRecord, Notice, TeamRecord, TeamState
from ..policy.contest_calendar import Occasion
from ..policy.contest_calendar import deadlines as calendar_deadlines
from ..policy.notices import closing_notices
from ..reconcile.backoff import Backoff
from ..storage.contests import EVERYBODY, ContestStore, Delivery, DeliveryState

LOOK_S: Final = 5.0
GIVEN_UP_AFTER: Final = timedelta(days=3)
TRIES_MAX: Final = 24  # of one recipient: with the pauses of `_PAUSES` about 15 hours
AT_ONCE: Final = 4  # calls on one way to those who were not tried yet
AGAIN_AT_ONCE: Final = 2  # and to those on whom it failed
_PAUSES: Final = Backoff(first_s=5.0, longest_s=3600.0)
_AWAY: Final = Backoff(first_s=5.0, longest_s=300.0)  # of a way as a whole
_PAGE: Final = 200
_WHY_MAX: Final = 300
_GONE: Final = frozenset({TeamState.DESTROYED})
_OVER: Final = "It was over before everybody could be told."

log = logging.getLogger(__name__)


@dataclass
class _Way:
    """A channel, and since when it is away."""

    channel: NoticeChannel
    failures: int = 0
    away_until: datetime | None = None

    @property
    def name(self) -> str:
        return self.channel.name


@dataclass
class _Sheet:
    """A notice that goes to everybody: to how many it is still on its way."""

    number: int
    left: int = 0
    is_whole: bool = False  # all were asked to be tried


@dataclass(frozen=True)
class _Letter:
    """A notice to somebody."""

    message: NoticeMessage
    delivery: Delivery
    sheet: _Sheet | None = None


@dataclass
class _Lane:
    """Calls under way."""

    way: _Way
    at_once: int
    running: dict[asyncio.Task[None], _Letter] = field(default_factory=dict)


class NoticeCourier:
    """One for a registry.

    Parameters
    ----------
    channels
        Ways on which notices leave the hub; with none of them they are only shown.
    now
        The clock, in UTC.
    """

    def __init__(
        self,
        store: ContestStore,
        channels: Sequence[NoticeChannel],
        *,
        now: Callable[[], datetime],
        backoff: Backoff = _PAUSES,
        away: Backoff = _AWAY,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store, self._now, self._sleep = store, now, sleep
        self._ways = tuple(map(_Way, channels))
        self._backoff, self._away = backoff, away

    @property
    def away(self) -> int:
        """Ways on which nobody can be reached just now."""
        return sum(way.failures > 0 for way in self._ways)

    async def run(self) -> None:
        """Until it is cancelled."""
        works: list[Callable[[], Awaitable[None]]] = [self.write_once]
        for way in self._ways:
            works += [_bound(self.bring_once, way), _bound(self.bring_again_once, way)]
        tasks = [asyncio.create_task(self._repeat(work)) for work in works]
        try:
            # Not `gather`: ended once, each keeps what came of its calls; ended twice, it does not.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for way in self._ways:
                await way.channel.close()

    async def _repeat(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except CollabError as error:
                log.warning("Notices wait: %s", error)
            except Exception:  # a defect: the service has other things to do as well
                log.exception("Notices wait")
            await self._sleep(LOOK_S)

    async def run_once(self) -> None:
        """All of it once. Raises CollabError."""
        await self.write_once()
        for way in self._ways:
            await self.bring_once(way)
            await self.bring_again_once(way)
        await self._store.deliveries.settle(way.name for way in self._ways)

    async def write_once(self) -> None:
        """Write what is to be told now, and end what is over or done. Raises CollabError."""
        now = self._now()
        for contest in await self._store.contests():
            try:
                notices = tuple(closing_notices(contest, closes_of(contest, now), now=now))
            except Exception:  # whatever is wrong with one contest, the others are told
                log.exception("What the contest %s is to be told cannot be made", contest.id)
                continue
            for notice in notices:
                await self._store.put_notice(notice)
        names = [way.name for way in self._ways]
        after = 0
        while page := await self._store.undelivered(after=after, limit=_PAGE):
            after = page[-1][0]
            for number, notice in page:
                if self._is_over(notice, now):
                    log.warning("Notice %s is over before it was brought everywhere", number)
                    await self._store.deliveries.give_up(number, names, why=_OVER, at=now)
        await self._store.deliveries.settle(names)

    async def bring_once(self, way: _Way) -> None:
        """Try everybody on a way who was not tried yet. Raises CollabError."""
        await self._send_all(_Lane(way, AT_ONCE), self._new_letters(way))

    async def bring_again_once(self, way: _Way) -> None:
        """Try those again on whom it failed, and who are due. Raises CollabError."""
        await self._send_all(_Lane(way, AGAIN_AT_ONCE), self._due_letters(way))

    async def _send_all(self, lane: _Lane, letters: AsyncGenerator[_Letter, None]) -> None:
        """Send them, some at once, as long as the way is there."""
        async with aclosing(letters) as following:
            try:
                while not self._is_away(lane.way):
                    letter = await anext(following, None)
                    if letter is None:
                        break
                    lane.running[asyncio.create_task(lane.way.channel.send(letter.message))] = (
                        letter
                    )
                    # A way that was away is asked with one call whether it still is.
                    while len(lane.running) >= (1 if lane.way.failures else lane.at_once):
                        await self._note_some(lane)
                while lane.running:
                    await self._note_some(lane)
            finally:
                for task in lane.running:
                    task.cancel()
                if lane.running:
                    await asyncio.wait(lane.running)
                # What arrived before somebody ended us is not brought again.
                await self._note(lane, [t for t in lane.running if not t.cancelled()])

    async def _note_some(self, lane: _Lane) -> None:
        done, _ = await asyncio.wait(lane.running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.cancelled():
                raise asyncio.CancelledError
        await self._note(lane, done)

    async def _note(self, lane: _Lane, done: Iterable[asyncio.Task[None]]) -> None:
        """Keep what came of calls."""
        for task in done:
            letter, error = lane.running[task], task.exception()
            if isinstance(error, ChannelAwayError):
                self._leave(lane.way, error)
                del lane.running[task]
                continue
            if error is not None and not isinstance(error, CollabError):
                log.error("A defect in the way %s", lane.way.name, exc_info=error)
            lane.way.failures, lane.way.away_until = 0, None
            await self._store.deliveries.put(self._outcome(letter, error))
            # Not before: whoever is ended meanwhile keeps it at their end.
            del lane.running[task]
            if (sheet := letter.sheet) is not None:
                sheet.left -= 1
                await self._mark(sheet, lane.way)

    def _outcome(self, letter: _Letter, error: BaseException | None) -> list[Delivery]:
        """Rows that say what came of a call."""
        tried = replace(letter.delivery, attempts=letter.delivery.attempts + 1, why="")
        if error is None:
            return [replace(tried, state=DeliveryState.DONE)]
        if not isinstance(error, NotAllTookItError):
            return [self._failed(tried, error, is_final=isinstance(error, PermanentError))]
        # Whoever was let have it does not get it again for the sake of another's address.
        rows = [replace(tried, state=DeliveryState.DONE)]
        for address, is_final in error.refused.items():
            own = _recipient_of(letter.message.team, address)
            rows.append(self._failed(replace(tried, recipient=own), error, is_final=is_final))
        return list({row.recipient: row for row in rows}.values())

    def _failed(self, tried: Delivery, error: BaseException, *, is_final: bool) -> Delivery:
        is_final = is_final or tried.attempts >= TRIES_MAX
        known = isinstance(error, CollabError)
        why = str(error) if known else f"a defect ({type(error).__name__}); the log has it"
        if is_final:
            log.warning(
                "Notice %s is given up for %s on %s after %d tries: %s",
                tried.notice,
                tried.recipient,
                tried.channel,
                tried.attempts,
                why,
            )
        pause = timedelta(seconds=self._backoff.delay_s(tried.attempts))
        return replace(
            tried,
            state=DeliveryState.GIVEN_UP if is_final else DeliveryState.WAITING,
            due_at=self._now() + pause,
            why=why[:_WHY_MAX],
        )

    async def _mark(self, sheet: _Sheet, way: _Way) -> None:
        """Keep that everybody was tried, once that is so."""
        if sheet.is_whole and not sheet.left:
            mark = Delivery(sheet.number, way.name, EVERYBODY, self._now(), DeliveryState.DONE)
            await self._store.deliveries.put([mark])

    def _is_away(self, way: _Way) -> bool:
        return way.away_until is not None and self._now() < way.away_until

    def _leave(self, way: _Way, error: ChannelAwayError) -> None:
        """Leave a way alone for a while; of calls that were under way at once the first counts."""
        if self._is_away(way):
            return
        way.failures += 1
        pause = timedelta(seconds=self._away.delay_s(way.failures))
        way.away_until = self._now() + pause
        log.warning("Nobody can be told on %s for now: %s", way.name, error)

    async def _contests(self) -> Mapping[str, ContestRecord]:
        return {contest.id: contest for contest in await self._store.contests()}

    async def _new_letters(self, way: _Way) -> AsyncGenerator[_Letter, None]:
        """To everybody on a way who was not tried yet, notice by notice."""
        contests, now, after = await self._contests(), self._now(), 0
        while page := await self._store.deliveries.open_notices(way.name, after=after, limit=_PAGE):
            after = page[-1][0]
            for number, notice in page:
                contest = contests.get(notice.contest)
                if contest is None or self._is_over(notice, now):
                    continue
                known = await self._store.deliveries.of(number, way.name)
                message = NoticeMessage(number, notice, contest.manifest.contest.title)
                if not way.channel.is_per_team:
                    if EVERYBODY not in known:
                        yield _Letter(message, Delivery(number, way.name, EVERYBODY, now))
                    continue
                sheet = _Sheet(number)
                async for team, addresses in self._addressed(notice):
                    if team in known or not addresses:
                        continue
                    sheet.left += 1
                    yield _Letter(
                        replace(message, team=team, recipients=addresses),
                        Delivery(number, way.name, team, now),
                        sheet,
                    )
                sheet.is_whole = True
                await self._mark(sheet, way)

    async def _due_letters(self, way: _Way) -> AsyncGenerator[_Letter, None]:
        """To those on whom it failed, the longest due first."""
        contests, now = await self._contests(), self._now()
        for delivery, notice in await self._store.deliveries.due(way.name, now, limit=_PAGE):
            contest = contests.get(notice.contest)
            if contest is None or self._is_over(notice, now):
                continue
            message = NoticeMessage(delivery.notice, notice, contest.manifest.contest.title)
            if not way.channel.is_per_team:
                yield _Letter(message, delivery)
                continue
            team, _, one = delivery.recipient.partition("/")
            addresses = (await self._addresses([team]))[team]
            if one:
                addresses = tuple(a for a in addresses if _recipient_of(team, a).endswith(one))
            if not addresses:  # they are in the team no more
                await self._store.deliveries.put([replace(delivery, state=DeliveryState.DONE)])
                continue
            yield _Letter(replace(message, team=team, recipients=addresses), delivery)

    async def _addressed(self, notice: Notice) -> AsyncIterator[tuple[str, tuple[str, ...]]]:
        """Teams that a notice is for, by id, with their people's addresses."""
        after = ""
        while True:
            teams: Sequence[TeamRecord] = ()
            there = [notice.team]
            if not notice.team:
                teams = await self._store.teams(notice.contest, after=after, limit=_PAGE)
                there = [t.id for t in teams if t.state not in _GONE]
            for name, addresses in (await self._addresses(there)).items():
                yield name, addresses
            if len(teams) < _PAGE:
                return
            after = teams[-1].id

    async def _addresses(self, teams: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Addresses of those whom rosters name by theirs, each once, by team."""
        rosters = await self._store.members(teams) if teams else {}
        found = {}
        for team in teams:
            entries = (m.entry for m in rosters.get(team, ()))
            emails = (e.email for e in entries if isinstance(e, Invitation))
            found[team] = tuple(dict.fromkeys(emails))
        return found

    @staticmethod
    def _is_over(notice: Notice, now: datetime) -> bool:
        if notice.until is not None and notice.until <= now:
            return True
        return notice.at + GIVEN_UP_AFTER <= now


def closes_of(contest: ContestRecord, now: datetime) -> datetime | None:
    """When the round that runs closes by the clock; None: a host closes it."""
    for entry in calendar_deadlines(contest, now):
        if entry.occasion is Occasion.ROUND_CLOSES and entry.round == contest.round:
            return entry.at
    return None


def _recipient_of(team: str, address: str) -> str:
    """One address of a team, known again and not told."""
    return f"{team}/{hashlib.sha256(address.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def _bound(work: Callable[[_Way], Awaitable[None]], way: _Way) -> Callable[[], Awaitable[None]]:
    return lambda: work(way)
