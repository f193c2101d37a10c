"""A pause lasts until its time is over or somebody cuts it short, and leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from jupyterhub_collab.managers.contest_pause import Pause


class Sleeper:
    """Sleeps until it is told that the time is over."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.is_over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.is_over.wait()


async def test_it_ends_with_its_time() -> None:
    sleeper = Sleeper()
    sleeper.is_over.set()
    await Pause(sleeper).wait(7.0)
    assert sleeper.asked == [7.0]


async def test_what_came_since_the_look_began_cuts_it_short() -> None:
    pause = Pause(Sleeper())
    pause.begin()
    pause.cut()
    await asyncio.wait_for(pause.wait(7.0), 20)
    pause.begin()
    waiting = asyncio.create_task(pause.wait(7.0))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not waiting.done(), "what came before was looked at"
    pause.cut()
    await asyncio.wait_for(waiting, 20)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    pause = Pause(Sleeper())
    waiting = asyncio.create_task(pause.wait(7.0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}
