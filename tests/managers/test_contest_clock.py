"""What the clock does with contests: once, at its moment, and never against a host."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.errors import UserError
from jupyterhub_collab.managers import contest_clock
from jupyterhub_collab.managers.contest_clock import ContestClock
from jupyterhub_collab.models.contest_life import Action, ActionRequest, ContestRecord, ContestState
from jupyterhub_collab.policy.problems import to_document
from tests.managers.contest_world import BEGIN, World, manifest


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


class Door:
    """Does what it is asked for, once for a key."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.keys: set[str] = set()
        self.done: list[tuple[datetime, Action, str]] = []
        self.refuses = False

    async def act(self, contest: str, request: ActionRequest, *, by: str, key: str) -> Any:
        if self.refuses:
            raise UserError("not now")
        if key not in self.keys:
            self.keys.add(key)
            self.done.append((self.world.now, request.action, by))
            await self.world.act(contest, request.action)


async def scheduled(world: World) -> tuple[ContestClock, Door]:
    wire = manifest().to_wire()
    wire["rounds"][0] |= {"opens": "2027-03-02T00:00", "closes": "2027-03-28T02:30+01:00"}
    record = ContestRecord("sea", to_document(type(manifest()), wire))
    await world.put(record)
    door = Door(world)
    return ContestClock(world.store, door, now=lambda: world.now), door


async def test_a_round_opens_and_closes_by_the_contest_s_clock(world: World) -> None:
    clock, door = await scheduled(world)
    assert await clock.look() == 0
    world.now = datetime.fromisoformat("2027-03-01T22:59:59+00:00")
    assert await clock.look() == 0
    world.now += timedelta(seconds=1)  # midnight in Berlin
    assert await clock.look() == 1
    assert await clock.look() == 0
    world.now = datetime.fromisoformat("2027-03-28T01:30:00+00:00")
    await clock.look()
    assert [(action, by) for _, action, by in door.done] == [
        (Action.START, "clock"),
        (Action.CLOSE_ROUND, "clock"),
    ]
    contest = await world.store.contest("sea")
    assert contest is not None
    assert contest.state is ContestState.JUDGING


async def test_a_clock_that_jumps_and_a_process_that_dies_ask_once(world: World) -> None:
    clock, door = await scheduled(world)
    world.now += timedelta(days=2)
    await clock.look()
    world.now = BEGIN
    await clock.look()
    world.now += timedelta(days=3)
    again = ContestClock(world.store, door, now=lambda: world.now)
    await again.look()
    assert [action for _, action, _ in door.done] == [Action.START]


async def test_what_is_refused_is_asked_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    clock, door = await scheduled(world)
    world.now += timedelta(days=1)
    door.refuses = True
    assert await clock.look() == 0
    assert await clock.look() == 0
    assert caplog.text.count("not now") == 1
    door.refuses = False
    assert await clock.look() == 1


async def test_a_calendar_that_cannot_be_read_stops_no_other_contest_s(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock, door = await scheduled(world)
    wire = manifest().to_wire()
    wire["contest"]["id"] = "lake"  # looked at before sea
    await world.put(ContestRecord("lake", to_document(type(manifest()), wire)))
    due = contest_clock.due_actions

    def broken(contest: ContestRecord, *moments: Any, **more: Any) -> Any:
        if contest.id == "lake":
            raise KeyError("a zone that this machine has no more")
        return due(contest, *moments, **more)

    monkeypatch.setattr(contest_clock, "due_actions", broken)
    world.now = datetime.fromisoformat("2027-03-02T00:00:00+00:00")
    assert await clock.look() == 1
    assert [action for _, action, _ in door.done] == [Action.START]
    assert "contest lake" in caplog.text
