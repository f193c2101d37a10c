"""Courses that are gone along by workers that die anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jupyterhub_collab.hubapi.errors import HubUnavailableError
from jupyterhub_collab.managers.contest_steps import StepResult, StepSettings
from jupyterhub_collab.models import Gate, HubGroup
from jupyterhub_collab.models.contest_life import (
    Action,
    ContestRecord,
    ContestState,
    CourseKind,
    Step,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.models.hub_user import TeamServer
from jupyterhub_collab.policy.contest_courses import STEPS, next_step
from tests.managers.contest_hub import Killed, Points
from tests.managers.contest_world import NOTICE, World, manifest, state_of
from tests.managers.contest_world_postgresql import PostgresWorld

ROSTERS = {"ocean": ("ada", "bob"), "reef": ("cleo",)}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    found.close()


async def running(world: World, **endings: Any) -> None:
    """A contest in its first round, with two teams that work; servers of one team run."""
    sea = ContestRecord("sea", manifest(**endings), state=ContestState.DRAFT)
    await world.put(sea, [TeamRecord(t, "sea", tier="small") for t in ROSTERS], ROSTERS)
    await world.act("sea", Action.START)
    for team in ROSTERS:
        await world.act("sea", Action.ADMIT, team=team)
    await world.go()
    world.hub.start("ada", "", "ocean")
    world.hub.start("bob", "lab", "ocean", is_slow=True)
    world.hub.start("cleo", "", "reef")


async def admit(world: World) -> None:
    sea = ContestRecord("sea", manifest(), state=ContestState.RUNNING, round=1)
    await world.put(sea, [TeamRecord(t, "sea", tier="small") for t in ROSTERS], ROSTERS)
    for team in ROSTERS:
        await world.act("sea", Action.ADMIT, team=team)


async def advance(world: World) -> None:
    await running(world)
    await world.act("sea", Action.CLOSE_ROUND)
    await world.go(until=world.now + NOTICE)
    world.hub.start("ada", "", "ocean")
    await world.act("sea", Action.ADVANCE, keep=("ocean", "reef"))


async def freeze(world: World) -> None:
    await running(world)
    await world.act("sea", Action.FREEZE, team="ocean")


async def lift(world: World) -> None:
    await freeze(world)
    await world.go()
    await world.act("sea", Action.LIFT, team="ocean")


async def eliminate(world: World) -> None:
    await running(world)
    world.provisioner.released.add("ocean")
    await world.act("sea", Action.ELIMINATE, team="ocean")


async def restore(world: World) -> None:
    await eliminate(world)
    await world.go(until=world.now + NOTICE)
    await world.act("sea", Action.RESTORE, team="ocean")


async def archive(world: World) -> None:
    await running(world)
    await world.act("sea", Action.ARCHIVE, team="ocean")


async def destroy(world: World) -> None:
    await running(world)
    world.provisioner.released.add("ocean")
    await world.act("sea", Action.DESTROY, team="ocean")


async def close_round(world: World) -> None:
    await running(world)
    await world.act("sea", Action.CLOSE_ROUND)


async def shelve(world: World) -> None:
    await running(world)
    await world.act("sea", Action.FINISH)
    await world.go()
    await world.act("sea", Action.ARCHIVE)


async def end(world: World) -> None:
    await running(world)
    await world.act("sea", Action.FINISH)
    await world.go()
    world.provisioner.released.add("sea")
    await world.act("sea", Action.DESTROY)


SCENARIOS: dict[CourseKind, Callable[[World], Awaitable[None]]] = {
    CourseKind.ADMIT: admit,
    CourseKind.ADVANCE: advance,
    CourseKind.FREEZE: freeze,
    CourseKind.LIFT: lift,
    CourseKind.ELIMINATE: eliminate,
    CourseKind.RESTORE: restore,
    CourseKind.ARCHIVE: archive,
    CourseKind.DESTROY: destroy,
    CourseKind.CLOSE_ROUND: close_round,
    CourseKind.SHELVE: shelve,
    CourseKind.END: end,
}


def test_each_kind_of_course_has_a_scenario() -> None:
    assert set(SCENARIOS) == set(STEPS)


@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.value)
async def test_a_worker_that_dies_anywhere_changes_nothing(
    kind: CourseKind, tmp_path: Path
) -> None:
    """Killed once at each place there is; another process goes on."""
    await die_anywhere(kind, World(tmp_path / "before"), tmp_path)


@pytest.mark.parametrize("kind", [CourseKind.CLOSE_ROUND, CourseKind.RESTORE, CourseKind.DESTROY])
async def test_so_it_is_on_postgresql(kind: CourseKind, postgresql: str, tmp_path: Path) -> None:
    PostgresWorld.url = postgresql
    await die_anywhere(kind, PostgresWorld(tmp_path / "before"), tmp_path)


async def die_anywhere(kind: CourseKind, before: World, tmp_path: Path) -> None:
    await SCENARIOS[kind](before)
    undisturbed = before.copy(tmp_path / "0")
    undisturbed.points = points = Points(names=[])
    await undisturbed.go()
    expected = await state_of(undisturbed)
    undisturbed.close()
    assert points.names is not None
    done = {name.removeprefix("after ") for name in points.names}
    assert {step.value for step in STEPS[kind]} <= done, "each step was done"
    assert not any(expected["courses"])
    world = before.copy(tmp_path / "1")
    for kill_at in range(1, points.seen + 1):
        world.become(before)
        world.points = Points(kill_at=kill_at)
        with pytest.raises(Killed):
            await world.go()
        world.points = Points()
        await world.go()
        assert await state_of(world) == expected, points.names[kill_at - 1]
    world.close()
    before.close()


async def courses_of(world: World) -> dict[str, Any]:
    return dict(await world.store.courses("sea"))


async def test_no_record_no_destruction(world: World) -> None:
    await destroy(world)
    world.recorder.is_away = True
    await world.go(until=world.now + NOTICE + timedelta(minutes=20))
    course = (await courses_of(world))["ocean"]
    assert next_step(course) is Step.RELEASE
    assert "could not be recorded" in course.error
    assert world.hub.corner("ocean")["retention"] == "keep"
    assert "ocean" in world.provisioner.ready
    world.recorder.is_away = False
    await world.go()
    assert "ocean" not in world.hub.groups
    told = [(e.reason, e.team, e.details.get("step")) for e in world.recorder.events]
    assert ("release", "ocean", "release") in told
    assert ("forget", "ocean", "forget") in told
    assert ("transition", "ocean", None) in told


async def test_what_runs_all_the_same_is_waited_for(world: World) -> None:
    """Somebody's server comes back behind the closed gate: nothing is deleted before it stopped."""
    await destroy(world)
    await world.go(until=world.now + NOTICE - timedelta(seconds=1))
    real = world.handlers[Step.ARCHIVE]

    async def archive_and_start(work: Any) -> Any:
        stray = TeamServer("ada", "stray", "ocean", "sea", world.now, True, "open")
        world.hub.servers["ada", "stray"] = stray
        world.hub.slow.add(("ada", "stray"))
        return await real(work)

    world.handlers[Step.ARCHIVE] = archive_and_start
    while "running still" not in (course := (await courses_of(world))["ocean"]).error:
        await world.go(until=world.now + timedelta(seconds=1))
    assert next_step(course) is Step.RELEASE
    assert world.hub.corner("ocean")["retention"] == "keep"
    await world.go()
    assert "ocean" not in world.hub.groups


async def test_the_administrator_s_word_is_waited_for_and_named(world: World) -> None:
    await destroy(world)
    world.provisioner.released.clear()
    await world.go(until=world.now + NOTICE + timedelta(hours=1))
    course = (await courses_of(world))["ocean"]
    assert next_step(course) is Step.AWAIT_DESTROYED
    assert course.error.startswith("kubectl annotate")
    assert (await world.store.contest("sea")) is not None
    world.provisioner.released.add("ocean")
    await world.go()
    team = await world.store.team("ocean")
    assert team is not None
    assert team.state is TeamState.DESTROYED


async def test_users_go_who_belong_to_nothing_else(world: World) -> None:
    await running(world)
    world.hub.users["root"] = True
    world.hub.groups["elsewhere"] = HubGroup("elsewhere", {}, ("bob",))
    ocean = world.hub.groups["ocean"]
    world.hub.groups["ocean"] = replace(ocean, users=(*ocean.users, "root"))
    world.hub.servers.clear()
    world.provisioner.released.add("sea")
    # In a team that is not on the hub yet: she will be back.
    late = ContestRecord("late", manifest("late"))
    await world.put(late, [TeamRecord("newt", "late", tier="small")], {"newt": ("cleo",)})
    for team in ROSTERS:
        await world.act("sea", Action.DESTROY, team=team)
    await world.go()
    assert set(world.hub.users) == {"bob", "root", "cleo"}, "ada was in this team alone"


async def test_users_are_kept_where_the_installation_says_so(world: World) -> None:
    world.settings = StepSettings(keep_users=True)
    await destroy(world)
    await world.go()
    assert "ocean" not in world.hub.groups
    assert set(world.hub.users) == {"ada", "bob", "cleo"}


async def test_a_notice_is_time_to_work_on(world: World) -> None:
    """The gate closes at once; the hub is told until when what runs may go on."""
    await freeze(world)
    stop = world.now + NOTICE
    await world.go(until=stop - timedelta(seconds=1))
    corner = world.hub.corner("ocean")
    assert corner["gate"] == "closed"
    assert corner["serversUntil"] == stop.isoformat().replace("+00:00", "Z")
    assert ("ada", "") in world.hub.servers
    assert not world.hub.start("bob", "new", "ocean")
    told = await world.store.notices(contest="sea", now=world.now)
    (notice,) = [n for n in told if "frozen" in n.text]
    assert "stopped at 2027-03-01 14:00 CET" in notice.text
    await world.go()
    assert world.hub.gate_of("ocean") == "frozen"
    assert [key for key in world.hub.servers if key[0] != "cleo"] == []
    assert ("cleo", "") in world.hub.servers, "another team's"


async def test_closing_a_round_stops_those_that_can_write(world: World) -> None:
    await close_round(world)
    await world.go(until=world.now + timedelta(minutes=1))
    assert world.hub.start("bob", "reads", "ocean")
    await world.go()
    assert sorted(world.hub.servers) == [("bob", "reads")]


async def test_an_advance_brings_the_round_and_new_servers_stay(world: World) -> None:
    await advance(world)
    await world.go(until=world.now + timedelta(minutes=1))
    assert world.hub.corner("ocean")["round"] == 2
    await world.go(until=world.now + NOTICE)
    world.hub.start("ada", "new", "ocean")
    await world.go()
    assert ("ada", "new") in world.hub.servers
    assert ("ada", "") not in world.hub.servers


async def test_what_was_undone_meanwhile_changes_nothing(world: World) -> None:
    """A host lifts a team while the step that closes its gate is being done."""
    await freeze(world)
    real = world.handlers[Step.CLOSE_GATE]
    lifted = []

    async def lift_first(work: Any) -> Any:
        if not lifted:
            lifted.append(await world.act("sea", Action.LIFT, team="ocean"))
        return await real(work)

    world.handlers[Step.CLOSE_GATE] = lift_first
    await world.go()
    assert lifted
    team = await world.store.team("ocean")
    assert team is not None
    assert (team.state, team.gate) == (TeamState.ACTIVE, Gate.OPEN)
    assert world.hub.gate_of("ocean") == "open"
    assert len(world.hub.servers) == 3


@pytest.mark.parametrize("jump", [timedelta(days=400), timedelta(hours=-3)])
async def test_a_clock_that_jumps_changes_nothing(world: World, tmp_path: Path, jump: Any) -> None:
    await eliminate(world)
    other = world.copy(tmp_path / "jumped")
    await world.go()
    await other.go(until=other.now + timedelta(minutes=1))
    other.now += jump
    await other.go()
    assert without_moments(await state_of(other)) == without_moments(await state_of(world))
    other.close()


def without_moments(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != "notices"}


async def test_a_hub_that_is_away_is_asked_again_ever_more_seldom(world: World) -> None:
    await freeze(world)
    asked: list[Any] = []

    def away(name: str) -> None:
        asked.append(world.now)
        raise HubUnavailableError("no answer from the hub")

    world.hub.fail = away
    await world.go(until=world.now + timedelta(hours=2))
    course = (await courses_of(world))["ocean"]
    assert course.error == "no answer from the hub"
    assert course.attempts < 60, "five minutes in between, in the end"
    world.hub.fail = lambda name: None
    await world.go()
    assert world.hub.gate_of("ocean") == "frozen"


async def test_a_failure_after_a_long_wait_is_tried_again_soon(world: World) -> None:
    await freeze(world)
    tries = 0
    real = world.handlers[Step.CLOSE_GATE]

    async def wait_then_fail(work: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries <= 30:
            return StepResult.not_yet("Not yet.", wait=timedelta(seconds=1))
        if tries == 31:
            raise HubUnavailableError("no answer from the hub")
        return await real(work)

    world.handlers[Step.CLOSE_GATE] = wait_then_fail
    began = world.now
    await world.go(until=began + timedelta(seconds=60))
    assert tries == 32, "waiting thirty times is not failing thirty times"


async def test_a_contest_that_cannot_be_read_waits_and_says_so(world: World) -> None:
    await freeze(world)
    with world.engine.begin() as connection:
        kept = connection.execute(text("SELECT manifest FROM contest_contests")).scalar_one()
        connection.execute(text("UPDATE contest_contests SET manifest = '{}'"))
    await world.go(until=world.now + timedelta(hours=1))
    course = (await courses_of(world))["ocean"]
    assert "cannot be read" in course.error
    assert 5 < course.attempts < 60, "ever more seldom"
    with world.engine.begin() as connection:
        connection.execute(text("UPDATE contest_contests SET manifest = :m"), {"m": kept})
    await world.go()
    assert world.hub.gate_of("ocean") == "frozen"


@pytest.mark.parametrize(
    ("table", "column", "spoilt"),
    [("teams", "overrides", "{"), ("courses", "times", "[]")],
)
async def test_a_team_that_cannot_be_read_waits_alone(
    world: World, table: str, column: str, spoilt: str
) -> None:
    sea = ContestRecord("sea", manifest(), state=ContestState.RUNNING, round=1)
    await world.put(sea, [TeamRecord(t, "sea", tier="small") for t in ROSTERS], ROSTERS)
    for team in ROSTERS:
        await world.act("sea", Action.ADMIT, team=team)
    mine = "id = 'ocean'" if table == "teams" else "team = 'ocean'"
    where = f"contest_{table} WHERE {mine}"
    with world.engine.begin() as connection:
        kept = connection.execute(text(f"SELECT {column} FROM {where}")).scalar_one()
        changed = text(f"UPDATE contest_{table} SET {column} = :v WHERE {mine}")
        connection.execute(changed, {"v": spoilt})
    worker, projection = world.parts()
    for _ in range(20):
        await worker.run_due()
        await projection.sweep()
        world.now += timedelta(seconds=30)
    reef = await world.store.team("reef")
    assert reef is not None
    assert reef.state is TeamState.ACTIVE
    (unreadable,) = await world.store.unreadable_teams("sea")
    assert unreadable.id == "ocean"
    if table == "teams":
        course = (await courses_of(world))["ocean"]
        assert "cannot be read" in course.error
        assert 1 < course.attempts < 10, "ever more seldom"
    with world.engine.begin() as connection:
        connection.execute(changed, {"v": kept})
    await projection.close()
    await world.go()
    ocean = await world.store.team("ocean")
    assert ocean is not None
    assert ocean.state is TeamState.ACTIVE


async def test_no_contest_ends_while_a_team_of_it_cannot_be_read(world: World) -> None:
    await end(world)
    row = "UPDATE contest_teams SET state = :s WHERE id = 'ocean'"
    with world.engine.begin() as connection:
        kept = connection.execute(
            text("SELECT state FROM contest_teams WHERE id = 'ocean'")
        ).scalar_one()
        connection.execute(text(row), {"s": "dreaming"})
    worker, projection = world.parts()
    for _ in range(40):
        await worker.run_due()
        await projection.sweep()
        world.now += timedelta(minutes=5)
    assert (await world.store.count_teams("sea"))[TeamState.DESTROYED] == 1, "the other"
    course = (await courses_of(world))[""]
    assert "rows of these teams can be read: ocean" in course.error
    with world.engine.begin() as connection:
        connection.execute(text(row), {"s": kept})
    await projection.close()
    await world.go()
    contest = await world.store.contest("sea")
    assert contest is not None
    assert contest.state is ContestState.DESTROYED


async def test_a_step_that_is_broken_says_so_and_tells_no_secret(world: World) -> None:
    await freeze(world)

    async def broken(work: Any) -> Any:
        raise RuntimeError("token abc")

    world.handlers[Step.NOTIFY] = broken
    await world.go(until=world.now + timedelta(minutes=1))
    course = (await courses_of(world))["ocean"]
    assert course.error == "RuntimeError; the service's log says more"


async def test_one_contest_does_not_keep_another_waiting(world: World) -> None:
    """All of one contest's steps hang; the other's are done."""
    many = [TeamRecord(f"t{i}", "sea", tier="small") for i in range(60)]
    await world.put(ContestRecord("sea", manifest(), ContestState.RUNNING, round=1), many)
    lake = ContestRecord("lake", manifest("lake"), ContestState.RUNNING, round=1)
    await world.put(lake, [TeamRecord("pond", "lake", tier="small")])
    for team in many:
        await world.act("sea", Action.ADMIT, team=team.id)
    await world.act("lake", Action.ADMIT, team="pond")
    real, hangs, done = world.handlers[Step.PROJECT], asyncio.Event(), asyncio.Event()

    async def project(work: Any) -> Any:
        if work.contest.id == "sea":
            await hangs.wait()
        else:
            done.set()
        return await real(work)

    world.handlers[Step.PROJECT] = project
    worker, projection = world.parts()
    running = asyncio.create_task(worker.run())
    await asyncio.wait_for(done.wait(), 20)
    hangs.set()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await projection.close()
