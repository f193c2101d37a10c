"""The manager on the way down: who decides, what stands until then, what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jupyterhub_collab.constants import ANNOTATION_DESTROY, POLICY_DENY_ALL
from jupyterhub_collab.managers.tenancy_status import TeamStatus
from jupyterhub_collab.models import HubGroup
from jupyterhub_collab.reconcile.objects import ObjectKey
from tests.services.running import CONTEST, team
from tests.services.test_tenancy_manager import SPACE, World

NAMESPACE = ObjectKey("Namespace", "", SPACE)
VOLUME = ObjectKey("PersistentVolume", "", f"{SPACE}.sea")
SEA = {"title": "Sea", "everyTeam": True, "size": "1Gi", "nfs": {"server": "s", "path": "/x"}}
DENY_ALL = ObjectKey("NetworkPolicy", SPACE, POLICY_DENY_ALL)


@pytest.fixture
async def world() -> World:
    made = World()
    made.may_poll.set()
    return made


def decide(world: World, **more: Any) -> None:
    """The team's group says so."""
    world.groups.groups["ocean"] = HubGroup("ocean", team(generation=2, **more), ())


def release(world: World, contest: str = "reef") -> None:
    """The cluster's administrator says so of all that the team has; `contest` "": takes it back."""
    for key in (NAMESPACE, VOLUME):
        if key in world.api.objects:
            found = world.api.objects[key]
            found["metadata"].setdefault("annotations", {})[ANNOTATION_DESTROY] = contest
            world.api._touch(found)
    world.view.sync()
    world.drift()


def look(world: World) -> TeamStatus | None:
    """The team's status, once the cluster's controllers did what they have to do now."""
    before = dict(world.api.objects)
    world.api.control_deletions()
    if world.api.objects != before:
        world.view.sync()
        world.drift()
    return world.manager.status("ocean")


async def until(world: World, state: str) -> dict[str, str]:
    """Wait until that is the team's state, the cluster's controllers at work; its conditions."""

    await world.until(lambda: (status := look(world)) is not None and status.state.value == state)
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
        assert f"{ANNOTATION_DESTROY}=reef" in told["NotReleased"]
        release(world, "atoll")
        await turns()
        assert deletions(world) == []
        release(world)
        told = await until(world, "destroyed")
        assert list(told) == ["Ready"]
        assert deletions(world) == [NAMESPACE]
        assert world.api.objects == {}
        world.api.requests.clear()
        world.drift()
        await turns()
        assert world.api.requests == [], "what is gone costs nothing"


async def test_a_release_alone_destroys_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
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
        world.drift()
        await world.until(lambda: DENY_ALL in world.api.objects)
        world.api.requests.clear()
        world.drift()
        await turns()
        assert world.api.requests == [], "nobody is asked again and again"
        decide(world)
        await until(world, "ready")


@pytest.mark.parametrize("how", ["key taken away", "policy refuses", "role refuses"])
async def test_what_is_gone_is_not_made_anew_where_a_volume_is_held_back(
    world: World, how: str
) -> None:
    reef = {"collab": {**CONTEST, "datasets": {"sea": SEA}}}
    world.groups.groups["contest.reef"] = HubGroup("contest.reef", reef, ())
    async with world.working():
        await world.until(world.is_ready)
        world.api.bind()
        release(world)
        words = {
            "key taken away": "",
            "policy refuses": "ValidatingAdmissionPolicy 'x' denied request: no",
            "role refuses": "cannot delete resource",
        }[how]

        def admit(verb: str, obj: dict[str, Any]) -> str:
            return words if verb == "delete" and obj["kind"] == VOLUME.kind else ""

        world.api.admit = admit
        decide(world, retention="destroy")
        await world.until(lambda: NAMESPACE in deletions(world))
        if how == "key taken away":
            release(world, "")
        kind = "Refused" if how == "role refuses" else "NotReleased"

        def is_told() -> bool:
            status = look(world)
            return status is not None and kind in {c.type for c in status.conditions}

        await world.until(is_told)
        await turns()
        assert list(world.api.objects) == [VOLUME]
        told = await until(world, "destroying")
        assert VOLUME.kind in told[kind]
        assert "Nothing was deleted" not in told[kind]
        if kind == "NotReleased":
            assert f"{VOLUME}, of a data set. The namespace is gone" in told[kind]
        if how == "key taken away":
            release(world)
            await until(world, "destroyed")
            assert world.api.objects == {}


async def test_a_namespace_without_our_labels_is_not_called_destroyed(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
        space = world.api.objects[NAMESPACE]
        ours, space["metadata"]["labels"] = space["metadata"]["labels"], {"mine": "yes"}
        world.api._touch(space)
        world.view.sync()
        decide(world, retention="destroy")
        told = await until(world, "failed")
        assert "does not bear this project's labels" in told["NotOurs"]
        assert deletions(world) == []
        space["metadata"]["labels"] = ours
        world.api._touch(space)
        world.view.sync()
        world.drift()
        await until(world, "destroyed")


@pytest.mark.parametrize("word", ["destory", "", "Destroy", None, True, ["destroy"]])
async def test_a_decision_that_is_none_decides_nothing(world: World, word: object) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
        decide(world, retention=word)
        told = await until(world, "failed")
        assert "retention" in told["SpecInvalid"]
        assert deletions(world) == []


async def test_a_decision_among_fields_that_are_not_valid_decides_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
        decide(world, retention="destroy", gate="ajar")
        await until(world, "failed")
        assert deletions(world) == []


async def test_a_team_without_group_is_only_reported(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
        del world.groups.groups["ocean"]
        told = await until(world, "orphaned")
        assert "Orphaned" in told
        assert deletions(world) == []


async def test_a_team_goes_also_when_its_contest_is_gone_already(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        del world.groups.groups["contest.reef"]
        decide(world, retention="destroy")
        release(world)
        await until(world, "destroyed")


async def test_a_plan_tells_and_destroys_nothing(world: World) -> None:
    async with world.working():
        await world.until(world.is_ready)
        release(world)
        plan = world.manager.plan("ocean", team(retention="destroy"))
        assert [(step.action.value, step.key) for step in plan.steps] == [("delete", NAMESPACE)]
        await turns()
        assert world.is_ready()
