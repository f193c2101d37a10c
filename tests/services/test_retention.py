"""The manager on the way down: who decides, what stands until then, what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jupyterhub_collab.constants import POLICY_DENY_ALL
from jupyterhub_collab.models import HubGroup
from jupyterhub_collab.reconcile.objects import ObjectKey
from tests.services.running import team
from tests.services.test_tenancy_manager import SPACE, World

NAMESPACE = ObjectKey("Namespace", "", SPACE)
DENY_ALL = ObjectKey("NetworkPolicy", SPACE, POLICY_DENY_ALL)


@pytest.fixture
async def world() -> World:
    made = World()
    made.may_poll.set()
    return made


def decide(world: World, **more: Any) -> None:
    """The team's group says so."""
    world.groups.groups["ocean"] = HubGroup("ocean", team(generation=2, **more), ())


def release(world: World, **decisions: str) -> None:
    """The cluster's administrator says so."""
    world.view.decisions = {key.replace("_", "."): value for key, value in decisions.items()}
    world.manager.on_release()


async def until(world: World, state: str) -> dict[str, str]:
    """Wait until that is the team's state, the cluster's controllers at work; its conditions."""

    def is_so() -> bool:
        before = dict(world.api.objects)
        world.api.control_deletions()
        if world.api.objects != before:
            world.view.sync()
            world.manager.on_drift("ocean")
        status = world.manager.status("ocean")
        return status is not None and status.state.value == state

    await world.until(is_so)
    status = world.manager.status("ocean")
    assert status is not None
    return {condition.type: condition.message for condition in status.conditions}


def deletions(world: World) -> list[ObjectKey]:
    return [key for verb, key in world.api.writes if verb == "delete"]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_both_have_to_say_so(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        decide(world, retention="destroy")
        told = await until(world, "destroying")
        assert "collab-retention" in told["NotReleased"]
        release(world, team_tide="destroy", contest_atoll="destroy")
        await turns()
        assert deletions(world) == []
        release(world, contest_reef="destroy")
        told = await until(world, "destroyed")
        assert list(told) == ["Ready"]
        assert deletions(world) == [NAMESPACE]
        assert world.api.objects == {}
        world.api.requests.clear()
        world.manager.on_drift("ocean")
        await turns()
        assert world.api.requests == [], "what is gone costs nothing"


async def test_a_release_alone_destroys_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world, team_ocean="destroy")
        lists = world.groups.lists
        await world.until(lambda: world.groups.lists > lists + 3)
        assert world.is_ready()
        assert deletions(world) == []


async def test_walls_stand_and_are_healed_until_the_cluster_lets_go(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        decide(world, retention="destroy")
        await until(world, "destroying")
        world.api._drop(DENY_ALL)
        world.view.sync()
        world.manager.on_drift("ocean")
        await world.until(lambda: DENY_ALL in world.api.objects)
        world.api.requests.clear()
        world.manager.on_drift("ocean")
        await turns()
        assert world.api.requests == [], "nobody is asked again and again"
        decide(world)
        await until(world, "ready")


@pytest.mark.parametrize("word", ["destory", "", "Destroy", None, True, ["destroy"]])
async def test_a_decision_that_is_none_decides_nothing(world: World, word: object) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world, team_ocean="destroy")
        decide(world, retention=word)
        told = await until(world, "failed")
        assert "retention" in told["SpecInvalid"]
        assert deletions(world) == []


async def test_a_decision_among_fields_that_are_not_valid_decides_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world, team_ocean="destroy")
        decide(world, retention="destroy", gate="ajar")
        await until(world, "failed")
        assert deletions(world) == []


async def test_a_team_without_group_is_only_reported(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world, team_ocean="destroy", contest_reef="destroy")
        del world.groups.groups["ocean"]
        told = await until(world, "orphaned")
        assert "Orphaned" in told
        assert deletions(world) == []


async def test_a_team_goes_also_when_its_contest_is_gone_already(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        del world.groups.groups["contest.reef"]
        decide(world, retention="destroy")
        release(world, team_ocean="destroy")
        await until(world, "destroyed")


async def test_a_plan_tells_and_destroys_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world, team_ocean="destroy")
        plan = world.manager.plan("ocean", team(retention="destroy"))
        assert [(step.action.value, step.key) for step in plan.steps] == [("delete", NAMESPACE)]
        await turns()
        assert world.is_ready()
