"""Brings what is in the spool to the service, in order, for as long as it takes.

One task: it reads a batch, posts it, and goes on once the service says that it is on its disk. When
there is no answer it waits, longer each time and by chance, never shorter than it was asked to; who
has something protected recorded cuts a wait short that nobody asked for. Time is what the loop
counts, so a stepped clock changes nothing.

If a batch cannot be taken, it is sent in halves until one event is found that never can; after
three tries that one is put into ``refused.jsonl``, told and counted, and the others go on.

It must not: put the token anywhere; that is `client`'s.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from ..errors import AuditUnavailableError
from ..timeouts import TIMED_OUT, timeout
from .client import Answer, AuditClient, DeniedError, NoAnswerError, NotTakenError, to_body
from .metrics import DELIVERED, LOST, UP
from .spool import Spool
from .spool_folder import Spooled
from .spool_reading import EVENTS_MAX

_FIRST_WAIT_S: Final = 0.1
_LONGEST_WAIT_S: Final = 30.0
_LONGEST_ASKED_S: Final = 300.0  # whatever Retry-After says: events wait on a disk that can fill
_HURRIED_WAIT_S: Final = 0.5  # between tries, while somebody waits for a record
_REFUSALS_MAX: Final = 3
log = logging.getLogger(__name__)
T = TypeVar("T")


class Sender:
    """See module.

    Parameters
    ----------
    uniform
        Dice: a number between two.
    """

    def __init__(
        self,
        spool: Spool,
        client: AuditClient,
        *,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._spool, self._client, self._uniform = spool, client, uniform
        self._loop = asyncio.get_running_loop()
        self._reading = ThreadPoolExecutor(1, "audit-spool-read")
        self._wake, self._hurry = asyncio.Event(), asyncio.Event()
        self._pending: list[Spooled] = []
        self._acknowledged = spool.incarnation.after
        self._is_met = False  # whether the service said where it stands
        self._is_anew = False  # and whether we count anew since its last answer
        self._sent = self._late = spool.opened_at
        self._batch = EVENTS_MAX
        self._failures = self._refusals = 0
        self._not_before = 0.0
        self._told: str | None = None
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._waiters = 0

    def wake(self) -> None:
        """There is something to send. Any thread may say so."""
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop has ended: the next process sends it
            return

    @property
    def asked_to_wait_s(self) -> float:
        """Seconds for which the service asked to be left alone."""
        return max(0.0, self._not_before - self._loop.time())

    async def acknowledged(self, number: int) -> None:
        """Wait until the service has the event of this number.

        Raises
        ------
        AuditUnavailableError
            It never will.
        """
        if number <= self._acknowledged:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters += 1
        heapq.heappush(self._waiting, (number, self._waiters, waiter))
        self._hurry.set()
        try:
            await waiter
        finally:
            while self._waiting and self._waiting[0][2].done():
                heapq.heappop(self._waiting)

    async def run(self) -> None:
        """Send until cancelled."""
        try:
            while True:
                try:
                    await self._turn()
                except Exception as e:  # a disk that cannot be read, or a fault of ours
                    log.exception("The audit spool could not be sent on")
                    await self._rest(type(e).__name__)
        finally:
            for _, _, waiter in self._waiting:
                if not waiter.done():
                    waiter.set_exception(AuditUnavailableError())
                    waiter.exception()  # somebody may have stopped waiting
            self._reading.shutdown()

    async def _turn(self) -> None:
        self._wake.clear()
        if not self._pending:
            self._pending = await self._in_thread(self._spool.read)
        if not self._pending:
            await self._wake.wait()
            return
        portion = self._pending[: self._batch]
        if not self._is_met:  # first what may be there already: the answer tells where we stand
            portion = [one for one in portion if one.number <= self._spool.opened_at] or portion[:1]
        try:
            answer = await self._post(portion)
        except NotTakenError as e:
            await self._refused(portion, str(e))
        except DeniedError as e:
            await self._rest(str(e), told=logging.ERROR)
        except NoAnswerError as e:
            await self._rest(str(e), asked_s=e.retry_after_s)
        else:
            await self._answered(portion, answer)

    async def _post(self, portion: list[Spooled]) -> Answer:
        after = self._spool.incarnation.after
        # Late means: what it tells of was given up, or needs no leave. So not while one waits.
        awaited = {number for number, _, waiter in self._waiting if not waiter.done()}
        events = [
            (one.number - after, one.event, one.number <= self._late and one.number not in awaited)
            for one in portion
        ]
        was_sent, self._sent = self._sent, max(self._sent, portion[-1].number)
        answer = await self._client.post(to_body(self._spool.incarnation.id, events))
        acknowledged = answer.acknowledged + after
        is_first_try = portion[0].number > was_sent
        if acknowledged > self._sent or (is_first_try and not answer.is_new):
            if self._is_anew:  # under an id that nobody can know
                raise NoAnswerError("200, but it says that it has what was never sent")
            await self._count_anew(portion)
            return Answer(0, is_new=False)
        self._is_anew = False
        if acknowledged < portion[0].number:
            raise NoAnswerError("200, but it took nothing")
        return Answer(
            acknowledged,
            answer.is_new,
            frozenset(sequence + after for sequence in answer.rejected),
        )

    async def _count_anew(self, portion: list[Spooled]) -> None:
        """The service has events under our numbers that we never sent.

        This spool is an older copy, put back or used twice. What was sent just now may have been
        taken for something known, so it is sent again, and all that follows, under another id.
        """
        log.error("The audit spool is an older copy or used twice; it counts anew")
        ours = min(portion[-1].number, self._spool.opened_at)
        after = max(self._acknowledged, ours)
        await self._in_thread(lambda: self._spool.renew(after))
        self._sent = self._late = after
        self._is_anew = True
        self._pass(after)

    async def _answered(self, portion: list[Spooled], answer: Answer) -> None:
        self._is_met = True
        self._failures = self._refusals = 0
        self._not_before = 0.0
        self._batch = min(EVENTS_MAX, self._batch * 2)
        UP.set(1)
        if self._told is not None:
            log.warning("The audit service takes events again: waiting=%d", self._spool.undelivered)
            self._told = None
        for number in answer.rejected:
            self._fail(number)
        before = self._acknowledged
        self._pass(answer.acknowledged)
        DELIVERED.inc(sum(before < one.number <= answer.acknowledged for one in portion))

    def _pass(self, number: int) -> None:
        """All up to this number is done."""
        self._acknowledged = max(self._acknowledged, number)
        self._spool.acknowledge(self._acknowledged)
        done = {one.number for one in self._pending if one.number <= self._acknowledged}
        self._pending = [one for one in self._pending if one.number > self._acknowledged]
        while self._waiting and self._waiting[0][0] <= self._acknowledged:
            waited, _, waiter = heapq.heappop(self._waiting)
            if waiter.done():
                continue
            if waited in done:
                waiter.set_result(None)
            else:  # its line was damaged before it was read
                waiter.set_exception(AuditUnavailableError())

    def _fail(self, number: int) -> None:
        """The log will never have the event of this number."""
        for waited, _, waiter in self._waiting:
            if waited == number and not waiter.done():
                waiter.set_exception(AuditUnavailableError())

    async def _refused(self, portion: list[Spooled], why: str) -> None:
        if len(portion) > 1:
            self._batch = len(portion) // 2
            log.warning("The audit service does not take a batch; a part is tried: %s", why)
            return
        self._refusals += 1
        if self._refusals < _REFUSALS_MAX:
            await self._rest(why, told=logging.ERROR)
            return
        number = portion[0].number
        log.error("The audit service never takes this event; it is put aside: number=%d", number)
        LOST.labels("refused").inc()
        self._refusals = 0
        self._fail(number)
        await self._in_thread(lambda: self._spool.put_aside(portion[0]))
        self._pass(number)

    async def _rest(
        self, why: str, *, asked_s: float | None = None, told: int = logging.WARNING
    ) -> None:
        """Wait before the next try."""
        self._failures += 1
        UP.set(0)
        kind = why[:3]
        if self._told != kind and (self._failures > 1 or told == logging.ERROR):
            # The first lost connection may be one that was idle too long.
            log.log(told, "The audit service takes no events; they wait: %s", why)
            self._told = kind
        ceiling = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(self._failures - 1, 20))
        wait_s = self._uniform(ceiling / 2, ceiling)
        hurried_s = min(wait_s, _HURRIED_WAIT_S)
        if asked_s is not None:
            asked_s = min(asked_s, _LONGEST_ASKED_S)
            wait_s, hurried_s = asked_s + wait_s, asked_s + hurried_s
            self._not_before = self._loop.time() + asked_s
        start = self._loop.time()
        if not any(not waiter.done() for _, _, waiter in self._waiting):
            self._hurry.clear()
        try:
            async with timeout(wait_s):
                await self._hurry.wait()
                await asyncio.sleep(start + hurried_s - self._loop.time())
        except TIMED_OUT:
            pass
        self._late = self._spool.last  # nobody took them while they waited

    async def _in_thread(self, do: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._reading, do)
