"""Kills the contests service with SIGKILL at every step of every course, and others at some.

It looks at the registry's own rows, from outside: when a course is due at a step at which there was
no kill yet, the service is stopped for a moment (SIGSTOP), the rows are read once more, and if one
still is at such a step, the service is killed where it stands. `up` starts it again: at once if it
lived for a minute, later and later if not. So between two kills it has a minute to work in, but for
steps that come to one course alone and are gone at once. Besides, it is killed at random moments.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

import httpx

from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.cli.up.lease import read_live_holder
from jupyterhub_collab.hub.demo_settings import read_demo_settings
from jupyterhub_collab.models.contest_life import CourseKind, Step
from jupyterhub_collab.policy.contest_courses import steps_of

Pair = tuple[str, str]
"""A course's kind and one of its steps."""

SERVICE: Final = "contests"
LOOK_S: Final = 0.004  # a step takes some thousandths of a second at least: it is committed
CLOSE_LOOK_S: Final = 0.001  # the contest's own course comes once, a team's many times
CALM_S: Final = 61.0  # then `up` starts it again without a pause
PATIENCE_S: Final = 15.0  # for a moment at which several such steps are being done
RANDOM_S: Final = 120.0  # between kills at random moments, on average
#: Courses of many teams. What is a step of others alone comes a few times, for one course.
MANY: Final = (CourseKind.ADMIT, CourseKind.ADVANCE, CourseKind.ELIMINATE, CourseKind.DESTROY)
RARE: Final = {step.value for step in Step} - {s.value for kind in MANY for s in steps_of(kind)}
_QUERY: Final = """
    select kind, step, team = '', due_us <= ?, count(*) from contest_courses
    where contest = ? group by 1, 2, 3, 4
"""


@dataclass(frozen=True)
class Kill:
    """One kill: of which program, when, and at what steps courses were due just then."""

    part: str
    at_s: float
    why: str
    rows: Mapping[Pair, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Courses by what they are at.

    Attributes
    ----------
    due, there
        How many are due, and how many there are at all.
    has_own
        Whether the contest's own course is among them.
    """

    due: Mapping[Pair, int]
    there: frozenset[Pair]
    has_own: bool


class Killer(threading.Thread):
    """Kills until the end of the block.

    Parameters
    ----------
    also
        Other programs of the run, each to be killed once when a course is at this step.
    """

    def __init__(
        self, folder: DataFolder, contest: str, *, also: Iterable[tuple[Pair, str]], seed: int
    ) -> None:
        super().__init__(daemon=True)
        self._folder, self._contest, self._also = folder, contest, list(also)
        self._random = random.Random(seed)
        self._end = threading.Event()
        self._error: BaseException | None = None
        self.kills: list[Kill] = []
        self.covered: set[Pair] = set()
        self.began = time.monotonic()
        self._up_since = time.monotonic() - CALM_S
        self._next_random = self.began + self._random.expovariate(1 / RANDOM_S)

    @property
    def left(self) -> list[tuple[Pair, str]]:
        """Of `also`: who was not killed, since no course came to that step."""
        return self._also

    @property
    def steps(self) -> set[str]:
        """At which the service was killed, in whatever course."""
        return {step for _, step in self.covered}

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        self.join()
        if self._error is not None and error is None:
            raise self._error

    def run(self) -> None:
        file = self._folder.registry / "contests.sqlite"
        try:
            with closing(
                sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
            ) as connection:
                while not self._end.is_set():
                    rows = self._read(connection)
                    self._kill_others(rows)
                    if self._wants(rows):
                        self._kill_if_still(connection)
                    self._end.wait(CLOSE_LOOK_S if rows.has_own else LOOK_S)
        except BaseException as error:
            self._error = error

    def _read(self, connection: sqlite3.Connection) -> Rows:
        due: dict[Pair, int] = {}
        there, has_own = set(), False
        now_us = time.time_ns() // 1000
        for kind, number, is_own, is_due, count in connection.execute(
            _QUERY, (now_us, self._contest)
        ):
            steps = steps_of(CourseKind(kind))
            if number >= len(steps):
                continue
            pair = kind, steps[number].value
            there.add(pair)
            has_own = has_own or bool(is_own)
            # Nothing is ever done in this one but to wait for its moment.
            if is_due or steps[number] is Step.AWAIT_EXPORT:
                due[pair] = due.get(pair, 0) + count
        return Rows(due, frozenset(there), has_own)

    def _wants(self, rows: Rows) -> str:
        """Why the service should be killed now; empty: it should not."""
        fresh = {step for _, step in rows.due} - self.steps
        if fresh & RARE:
            return "a rare step at which there was no kill"
        now = time.monotonic()
        calm_s = now - self._up_since - CALM_S
        if calm_s > 0 and (len(fresh) > 1 or (fresh and calm_s > PATIENCE_S)):
            return "a step at which there was no kill"
        if calm_s > 0 and rows.due and now > self._next_random:
            return "at random"
        return ""

    def _kill_if_still(self, connection: sqlite3.Connection) -> None:
        pid = self._pid_of(SERVICE)
        if pid is None:
            return
        os.kill(pid, signal.SIGSTOP)
        rows = self._read(connection)
        why = self._wants(rows)
        if not why:
            os.kill(pid, signal.SIGCONT)
            return
        os.kill(pid, signal.SIGKILL)
        self.covered.update(rows.due)
        self._note(SERVICE, why, rows.due)
        self._next_random = time.monotonic() + self._random.expovariate(1 / RANDOM_S)
        self._wait_back(pid)

    def _kill_others(self, rows: Rows) -> None:
        for pair, part in list(self._also):
            pid = self._pid_of(part) if pair in rows.there else None
            if pid is not None:
                self._also.remove((pair, part))
                os.kill(pid, signal.SIGKILL)
                self._note(part, f"{pair[0]}: {pair[1]}", {})

    def _note(self, part: str, why: str, rows: Mapping[Pair, int]) -> None:
        kill = Kill(part, time.monotonic() - self.began, why, dict(rows))
        self.kills.append(kill)
        at = ", ".join(f"{kind}: {step} {count}" for (kind, step), count in sorted(rows.items()))
        print(f"{kill.at_s:8.1f} s  killed {part} ({why}) {at}", flush=True)

    def _pid_of(self, part: str) -> int | None:
        holder = read_live_holder(self._folder.lease(part))
        return None if holder is None else holder.pid

    def _wait_back(self, before: int) -> None:
        """Until another process of it answers: from then on it works."""
        url = read_demo_settings(self._folder.settings).contests_url
        while not self._end.wait(0.05):
            pid = self._pid_of(SERVICE)
            if pid is None or pid == before:
                continue
            with suppress(httpx.HTTPError):
                if httpx.get(f"{url}health", timeout=5).status_code == 200:
                    break
        self._up_since = time.monotonic()
