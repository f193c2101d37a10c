"""Goes along courses: what is due is done, step by step, and saved after each.

A step that is killed is done again. Before each, the team's row is read and then the course: if
somebody undid the course in between, either the course is another one, or the row has another
generation and the step changes nothing (`StepWork.change_team`). What a step needs is in the rows
and on the hub, nothing in this process, so it may end at any moment.

Contests do not wait for one another: some places are kept free of each, whatever its number of
teams. What fails is tried again ever more seldom, and says so in the course's row, which the host's
page shows. It must not decide anything: actions do, those of the clock too.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from ..auditapi import Recorder
from ..errors import CollabError, RetryableError
from ..hubapi.client import HubClient
from ..hubapi.provisioner import ProvisionerClient
from ..models.contest_life import ContestRecord, Course, TeamRecord
from ..policy.contest_courses import next_step, steps_of
from ..reconcile.backoff import Backoff
from ..storage.contests import ContestStore, StaleError, UnreadableError
from .contest_pause import Pause
from .contest_statuses import TeamStatuses
from .contest_steps import GroupWriter, StepHandlers, StepResult, StepSettings, StepWork

AT_ONCE: Final = 24
LOOK_S: Final = 5.0  # at most between two looks, so that a clock that jumps costs no more than that
GRACE_S: Final = 10.0  # at the end, for steps that are being done
STALE_TRIES: Final = 3
_TEXT_MAX: Final = 500

log = logging.getLogger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True)
class WorkerSettings:
    """How the worker works.

    Attributes
    ----------
    at_once
        Steps that are done at the same time.
    kept_free
        Places that no contest alone may take.
    waiting, failing
        How long until a step that waits, and one that failed, is done again.
    """

    at_once: int = AT_ONCE
    kept_free: int = 6
    waiting: Backoff = Backoff(first_s=1.0, longest_s=30.0)  # noqa: RUF009 - frozen
    failing: Backoff = Backoff(first_s=2.0, longest_s=300.0)  # noqa: RUF009 - frozen


class ContestWorker:
    """One for a registry.

    Parameters
    ----------
    handlers
        What does each step.
    now
        The clock, in UTC.
    sleep
        Waits so many seconds.
    on_transition
        Called when a transition was written.
    """

    def __init__(
        self,
        store: ContestStore,
        hub: HubClient,
        provisioner: ProvisionerClient,
        groups: GroupWriter,
        handlers: StepHandlers,
        *,
        recorder: Recorder,
        now: Callable[[], datetime],
        statuses: TeamStatuses | None = None,
        settings: WorkerSettings | None = None,
        steps: StepSettings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        on_transition: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._hub, self._provisioner = store, hub, provisioner
        self._on_transition = on_transition
        self._groups, self._handlers = groups, handlers
        self._recorder, self._now, self._sleep = recorder, now, sleep
        self._statuses = statuses or TeamStatuses(provisioner)
        self._settings, self._steps = settings or WorkerSettings(), steps or StepSettings()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._failures: dict[Key, int] = {}  # in a row; a step's attempts count its waits as well
        self._pause = Pause(sleep)
        self._crash: BaseException | None = None

    # -- the loop -----------------------------------------------------------------------------

    def wake(self) -> None:
        """Something was committed: look now."""
        self._pause.cut()

    async def run(self) -> None:
        """Work until cancelled; what is being done then has some seconds to end."""
        failures = 0
        try:
            while True:
                self._pause.begin()
                try:
                    await self._fill()
                    wait_s = await self._until_due()
                    failures = 0
                except RetryableError as error:
                    failures += 1
                    wait_s = self._settings.failing.delay_s(failures)
                    log.warning("The contests' database does not answer: %s", error)
                except Exception:  # of one row, say: the service has other things to do as well
                    failures += 1
                    wait_s = self._settings.failing.delay_s(failures)
                    log.exception("Courses wait")
                await self._pause.wait(wait_s)
        finally:
            await self._stop()

    async def run_due(self) -> int:
        """Do all that is due now, and what that makes due; how many courses were gone along.

        What ends a course's task ends this too.
        """
        done = 0
        while True:
            done += await self._fill()
            if not self._running:
                return done
            await asyncio.wait(self._running.values(), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # those that ended take themselves out
            if self._crash is not None:
                raise self._crash

    async def _fill(self) -> int:
        """Begin what is due, as far as there is room. How many."""
        room = self._settings.at_once - len(self._running)
        if room <= 0:
            return 0
        most = max(1, self._settings.at_once - self._settings.kept_free)
        of_contest = Counter(contest for contest, _ in self._running)
        begun = 0
        # What runs is due as well, so there is more to look through than there is room.
        for course in await self._store.due_courses(
            self._now(), limit=self._settings.at_once + len(self._running)
        ):
            key = (course.contest, course.team)
            if key in self._running or of_contest[course.contest] >= most:
                continue
            if begun == room:
                break
            begun += 1
            of_contest[course.contest] += 1
            task = asyncio.create_task(self._go_along(*key))
            self._running[key] = task
            task.add_done_callback(lambda _task, key=key: self._ended(key))  # type: ignore[misc]
        return begun

    def _ended(self, key: Key) -> None:
        task = self._running.pop(key)
        if not task.cancelled() and task.exception() is not None:
            self._crash = task.exception()
            log.error("A course could not be gone along", exc_info=self._crash)
        self._pause.cut()

    async def _until_due(self) -> float:
        """Seconds until something is due, at most until the next look anyhow."""
        due = await self._store.next_due()
        if due is None:
            return LOOK_S
        wait_s = (due - self._now()).total_seconds()
        # What is due and was not begun waits for a place: its end wakes.
        return LOOK_S if wait_s <= 0 else min(LOOK_S, wait_s)

    async def _stop(self) -> None:
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=GRACE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- a course -----------------------------------------------------------------------------

    async def _go_along(self, contest: str, team: str) -> None:
        """As `_go`; a database that does not answer is left alone for a while."""
        try:
            await self._go(contest, team)
        except CollabError as error:
            log.warning("A course waits: contest=%s team=%s: %s", contest, team, error)
            await self._sleep(self._settings.failing.delay_s(1))

    async def _go(self, contest: str, team: str) -> None:
        """Go along one course until it waits, ends, or was replaced."""
        stale = 0
        while True:
            # In this order: see the module's text.
            try:
                team_record = await self._store.team(team) if team else None
                record = await self._store.contest(contest)
            except UnreadableError as error:
                course = await self._store.course(contest, team)
                if course is not None:
                    await self._failed(course, error)
                return
            course = await self._store.course(contest, team)
            now = self._now()
            if course is None or record is None or course.due_at > now:
                if course is None:
                    self._failures.pop((contest, team), None)
                return
            try:
                is_on = await self._do(course, record, team_record, now)
            except StaleError as error:
                stale += 1
                if stale < STALE_TRIES:
                    continue
                await self._failed(course, error)
                return
            except (CollabError, asyncio.TimeoutError) as error:
                await self._failed(course, error)
                return
            except Exception as error:
                log.exception("A step failed: contest=%s team=%s", contest, team)
                await self._failed(course, error, is_ours=True)
                return
            if not is_on:
                return
            stale = 0

    async def _do(
        self, course: Course, contest: ContestRecord, team: TeamRecord | None, now: datetime
    ) -> bool:
        """Do the step that is next. Whether the course goes on at once."""
        step = next_step(course)
        if step is None:  # of an older version that had more of them
            await self._store.step_done(course, due_at=None, at=now)
            return False
        moment = course.times.get(step)
        if moment is not None and moment > now:
            await self._store.step_failed(course, "", due_at=moment)
            return False
        handler = self._handlers.get(step)
        if handler is None:
            raise CollabError(f"This version cannot do the step {step.value}.")
        work = StepWork(
            course=course,
            contest=contest,
            team=team,
            now=now,
            store=self._store,
            hub=self._hub,
            provisioner=self._provisioner,
            statuses=self._statuses,
            groups=self._groups,
            recorder=self._recorder,
            settings=self._steps,
        )
        result = await handler(work)
        if result.times:
            course = replace(course, times={**course.times, **result.times})
        if result.is_done:
            is_on = await self._done(course, result)
        else:
            await self._waits(course, result)
            is_on = result.wait == timedelta(0)
        self._failures.pop((course.contest, course.team), None)
        return is_on

    async def _done(self, course: Course, result: StepResult) -> bool:
        now = self._now()
        steps = steps_of(course.kind)
        following = steps[course.step + 1] if course.step + 1 < len(steps) else None
        due_at = None
        if following is not None:
            due_at = max(now, course.times.get(following, now))
        is_written = await self._store.step_done(
            course,
            due_at=due_at,
            at=now,
            transition=result.transition,
            team_values=result.team_values,
            contest_values=result.contest_values,
        )
        if is_written and result.transition is not None:
            self._on_transition()
        return is_written and due_at is not None and due_at <= now

    async def _waits(self, course: Course, result: StepResult) -> None:
        wait = result.wait
        if wait is None:
            wait = timedelta(seconds=self._settings.waiting.delay_s(course.attempts + 1))
        await self._store.step_failed(course, result.why, due_at=self._now() + wait)

    async def _failed(self, course: Course, error: Exception, *, is_ours: bool = False) -> None:
        asked_s = error.retry_after_s if isinstance(error, RetryableError) else None
        key = (course.contest, course.team)
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait_s = self._settings.failing.delay_s(failures, asked_s=asked_s)
        said = str(error) or type(error).__name__
        if is_ours:  # nobody knows what stands in such a text
            said = f"{type(error).__name__}; the service's log says more"
        due_at = self._now() + timedelta(seconds=wait_s)
        log.warning(
            "A step failed and is tried again: contest=%s team=%s step=%s: %s",
            course.contest,
            course.team,
            course.step,
            said,
        )
        await self._store.step_failed(course, said[:_TEXT_MAX], due_at=due_at)
