"""One process at a time does the contests' work: by clocks that are never compared."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from jupyterhub_collab.managers import contest_lease
from jupyterhub_collab.managers.contest_lease import DURATION_S, ContestLease
from jupyterhub_collab.storage.contest_lease import LeaseStore
from jupyterhub_collab.storage.contests import ContestStore, NotHolderError
from jupyterhub_collab.storage.database import DatabaseError


class Process:
    """One, with a clock of its own that passes only as it is told."""

    def __init__(self, engine: Engine, name: str, *, began: float) -> None:
        self.store = LeaseStore(engine)
        self.now = began
        self.lease = ContestLease(
            self.store, holder=name, clock=lambda: self.now, sleep=self._sleep
        )
        self.starts = self.ends = 0
        self.going = asyncio.Event()

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def work(self) -> None:
        self.starts += 1
        self.going.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ends += 1


async def until(condition: Callable[[], object]) -> None:
    """Turns of the loop, until it is so."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never was")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = create_engine(f"sqlite:///{tmp_path}/contests.sqlite")
    store = ContestStore(found)
    store.upgrade()
    store.close()
    yield found
    found.dispose()


@pytest.fixture
def two(engine: Engine) -> Iterator[tuple[Process, Process]]:
    both = Process(engine, "a", began=1000.0), Process(engine, "b", began=7.0)
    yield both
    for process in both:
        process.store.close()


async def test_the_second_stands_by_until_it_sees_nothing_of_the_first(two) -> None:
    a, b = two
    assert await a.lease.look()
    assert not await b.lease.look()
    b.now += DURATION_S - 0.1
    assert await a.lease.look()
    assert not await b.lease.look(), "a sign of life came between"
    b.now += DURATION_S - 0.1
    assert not await b.lease.look()
    b.now += 0.1
    assert await b.lease.look()
    assert (a.lease.term, b.lease.term) == (1, 2)
    assert not await a.lease.look()


async def test_who_was_stopped_for_a_while_is_not_sure_before_the_other_may_begin(two) -> None:
    a, b = two
    assert await a.lease.look()
    a.lease.check()
    assert not await b.lease.look()
    a.now += DURATION_S * 0.7
    b.now += DURATION_S * 0.7
    assert not await b.lease.look()
    with pytest.raises(NotHolderError):
        a.lease.check()
    assert await a.lease.look(), "and goes on if nobody did"
    a.lease.check()


async def test_who_took_it_and_was_not_told_has_it_at_once(two) -> None:
    a, b = two
    assert await a.store.take("a", None, duration_s=DURATION_S), "of which the answer is lost"
    assert not await b.lease.look()
    assert await a.lease.look()
    a.lease.check()
    assert a.lease.term == 2


async def test_an_orderly_end_lets_the_next_one_begin_at_once(two) -> None:
    a, b = two
    running = asyncio.create_task(a.lease.run(a.work))
    await a.going.wait()
    assert not await b.lease.look()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert (a.starts, a.ends) == (1, 1)
    assert not a.lease.is_held
    assert await b.lease.look()


async def test_work_ends_when_it_is_another_s_and_begins_again(two) -> None:
    a, b = two
    running = asyncio.create_task(a.lease.run(a.work))
    await a.going.wait()
    taken = await b.store.take("b", await b.store.read(), duration_s=DURATION_S)
    while taken is None:  # it was renewed at the same moment
        taken = await b.store.take("b", await b.store.read(), duration_s=DURATION_S)
    await until(lambda: a.ends)
    a.going.clear()
    await b.store.give_back(taken)
    await asyncio.wait_for(a.going.wait(), 20)
    assert (a.starts, a.lease.term) == (2, 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_work_that_breaks_ends_the_process_and_frees_the_place(two) -> None:
    a, b = two

    async def broken() -> None:
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await a.lease.run(broken)
    assert await b.lease.look()


async def test_a_database_that_is_away_takes_the_work_from_nobody(two, monkeypatch) -> None:
    a, _ = two
    running = asyncio.create_task(a.lease.run(a.work))
    await a.going.wait()
    asked = asyncio.Event()

    async def away(*_: object, **__: object) -> None:
        asked.set()
        raise DatabaseError("away")

    with monkeypatch.context() as patched:
        patched.setattr(a.store, "renew", away)
        await asked.wait()
        await until(lambda: not a.lease.is_held)
        assert (a.starts, a.ends) == (1, 0)
    await until(lambda: a.lease.is_held)
    assert (a.starts, a.ends, a.lease.term) == (1, 0, 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_dead_process_of_this_machine_is_not_waited_for(engine: Engine) -> None:
    code = "from jupyterhub_collab.kube.lease import make_identity; print(make_identity())"
    asked = [sys.executable, "-c", code]
    dead = subprocess.run(asked, capture_output=True, text=True, check=True, env=os.environ)
    gone, here = (
        Process(engine, dead.stdout.strip(), began=1.0),
        Process(engine, "here", began=1.0),
    )
    assert await gone.lease.look()
    assert await here.lease.look()
    for process in (gone, here):
        process.store.close()


def test_the_clock_goes_forward() -> None:
    assert contest_lease.seconds() <= contest_lease.seconds()
