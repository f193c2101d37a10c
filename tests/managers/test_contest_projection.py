"""Bringing a hub's groups after the registry: whatever is in the way, and whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.errors import PermanentError, SpecError
from jupyterhub_collab.hubapi.errors import HubUnavailableError
from jupyterhub_collab.managers.contest_statuses import FEW, TeamStatuses
from jupyterhub_collab.models import HubDecider, HubGroup, NamedIdentity
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.problems import to_document
from tests.managers.contest_world import BEGIN, World, manifest

ACTIVE = TeamState.ACTIVE


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


async def put(world: World, *teams: str, **rosters: tuple[Any, ...]) -> None:
    record = ContestRecord("sea", manifest(), ContestState.RUNNING, round=1)
    rows = [TeamRecord(t, "sea", ACTIVE, tier="small", round=1) for t in (*teams, *rosters)]
    await world.put(record, rows, rosters)


async def settle(world: World) -> Any:
    _, projection = world.parts()
    while await projection.sweep():
        pass
    return projection


async def dirty(world: World) -> list[str]:
    contests, teams = await world.store.unprojected(limit=1000)
    return [row.id for row in (*contests, *teams)]


async def test_the_contest_s_group_is_there_before_its_teams(world: World) -> None:
    await put(world, ocean=("ada", "bob"), reef=("cleo",))
    await settle(world)
    writes = [call for call in world.hub.calls if call.startswith("put_properties")]
    assert writes[0] == "put_properties contest.sea"
    assert world.hub.groups["ocean"].users == ("ada", "bob")
    assert world.hub.gate_of("reef") == "open"
    assert await dirty(world) == []
    world.hub.calls.clear()
    assert not await (await settle(world)).sweep()
    assert world.hub.calls == [], "what is right costs nothing"
    assert {"contest.sea", "ocean", "reef"} <= set(world.provisioner.nudged)


async def test_a_closed_round_is_one_write(world: World) -> None:
    await put(world, *(f"t{i}" for i in range(30)))
    await settle(world)
    world.hub.calls.clear()
    contest = await world.store.contest("sea")
    assert contest is not None
    await world.store.put_contest(
        replace(contest, state=ContestState.JUDGING), [], {},
        expected_generation=contest.generation, by="h", at=world.now,
    )  # fmt: skip
    await settle(world)
    assert [c for c in world.hub.calls if " " in c] == ["put_properties contest.sea"]
    assert world.hub.gate_of("t7") == "frozen"


async def test_many_teams_are_written_in_batches(world: World) -> None:
    await put(world, *(f"t{i}" for i in range(250)))
    await settle(world)
    assert len(world.hub.groups) == 251
    assert await dirty(world) == []


async def test_a_change_in_the_middle_of_a_write_is_not_lost(world: World) -> None:
    await put(world, ocean=("ada",))
    await settle(world)
    await world.store.update_team("ocean", {"title": "One"})
    changed = []
    original = world.hub.put_properties

    async def put_and_change(name: str, properties: Any) -> None:
        await original(name, properties)
        if not changed:
            changed.append(await world.store.update_team("ocean", {"title": "Two"}))

    world.hub.put_properties = put_and_change  # type: ignore[method-assign]
    await settle(world)
    assert world.hub.corner("ocean")["title"] == "Two"
    assert await dirty(world) == []


async def test_a_group_that_is_not_ours_keeps_none_of_the_others(world: World) -> None:
    theirs = HubGroup("reef", {"other": True}, ("zoe",))
    world.hub.groups["reef"] = theirs
    await put(world, ocean=("ada",), reef=("bob",))
    projection = await settle(world)
    assert world.hub.groups["reef"] == theirs
    assert world.hub.groups["ocean"].users == ("ada",)
    assert await dirty(world) == ["reef"]
    assert "this project did not make" in projection.problems()["reef"]
    running = asyncio.create_task(projection.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert projection.problems() == {}, "another process has the work, and knows"
    with pytest.raises(SpecError):
        await projection.bring_team("reef")
    del world.hub.groups["reef"]
    await projection.bring_team("reef")
    assert world.hub.groups["reef"].users == ("bob",)


async def test_trouble_with_many_does_not_hide_what_is_behind_them(world: World) -> None:
    for i in range(120):
        world.hub.groups[f"a{i}"] = HubGroup(f"a{i}", {"other": True}, ())
    await put(world, *(f"a{i}" for i in range(120)), "zebra")
    projection = await settle(world)
    for _ in range(4):
        await projection.sweep()
    assert "zebra" in world.hub.groups
    assert "zebra" not in await dirty(world)


async def test_a_fault_of_ours_costs_one_group(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(world, "ocean", "reef")
    put_properties = world.hub.put_properties

    async def broken(name: str, properties: Any) -> None:
        if name == "ocean":
            raise KeyError("secret-value")
        await put_properties(name, properties)

    monkeypatch.setattr(world.hub, "put_properties", broken)
    projection = await settle(world)
    assert await dirty(world) == ["ocean"]
    assert "fault" in projection.problems()["ocean"]
    assert "secret-value" not in str(projection.problems())


async def test_a_hub_that_is_away_leaves_rows_dirty(world: World) -> None:
    await put(world, ocean=("ada",))

    def away(name: str) -> None:
        raise HubUnavailableError("no answer")

    world.hub.fail = away
    projection = await settle(world)
    assert await dirty(world) == ["sea", "ocean"]
    with pytest.raises(HubUnavailableError):
        await projection.bring_team("ocean")
    world.hub.fail = lambda name: None
    await projection.bring_team("ocean")
    assert await dirty(world) == []


async def test_who_is_not_on_the_hub_yet_or_any_more_has_no_group(world: World) -> None:
    record = ContestRecord("sea", manifest(), ContestState.RUNNING, round=1)
    teams = [TeamRecord("new", "sea", tier="small"), TeamRecord("old", "sea", ACTIVE, tier="small")]
    await world.put(record, teams)
    await settle(world)
    assert sorted(world.hub.groups) == ["contest.sea", "old"]
    contest, old = await world.store.contest("sea"), await world.store.team("old")
    assert contest is not None
    assert old is not None
    gone = replace(old, state=TeamState.DESTROYED)
    await world.store.put_contest(
        contest, [gone], {}, expected_generation=contest.generation, by="h", at=world.now
    )
    await settle(world)
    assert sorted(world.hub.groups) == ["contest.sea"]
    assert await dirty(world) == []


async def test_another_contest_s_group_is_not_forgotten(world: World) -> None:
    await put(world, ocean=())
    projection = await settle(world)
    with pytest.raises(PermanentError, match="not a team of the contest lake"):
        await projection.forget_team("ocean", "lake")
    assert "ocean" in world.hub.groups
    await projection.forget_team("ocean", "sea")
    await projection.forget_team("ocean", "sea")
    assert "ocean" not in world.hub.groups


async def test_where_the_hub_decides_rosters_are_written_and_told_of(world: World) -> None:
    world.hub.decider = HubDecider(frozenset({"portal"}))
    who = NamedIdentity(issuer="portal", subject="17")
    await put(world, ocean=("ada", who))
    await settle(world)
    assert world.hub.corner("ocean")["members"] == [{"issuer": "portal", "subject": "17"}, "ada"]
    assert world.hub.groups["ocean"].users == ()
    assert world.hub.calls.count("project_rosters") == 1
    world.hub.calls.clear()
    await world.store.update_team("ocean", {"title": "Ocean"})
    await settle(world)
    assert "project_rosters" not in world.hub.calls, "nobody came and nobody went"


async def test_who_has_not_accepted_the_agreement_is_in_no_group(world: World) -> None:
    agreement = {"version": "1", "text": "Rules."}
    wire = manifest().to_wire() | {"registration": {"tier": "small", "agreement": agreement}}
    wire.pop("teams", None)
    rules = to_document(type(manifest()), wire)
    record = ContestRecord("sea", rules, ContestState.RUNNING, round=1)
    team = TeamRecord("ocean", "sea", ACTIVE, tier="small", round=1)
    await world.put(record, [team], {"ocean": ("ada", "bob")})
    await settle(world)
    assert world.hub.groups["ocean"].users == ()
    await world.store.accept_agreement("sea", "1", "bob", entry="bob", at=BEGIN)
    await settle(world)
    assert world.hub.groups["ocean"].users == ("bob",)


async def test_taking_away_a_tier_leaves_no_team_without_settings(world: World) -> None:
    await put(world, ocean=("ada",), reef=("bob",))
    await settle(world)
    contest = await world.store.contest("sea")
    assert contest is not None
    wire = manifest().to_wire()
    wire["tiers"]["tiny"] = wire["tiers"].pop("small")
    changed = to_document(type(manifest()), wire)
    teams = [
        replace(team, tier="tiny")
        for team in await world.store.teams("sea")
    ]  # fmt: skip
    await world.store.put_contest(
        replace(contest, manifest=changed), teams, {},
        expected_generation=contest.generation, by="h", at=world.now,
    )  # fmt: skip
    original = world.hub.put_properties

    async def put_and_look(name: str, properties: Any) -> None:
        await original(name, properties)
        for team in ("ocean", "reef"):
            world.hub.gate_of(team)  # raises where its settings are not valid

    world.hub.put_properties = put_and_look  # type: ignore[method-assign]
    await settle(world)
    assert world.hub.corner("reef")["tier"] == "tiny"
    assert list(world.hub.corner("contest.sea")["tiers"]) == ["large", "tiny"]
    assert await dirty(world) == []


async def test_a_lost_projection_is_written_again(world: World) -> None:
    await put(world, ocean=("ada",), reef=())
    await settle(world)
    before = dict(world.hub.groups)
    world.hub.groups.clear()
    await world.store.forget_projection()
    await settle(world)
    assert world.hub.groups == before


async def test_thousands_who_wait_are_answered_by_one_list() -> None:
    now = [0.0]

    class Provisioner:
        lists = 0
        looks = 0

        async def read_team(self, team: str) -> dict[str, str]:
            self.looks += 1
            return {"team": team}

        async def list_teams(self, contest: str) -> dict[str, dict[str, str]]:
            self.lists += 1
            now[0] += 1.0  # so long it takes
            return {f"t{i}": {"team": f"t{i}"} for i in range(5000)}

    provisioner = Provisioner()
    statuses = TeamStatuses(provisioner, clock=lambda: now[0])
    for i in range(5000):
        assert await statuses.of("sea", f"t{i}") == {"team": f"t{i}"}
    assert provisioner.looks == FEW
    assert provisioner.lists == 1
    assert await statuses.of("sea", "none") is None
    now[0] += 20.0
    for i in range(100):
        await statuses.of("sea", f"t{i}")
    assert (provisioner.looks, provisioner.lists) == (2 * FEW, 2)
