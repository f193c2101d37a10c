"""The manager's loops: how they end, begin anew, and keep from running hot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from jupyterhub_collab.constants import ANNOTATION_READY_HASH
from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.hubapi.client import GroupPage
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.informer import Change
from jupyterhub_collab.managers.tenancy import TenancyManager, TenancySettings
from jupyterhub_collab.managers.tenancy_brake import FightBrake
from jupyterhub_collab.managers.tenancy_desired import DesiredTeams
from jupyterhub_collab.managers.tenancy_rendered import RenderedTeams
from jupyterhub_collab.models import HubGroup, TeamSpec
from jupyterhub_collab.reconcile.engine import Engine, Outcome
from jupyterhub_collab.reconcile.objects import Manifest, ObjectKey, Owner
from tests.reconcile.fake_api import Cache, FakeApi
from tests.reconcile.test_engine_laws import RIGHTS
from tests.services.running import CONTEST, make_platform, team

PLATFORM = make_platform("hub", dataset_nfs=True)
SPACE = PLATFORM.namespace_prefix + "ocean"
OWNER = Owner(PLATFORM.hub_id, "ocean")
LIMITS = ObjectKey("LimitRange", SPACE, "team")
LONG_S = 10.0
GROUPS = {
    "contest.reef": HubGroup("contest.reef", {"collab": CONTEST}, ()),
    "ocean": HubGroup("ocean", team(), ()),
}


class View(Cache):
    """The caches, true whenever a pass begins."""

    def __init__(self, api: FakeApi) -> None:
        super().__init__(api, SPACE)
        self.listed = asyncio.Event()
        self.may_list = asyncio.Event()
        self.may_list.set()

    @property
    def is_synced(self) -> bool:
        return self.listed.is_set()

    def invalidate(self) -> None:
        self.listed.clear()

    async def wait_synced(self) -> None:
        await self.listed.wait()

    async def run(self) -> None:
        await self.may_list.wait()
        self.sync()
        self.listed.set()
        await asyncio.Event().wait()

    def namespace_of(self, _team: str) -> Manifest | None:
        found = self._known.get(ObjectKey("Namespace", "", SPACE))
        return found if found is not None and OWNER.owns(found) else None

    def ready_hash_of(self, _team: str) -> str | None:
        found = self._known.get(RIGHTS, {"metadata": {}})
        annotations = found["metadata"].get("annotations") or {}
        return annotations.get(ANNOTATION_READY_HASH)

    def teams(self) -> set[str]:
        return {"ocean"} if self.namespace_of("ocean") else set()


class Groups:
    """The hub's groups; `fault` is what the next list comes to instead."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.lists = 0
        self.asked: list[str] = []
        self.groups = dict(GROUPS)

    async def list_groups(self) -> Mapping[str, HubGroup]:
        self.lists += 1
        if self.fault is not None:
            raise self.fault
        return dict(self.groups)

    async def read_group(self, name: str) -> HubGroup | None:
        self.asked.append(name)
        return self.groups.get(name)

    async def read_page(self, offset: int, limit: int) -> GroupPage:
        self.asked.append(f"{offset}+{limit}")
        items = list(self.groups.values())[offset : offset + limit]
        return GroupPage(tuple(items), len(self.groups), None)


class World:
    """A manager and all it works with; time stands still but for what a test adds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.api = FakeApi()
        self.view = View(self.api)
        self.groups = Groups()
        self.may_poll = asyncio.Event()
        self.passes: list[Outcome | None] = []
        view: Any = self.view
        self.manager = TenancyManager(
            Engine(self.api, view),
            view,
            self.groups,
            PLATFORM,
            settings=TenancySettings(poll_s=1.0),
            on_pass=lambda _team, _seconds, outcome: self.passes.append(outcome),
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def drift(self) -> None:
        """A watch tells that something of the team is gone."""
        self.manager.on_drift("ocean", Change(kinds.LIMIT_RANGE, {}, None))

    async def _sleep(self, _seconds: float) -> None:
        await self.may_poll.wait()
        await asyncio.sleep(0)

    async def until(self, check: Callable[[], bool]) -> None:
        async def look() -> None:
            while not check():  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0)

        await asyncio.wait_for(look(), LONG_S)

    def knows(self) -> bool:
        return self.manager.is_ready

    def is_ready(self) -> bool:
        status = self.manager.status("ocean")
        return status is not None and status.is_ready

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.manager.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_bug_in_the_poller_ends_the_run_and_comes_out(world: World) -> None:
    """Else teams would be healed for ever, and no change of a group ever be seen."""
    async with world.working() as run:
        await world.until(world.is_ready)
        world.groups.fault = AttributeError("a bug")
        world.may_poll.set()
        with pytest.raises(AttributeError, match="a bug"):
            await asyncio.wait_for(run, LONG_S)


async def test_many_groups_are_looked_at_by_small_pages(world: World) -> None:
    """Each alone would cost the hub four times as much, while others write there."""
    many = [f"t{n:02}" for n in range(60)]
    before = {name: HubGroup(name, team(tier="none"), ()) for name in many}
    world.groups.groups = {**before, **GROUPS}
    async with world.working():
        await world.until(world.knows)
        assert world.groups.asked == []
        after = {name: HubGroup(name, team(tier="no"), ()) for name in many[:40]}
        world.groups.groups.update(after)
        assert await world.manager.refresh_groups(many[:40]) == set(many[:40])
        assert world.groups.asked == ["0+20", "20+20"]
        # What moved since, or is gone, is read alone.
        world.groups.asked.clear()
        for name in ("t00", "t39"):
            del world.groups.groups[name]
        after = {name: HubGroup(name, team(tier="nor"), ()) for name in many[20:39]}
        world.groups.groups.update(after)
        changed = await world.manager.refresh_groups(["t00", *many[20:40]])
        assert changed == {"t00", *many[20:40]}
        assert world.groups.asked == ["t00", "20+20", "t20", "t39"]


async def test_a_hub_that_answers_nonsense_is_asked_again(world: World) -> None:
    async with world.working() as run:
        await world.until(world.is_ready)
        world.groups.fault = PermanentError("no list of groups")
        world.may_poll.set()
        await world.until(lambda: world.groups.lists > 3)
        assert world.manager.hub_error == "no list of groups"
        world.groups.fault = None
        await world.until(lambda: world.manager.hub_error is None)
        assert not run.done()


async def test_after_the_lease_was_lost_nothing_is_known_until_it_is_read_anew(
    world: World,
) -> None:
    async with world.working():
        await world.until(world.is_ready)
        assert world.knows()
    world.view.may_list.clear()
    world.may_poll.clear()
    async with world.working():
        for _ in range(20):
            await asyncio.sleep(0)
        assert not world.knows()
        world.groups.fault = PermanentError("away")
        world.view.may_list.set()
        await world.until(lambda: world.manager.hub_error is not None)
        assert not world.knows()
        world.groups.fault = None
        world.may_poll.set()
        await world.until(world.knows)
        await world.until(world.is_ready)


async def test_a_fight_with_another_program_slows_down_and_is_told(world: World) -> None:
    def undo(verb: str, key: ObjectKey) -> None:
        if verb == "apply" and key == LIMITS:  # a moment after the answer, as a controller does
            asyncio.get_running_loop().call_soon(put_back)

    def put_back() -> None:
        world.api.objects[LIMITS]["spec"]["limits"] = []
        world.api._touch(world.api.objects[LIMITS])
        world.view.sync()
        world.drift()

    def is_told() -> bool:
        status = world.manager.status("ocean")
        return status is not None and any(c.type == "Contested" for c in status.conditions)

    async with world.working():
        await world.until(world.is_ready)
        world.api.on_write = undo
        put_back()
        await world.until(is_told)
        fought = len(world.passes)
        assert fought <= 25
        for _ in range(200):  # the clock stands still: nothing is answered
            world.drift()
            await asyncio.sleep(0)
        assert len(world.passes) == fought
        # The other program gives up: a while later all is as it should be, and nothing is told.
        world.api.on_write = lambda _verb, _key: None
        world.now += 120.0
        world.drift()
        await world.until(lambda: len(world.passes) > fought)
        await world.until(lambda: world.is_ready() and not is_told())
        assert world.api.objects[LIMITS]["spec"]["limits"] != []


@pytest.mark.parametrize(
    ("times", "is_fight"),
    [
        ([0.0] * 20, False),
        ([0.0] * 21, True),
        ([float(i * 3) for i in range(21)], True),
        ([float(i * 4) for i in range(40)], False),
    ],
)
def test_what_counts_as_a_fight(times: list[float], is_fight: bool) -> None:
    brake = FightBrake()
    for now in times:
        told = brake.wrote("ocean", now)
    assert (told is not None) == is_fight


@pytest.mark.parametrize(("retention", "is_urgent"), [("keep", True), ("destroy", False)])
async def test_the_end_of_a_contest_goes_before_nobody(
    world: World, retention: str, is_urgent: bool
) -> None:
    """What is taken from a standing team is healed at once; what goes with its end is bulk work."""
    ocean = GROUPS["ocean"]
    corner = {**ocean.properties["collab"], "retention": retention}
    doomed = HubGroup("ocean", {"collab": corner}, ocean.users)
    manager: Any = world.manager
    manager._desired.replace_all([*GROUPS.values(), doomed], asked_at=0.0)
    manager._started = True
    world.drift()
    urgent = manager._queue.take(0.0, urgent_only=True)
    assert urgent == ("ocean" if is_urgent else None)
    assert is_urgent or manager._queue.take(0.0) == "ocean"


def test_a_spec_is_written_out_once_to_be_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = DesiredTeams()
    groups.replace_all(GROUPS.values(), asked_at=0.0)
    spec = groups.spec_of("ocean")
    written: list[TeamSpec] = []
    write = TeamSpec.to_canonical_json
    monkeypatch.setattr(
        TeamSpec, "to_canonical_json", lambda one: written.append(one) or write(one)
    )
    rendered = RenderedTeams(groups, PLATFORM).of_spec(spec)
    assert written == [spec]
    assert rendered.hash == spec.hash()
