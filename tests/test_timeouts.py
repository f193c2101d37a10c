"""Limits on what is awaited, and loops that are told to end at the worst moment."""

from __future__ import annotations

import asyncio

import pytest

from jupyterhub_collab.timeouts import TIMED_OUT, timeout


async def test_a_limit_is_kept() -> None:
    with pytest.raises(TIMED_OUT):
        async with timeout(0.001):
            await asyncio.Event().wait()


async def test_what_is_in_time_is_had() -> None:
    async with timeout(5):
        assert await asyncio.sleep(0, "had") == "had"


async def test_none_is_no_limit() -> None:
    async with timeout(None):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(4))
async def test_a_loop_that_waits_ends_when_it_is_cancelled_just_as_it_wakes(turns: int) -> None:
    wake = asyncio.Event()

    async def run() -> None:
        while True:
            wake.clear()
            try:
                async with timeout(60):
                    await wake.wait()
            except TIMED_OUT:
                continue

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    wake.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done, "it runs on after it was cancelled"
    assert task.cancelled()
