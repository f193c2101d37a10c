"""Groups are looked at before they are written: by pages where it is cheap, never too early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jupyterhub_collab.hubapi.errors import HubUnavailableError
from jupyterhub_collab.managers.contest_projection import Projection
from jupyterhub_collab.managers.group_reader import FRESH_S, MANY, PAGE, WORTH, GroupReader
from jupyterhub_collab.models import Gate, HubGroup
from jupyterhub_collab.models.contest_life import ContestRecord, ContestState, TeamRecord, TeamState
from tests.managers.contest_hub import FakeHub
from tests.managers.contest_world import BEGIN, World, manifest

OURS = {"collab": {"contest": "sea"}}
TEAMS = [f"t{i:03}" for i in range(250)]


class Clock:
    """Seconds, by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub() -> FakeHub:
    found = FakeHub(lambda: BEGIN)
    found.groups = {name: HubGroup(name, OURS, ()) for name in TEAMS}
    return found


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


async def located(hub: FakeHub, clock: Clock) -> GroupReader:
    """Knows where all are, and read it long ago."""
    reader = GroupReader(hub, clock=clock)
    while await reader.discover():
        pass
    clock.at += 60.0
    hub.calls.clear()
    return reader


async def test_many_on_one_page_are_one_call(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)
    wanted = TEAMS[:PAGE]
    look = reader.look(wanted)
    assert [await look.read(name) for name in wanted] == [hub.groups[name] for name in wanted]
    assert hub.calls == ["read_page"]


async def test_few_on_a_page_are_read_alone(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)
    wanted = TEAMS[: WORTH - 1]
    look = reader.look(wanted)
    assert [await look.read(name) for name in wanted] == [hub.groups[name] for name in wanted]
    assert hub.calls == ["read_group"] * (WORTH - 1)


async def test_what_is_read_to_learn_places_is_used(hub: FakeHub, clock: Clock) -> None:
    reader = GroupReader(hub, clock=clock)
    assert not reader.knows(TEAMS)
    assert reader.knows(TEAMS[: MANY - 1]), "few are not worth it"
    shown = list(await reader.discover())
    assert shown == TEAMS[:MANY]
    look = reader.look(shown)
    assert [await look.read(name) for name in shown] == [hub.groups[name] for name in shown]
    assert hub.calls == ["read_page"]
    clock.at += FRESH_S + 0.001
    hub.groups["t003"] = HubGroup("t003", {**OURS, "theirs": 1}, ())
    assert await look.read("t003") == hub.groups["t003"], "too old to be relied on"


async def test_only_what_came_since_is_looked_for(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)
    assert reader.knows(TEAMS)
    new = [f"u{i:03}" for i in range(MANY)]
    hub.groups.update((name, HubGroup(name, OURS, ())) for name in new)
    assert not reader.knows([*TEAMS, *new])
    assert list(await reader.discover()) == new
    assert reader.in_order([*new, *TEAMS]) == [*TEAMS, *new]
    assert not await reader.discover()


async def test_after_a_deletion_places_are_found_anew(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)
    del hub.groups["t000"]
    assert not await reader.discover(), "the end of the list: all others may have moved"
    assert not reader.knows(TEAMS)
    assert list(await reader.discover()) == TEAMS[1 : MANY + 1]


async def test_what_others_keep_in_a_group_is_read_right_before_it_is_written(
    hub: FakeHub, clock: Clock
) -> None:
    hub.groups["t003"] = HubGroup("t003", {**OURS, "theirs": 1}, ())
    reader = await located(hub, clock)
    look = reader.look(TEAMS[:PAGE], to_write=True)
    await look.read("t001")
    hub.groups["t003"] = HubGroup("t003", {**OURS, "theirs": 2}, ())
    found = await look.read("t003")
    assert found is not None
    assert found.properties["theirs"] == 2
    assert hub.calls == ["read_page", "read_group"]
    hub.calls.clear()
    assert await reader.look(TEAMS[:PAGE]).read("t003") == found
    assert hub.calls == ["read_page"], "who only reads takes what others keep as it is"


async def test_a_page_that_is_not_fresh_any_more_is_not_relied_on(
    hub: FakeHub, clock: Clock
) -> None:
    reader = await located(hub, clock)
    look = reader.look(TEAMS[:PAGE])
    await look.read("t001")
    clock.at += FRESH_S
    await look.read("t002")
    assert hub.calls == ["read_page"]
    hub.groups["t003"] = HubGroup("t003", {**OURS, "theirs": 1}, ())
    clock.at += 0.001
    assert await look.read("t003") == hub.groups["t003"]
    assert hub.calls == ["read_page", "read_group"]


async def test_a_page_is_as_old_as_its_question(hub: FakeHub, clock: Clock) -> None:
    """The hub may have looked at any moment until it answered."""
    reader = await located(hub, clock)
    original = hub.read_page

    async def slow(offset: int, limit: int) -> Any:
        found = await original(offset, limit)
        clock.at += FRESH_S + 0.001
        return found

    hub.read_page = slow  # type: ignore[method-assign]
    await reader.look(TEAMS[:PAGE]).read("t001")
    assert hub.calls == ["read_page", "read_group"]


async def test_groups_that_moved_and_groups_that_are_gone(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)
    for name in TEAMS[:PAGE]:
        del hub.groups[name]
        hub.groups[f"new-{name}"] = HubGroup(f"new-{name}", OURS, ())  # as many as before
    look = reader.look(TEAMS[: 2 * PAGE])
    assert await look.read("t000") is None, "gone, though its page is there"
    assert await look.read("t025") == hub.groups["t025"], "it is on the page before now"
    assert hub.calls == ["read_page", "read_group"]
    # What the page showed is known from then on.
    hub.calls.clear()
    assert await reader.look(TEAMS[PAGE : 2 * PAGE]).read("t027") == hub.groups["t027"]
    assert hub.calls == ["read_page"]


async def test_where_pages_are_not_given_groups_are_read_alone(hub: FakeHub, clock: Clock) -> None:
    reader = await located(hub, clock)

    tries = []

    def away(name: str) -> None:
        if name == "read_page":
            tries.append(name)
            raise HubUnavailableError("no pages today")

    hub.fail = away
    some = TEAMS[: 2 * PAGE]
    look = reader.look(some)
    for name in some:
        assert await look.read(name) == hub.groups[name]
    assert hub.calls == ["read_group"] * len(some)
    assert len(tries) == 1, "it is not asked for page after page"
    assert reader.knows(some), "nor taken for moved"
    other = GroupReader(hub, clock=clock)
    assert not await other.discover()
    assert await other.look(TEAMS).read("t001") == hub.groups["t001"]


async def put(world: World, teams: list[str]) -> None:
    record = ContestRecord("sea", manifest(), ContestState.RUNNING, round=1)
    rows = [TeamRecord(t, "sea", TeamState.ACTIVE, tier="small", round=1) for t in teams]
    await world.put(record, rows)


async def sweep_all(world: World, clock: Clock) -> Projection:
    projection = Projection(world.store, world.hub, world.provisioner, clock=clock)
    while await projection.sweep():
        pass
    return projection


async def test_an_action_on_all_teams_is_read_by_pages(world: World, clock: Clock) -> None:
    await put(world, TEAMS)
    await sweep_all(world, clock)
    # As they came to the hub, teams of a contest seldom are in the order of their ids.
    groups = world.hub.groups
    world.hub.groups = {name: groups[name] for name in sorted(groups, key=lambda n: n[::-1])}
    projection = Projection(world.store, world.hub, world.provisioner, clock=clock)
    for gate in (Gate.CLOSED, Gate.OPEN):
        for name in TEAMS:
            await world.store.update_team(name, {"gate": gate})
        clock.at += 60.0
        world.hub.calls.clear()
        while await projection.sweep():
            pass
        assert {world.hub.gate_of(name) for name in TEAMS} == {gate.value}
        assert await world.store.behind() == {}
        looks = {what: world.hub.calls.count(what) for what in ("read_page", "read_group")}
        if gate is Gate.CLOSED:  # by a process that knows nothing yet: six pages of 50
            assert looks["read_page"] <= 6
            assert looks["read_group"] <= 1
        else:  # the contest's group stands among them, so two batches meet in a page
            assert looks["read_page"] <= 13 + 2
            assert looks["read_group"] <= 2 * WORTH
    await projection.close()


async def test_what_others_write_meanwhile_stays(world: World, clock: Clock) -> None:
    """They write into a group in which they kept something, after its page was read."""
    await put(world, TEAMS)
    await sweep_all(world, clock)
    for name in TEAMS:
        group = world.hub.groups[name]
        world.hub.groups[name] = HubGroup(name, {**group.properties, "theirs": 1}, ())
        await world.store.update_team(name, {"gate": Gate.CLOSED})
    original = world.hub.read_page

    async def read_and_write(offset: int, limit: int) -> Any:
        found = await original(offset, limit)
        for group in found.items:
            now = world.hub.groups[group.name]
            world.hub.groups[group.name] = HubGroup(now.name, {**now.properties, "theirs": 2}, ())
        return found

    world.hub.read_page = read_and_write  # type: ignore[method-assign]
    await sweep_all(world, clock)
    assert {world.hub.groups[name].properties["theirs"] for name in TEAMS} == {2}
    assert {world.hub.gate_of(name) for name in TEAMS} == {"closed"}


async def test_new_teams_in_their_hundreds_are_looked_at_never(world: World, clock: Clock) -> None:
    await put(world, TEAMS)
    await sweep_all(world, clock)
    looks = {call for call in world.hub.calls if call.startswith(("read_page", "list_groups"))}
    assert looks == set()
    assert world.hub.calls.count("read_group") == 1, "the contest's"


async def test_thousands_of_rows_are_not_asked_for_one_by_one(world: World, clock: Clock) -> None:
    await put(world, TEAMS)
    begun: list[object] = []
    event.listen(world.engine, "begin", begun.append)
    await sweep_all(world, clock)
    assert await world.store.behind() == {}
    assert 0 < len(begun) < 60, "three batches, each some transactions"


async def test_a_slow_provisioner_does_not_keep_the_hub_waiting(world: World, clock: Clock) -> None:
    await put(world, TEAMS)
    is_free = asyncio.Event()
    nudge = world.provisioner.nudge

    async def slow(groups: Any) -> None:
        names = list(groups)
        if names != ["contest.sea"]:
            await is_free.wait()
        await nudge(names)

    world.provisioner.nudge = slow  # type: ignore[method-assign]
    projection = Projection(world.store, world.hub, world.provisioner, clock=clock)
    assert await asyncio.wait_for(projection.sweep(), 30)
    assert len(await world.store.behind()) == 150
    assert "t000" not in world.provisioner.nudged
    is_free.set()
    while await projection.sweep():
        pass
    assert set(world.provisioner.nudged) == {"contest.sea", *TEAMS}
    await projection.close()
