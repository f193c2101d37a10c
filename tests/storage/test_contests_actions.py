"""Plans written whole or not at all, and courses step by step."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from jupyterhub_collab.models import Gate
from jupyterhub_collab.models.contest_life import (
    Action,
    ContestState,
    Course,
    CourseKind,
    Operation,
    OperationState,
    Step,
    TeamState,
    Transition,
)
from jupyterhub_collab.policy.contest_courses import steps_of
from jupyterhub_collab.storage.contests import ContestStore, StaleError
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.contest_samples import (
    AT,
    HOSTILE,
    LATER,
    change,
    course,
    operation,
    plan,
    put,
    register,
)

MINUTE = timedelta(minutes=1)
ELIMINATED = {"ocean": ("active", "eliminated")}


async def running(registry: ContestStore, *teams: str, contest: str = "sea") -> None:
    """A contest in a round, its teams at work."""
    await put(
        registry,
        contest,
        teams=teams,
        state=ContestState.RUNNING,
        team_state=TeamState.ACTIVE,
    )


async def snapshot(registry: ContestStore) -> tuple[object, ...]:
    """All that an action could change."""
    return (
        await registry.contest("sea"),
        await registry.teams("sea"),
        await registry.courses("sea"),
        await registry.operations("sea"),
        await registry.transitions("sea"),
    )


async def test_a_plan_is_written_whole(registry: ContestStore) -> None:
    await running(registry, "ocean", "river", "lake")
    await registry.mark_projected(contests={"sea": 1})
    times = {Step.DRAIN: LATER, Step.ARCHIVE: LATER + MINUTE}
    begun = replace(course("ocean", CourseKind.ELIMINATE, due_at=AT + MINUTE), times=times)
    made = plan(
        1,
        begun,
        course("", CourseKind.CLOSE_ROUND),
        moves={"": ("running", "judging"), **ELIMINATED},
        updates={
            "ocean": {"state": TeamState.ELIMINATED, "state_before": TeamState.ACTIVE},
            "river": {"round": 2, "gate": Gate.FROZEN},
        },
        values={"state": ContestState.JUDGING, "ranking": ("river", "ocean")},
    )
    asked = operation(key=HOSTILE, asked_by=HOSTILE, report={"teams": [HOSTILE]})
    done = await registry.commit(made, asked, at=LATER)
    assert done == replace(asked, number=done.number)
    assert await registry.operation(done.number) == done
    assert await registry.operation_of("sea", HOSTILE) == done
    contest = await registry.contest("sea")
    assert contest is not None
    assert (contest.state, contest.ranking) == (ContestState.JUDGING, ("river", "ocean"))
    assert (contest.generation, contest.projected) == (2, 1)
    found = {t.id: t for t in await registry.teams("sea")}
    assert (found["ocean"].state, found["ocean"].state_before) == (
        TeamState.ELIMINATED,
        TeamState.ACTIVE,
    )
    assert (found["river"].round, found["river"].gate) == (2, Gate.FROZEN)
    assert [found[t].generation for t in ("lake", "ocean", "river")] == [1, 2, 2]
    assert await registry.courses("sea") == {
        "": replace(course("", CourseKind.CLOSE_ROUND), operation=done.number),
        "ocean": replace(begun, operation=done.number),
    }
    past = (await registry.transitions("sea"))[-2:]
    assert [(p.by, p.at, p.operation) for p in past] == [(HOSTILE, LATER, done.number)] * 2
    assert [p.transition for p in past] == [
        Transition("sea", "", "running", "judging", "because"),
        Transition("sea", "ocean", "active", "eliminated", "because"),
    ]


async def test_a_transition_alone_changes_the_state(registry: ContestStore) -> None:
    await running(registry, "ocean")
    moves = {"": ("running", "finished"), **ELIMINATED}
    done = await registry.commit(plan(1, moves=moves), operation(), at=LATER)
    assert (done.state, done.ended_at) == (OperationState.DONE, LATER)  # no course is left to go
    ocean, contest = await registry.team("ocean"), await registry.contest("sea")
    assert ocean is not None
    assert contest is not None
    assert (ocean.state, contest.state) == (TeamState.ELIMINATED, ContestState.FINISHED)


async def test_asked_twice_is_once(registry: ContestStore) -> None:
    await running(registry, "ocean")
    first = await registry.commit(plan(1, course("ocean")), operation(), at=AT)
    before = await snapshot(registry)
    # Whatever it says by now: also a plan that would be stale.
    again = await registry.commit(plan(1, moves=ELIMINATED), operation(asked_by="eve"), at=LATER)
    assert again == first
    assert await snapshot(registry) == before
    await running(registry, "hill", contest="land")
    other = await registry.commit(
        plan(1, course("hill", contest="land"), contest="land"), operation(contest="land"), at=AT
    )
    assert other.number != first.number


@pytest.mark.parametrize(
    "stale",
    [
        {"generation": 2},
        {"moves": {**ELIMINATED, "river": ("frozen", "eliminated")}},
        {"moves": {**ELIMINATED, "": ("judging", "finished")}},
        {"moves": {**ELIMINATED, "lake": ("active", "eliminated")}},
        {"moves": {**ELIMINATED, "hill": ("active", "eliminated")}},
        {"updates": {"ocean": {"round": 3}, "gone": {"round": 3}}},
    ],
    ids=["contest", "state", "contest-state", "no-team", "other-contest", "destroyed"],
)
async def test_a_stale_plan_writes_nothing(registry: ContestStore, stale: Any) -> None:
    await running(registry, "gone", "ocean", "river")
    await running(registry, "hill", contest="land")
    contest, gone = await registry.contest("sea"), await registry.team("gone")
    assert contest is not None
    assert gone is not None
    after = await change(registry, contest, [replace(gone, state=TeamState.DESTROYED)])
    before = await snapshot(registry)
    given = {"generation": after.generation, "values": {"round": 7}, "moves": ELIMINATED, **stale}
    if stale == {"generation": 2}:
        await registry.commit(plan(2), operation("other"), at=AT)
        before = await snapshot(registry)
    made = plan(given.pop("generation"), course("ocean"), course("river"), **given)
    with pytest.raises(StaleError):
        await registry.commit(made, operation(), at=AT)
    assert await snapshot(registry) == before
    assert await registry.operation_of("sea", "k") is None


async def test_each_action_knows_of_the_one_before(registry: ContestStore) -> None:
    """Of one that destroys and one that restores, planned from the same, only one is written."""
    await running(registry, "ocean")
    await registry.mark_projected(contests={"sea": 1})
    await registry.commit(
        plan(1, course("", CourseKind.END), course("ocean", CourseKind.DESTROY)), operation(), at=AT
    )
    with pytest.raises(StaleError, match="planned"):
        await registry.commit(plan(1, course("ocean")), operation("k2"), at=AT)
    contest = await registry.contest("sea")
    assert contest is not None
    # Its group in the hub says the same as before.
    assert (contest.generation, contest.projected) == (2, 2)


async def test_an_exception_in_the_middle(registry: ContestStore, engine: Engine) -> None:
    """Wherever the database gives up, nothing of an action is there."""
    await running(registry, "ocean", "river")
    before = await snapshot(registry)
    made = plan(
        1,
        course("ocean"),
        course("river"),
        moves={"": ("running", "judging"), **ELIMINATED},
        updates={"river": {"round": 2}},
    )
    at = left = 0

    def fail(_c: object, _cursor: object, sql: str, *_more: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(f"the cable is out at {sql[:30]}")

    event.listen(engine, "before_cursor_execute", fail)
    try:
        while True:
            at += 1
            left = at
            try:
                await registry.commit(made, operation(), at=AT)
            except (OSError, DatabaseError):
                left = 0
                assert await snapshot(registry) == before
            else:
                break
    finally:
        event.remove(engine, "before_cursor_execute", fail)
    assert at > 10  # statements of one action
    assert await snapshot(registry) != before


async def test_what_deletes_is_not_replaced(registry: ContestStore) -> None:
    await running(registry, "ocean")
    steps = steps_of(CourseKind.ELIMINATE)
    late = steps.index(Step.RELEASE)
    first = course("ocean", CourseKind.ELIMINATE, step=late - 1)
    await registry.commit(plan(1, first), operation("k1"), at=AT)
    kept = (await registry.courses("sea"))["ocean"]
    assert await registry.step_done(kept, due_at=AT, at=AT)
    before = await snapshot(registry)
    for made in (plan(2, course("ocean", CourseKind.RESTORE)), plan(2, ended=["ocean"])):
        with pytest.raises(StaleError, match="cannot be turned back"):
            await registry.commit(made, operation("k2"), at=AT)
    assert await snapshot(registry) == before


async def test_undone_by_another(registry: ContestStore) -> None:
    await running(registry, "ocean", "river")
    first = await registry.commit(plan(1, course("ocean"), course("river")), operation("1"), at=AT)
    old = await registry.courses("sea")
    second = await registry.commit(plan(2, course("ocean")), operation("2"), at=AT)
    # What the worker held of the course that was replaced is void, also for the same step.
    assert not await registry.step_done(
        old["ocean"],
        due_at=None,
        at=AT,
        transition=Transition("sea", "ocean", "active", "frozen"),
        team_values={"round": 9},
        contest_values={"round": 9},
    )
    await registry.step_failed(old["ocean"], "too late", due_at=LATER)
    now = (await registry.courses("sea"))["ocean"]
    assert now == replace(course("ocean"), operation=second.number)
    contest = await registry.contest("sea")
    assert contest is not None
    assert contest.round == 0
    third = await registry.commit(plan(3, ended=["river", "ocean"]), operation("3"), at=LATER)
    ended = {o.number: o for o in await registry.operations("sea")}
    assert ended[first.number] == replace(first, state=OperationState.UNDONE, ended_at=LATER)
    assert ended[second.number].state is OperationState.UNDONE
    assert ended[third.number].state is OperationState.DONE
    assert await registry.courses("sea") == {}


async def test_what_was_done_of_it_counts(registry: ContestStore) -> None:
    await running(registry, "ocean", "river")
    first = await registry.commit(plan(1, course("ocean"), course("river")), operation("1"), at=AT)
    ocean = (await registry.courses("sea"))["ocean"]
    assert await registry.step_done(ocean, due_at=None, at=AT)
    assert await registry.operation(first.number) == first  # river is on its way
    await registry.commit(plan(2, ended=["river"]), operation("2"), at=LATER)
    done = await registry.operation(first.number)
    assert done is not None
    assert (done.state, done.ended_at) == (OperationState.DONE, LATER)


# Two persons.


async def test_a_proposal_is_approved(registry: ContestStore) -> None:
    await running(registry, "ocean")
    proposed = operation(state=OperationState.PROPOSED)
    kept = await registry.propose(proposed)
    assert kept == replace(proposed, number=kept.number)
    assert await registry.propose(replace(proposed, asked_by="eve")) == kept
    before = await snapshot(registry)
    # To ask again is not to approve.
    assert await registry.commit(plan(1, course("ocean")), operation(), at=AT) == kept
    assert await snapshot(registry) == before
    approved = replace(kept, state=OperationState.RUNNING, approved_by="second", asked_by="eve")
    done = await registry.commit(plan(1, course("ocean")), approved, at=LATER)
    assert (done.state, done.approved_by, done.asked_by) == (
        OperationState.RUNNING,
        "second",
        "host",
    )
    assert (await registry.courses("sea"))["ocean"].operation == kept.number
    assert list(await registry.courses("sea", teams=["ocean", "nowhere"])) == ["ocean"]
    assert await registry.courses("sea", teams=[]) == {}
    third = replace(approved, approved_by="third")
    assert await registry.commit(plan(2, course("ocean")), third, at=LATER) == done
    with pytest.raises(StaleError, match="running"):
        await registry.end_operation(kept.number, OperationState.DECLINED, at=LATER)


async def test_a_proposal_is_declined(registry: ContestStore) -> None:
    await running(registry, "ocean")
    kept = await registry.propose(operation())
    assert kept.state is OperationState.PROPOSED
    with pytest.raises(StaleError, match="proposed"):
        await registry.end_operation(kept.number, OperationState.DONE, at=AT)
    report = {"why": HOSTILE}
    await registry.end_operation(kept.number, OperationState.DECLINED, at=AT, report=report)
    await registry.end_operation(kept.number, OperationState.DECLINED, at=LATER, report=report)
    declined = await registry.operation(kept.number)
    assert declined == replace(kept, state=OperationState.DECLINED, ended_at=AT, report=report)
    approved = replace(kept, state=OperationState.RUNNING, approved_by="second")
    assert await registry.commit(plan(1, course("ocean")), approved, at=LATER) == declined
    assert await registry.courses("sea") == {}
    with pytest.raises(StaleError, match="no operation"):
        await registry.end_operation(4711, OperationState.DONE, at=AT)
    with pytest.raises(StaleError, match="no proposal"):
        await registry.commit(plan(1), operation("x", number=4711), at=AT)
    with pytest.raises(StaleError, match="no contest"):
        await registry.propose(operation(contest="land"))


async def test_operations_the_newest_first(registry: ContestStore) -> None:
    await running(registry, "ocean")
    numbers = [(await registry.propose(operation(f"k{i}"))).number for i in range(3)]
    await registry.end_operation(numbers[1], OperationState.DECLINED, at=AT)
    assert [o.number for o in await registry.operations("sea")] == numbers[::-1]
    assert [o.number for o in await registry.operations("sea", limit=1)] == numbers[2:]
    declined = await registry.operations("sea", states=iter([OperationState.DECLINED]))
    assert [o.number for o in declined] == [numbers[1]]
    assert await registry.operations("land") == ()


# Courses.


async def begin(registry: ContestStore, *courses: Course, contest: str = "sea") -> Operation:
    """Courses of a contest under one operation."""
    found = await registry.contest(contest)
    assert found is not None
    return await registry.commit(
        plan(found.generation, *courses, contest=contest),
        operation(f"k{found.generation}", contest=contest),
        at=AT,
    )


async def test_step_by_step(registry: ContestStore) -> None:
    await running(registry, "ocean")
    begun = await begin(registry, course("ocean", CourseKind.ARCHIVE))
    now = await registry.course("sea", "ocean")
    assert now is not None
    assert await registry.course("sea", "") is None
    assert await registry.next_due() == AT
    times = {Step.DRAIN: LATER}
    assert await registry.step_done(replace(now, times=times), due_at=LATER, at=AT)
    assert not await registry.step_done(now, due_at=LATER, at=AT)  # another worker did the same
    second = await registry.course("sea", "ocean")
    assert second == replace(now, step=1, due_at=LATER, times=times)
    await registry.step_failed(second, HOSTILE, due_at=LATER + MINUTE)
    failed = await registry.course("sea", "ocean")
    assert failed == replace(second, due_at=LATER + MINUTE, attempts=1, error=HOSTILE)
    await registry.step_failed(failed, "again", due_at=LATER)
    await registry.step_failed(now, "late", due_at=AT)
    tried = await registry.course("sea", "ocean")
    assert tried == replace(second, attempts=2, error="again")
    assert await registry.step_done(tried, due_at=LATER, at=AT)
    third = await registry.course("sea", "ocean")
    assert third == replace(second, step=2)  # attempts begin anew
    assert await registry.count_courses("sea") == {(CourseKind.ARCHIVE, Step.DRAIN): 1}
    assert await registry.step_done(third, due_at=None, at=LATER)
    assert await registry.courses("sea") == {}
    assert await registry.next_due() is None
    done = await registry.operation(begun.number)
    assert done == replace(begun, state=OperationState.DONE, ended_at=LATER)


async def test_a_step_with_what_it_changes(registry: ContestStore) -> None:
    await running(registry, "ocean")
    begun = await begin(registry, course("ocean"), course("", CourseKind.END))
    now = await registry.courses("sea")
    frozen = Transition("sea", "ocean", "active", "frozen", "asked")
    assert await registry.step_done(
        now["ocean"], due_at=LATER, at=LATER, transition=frozen, team_values={"gate": Gate.FROZEN}
    )
    ocean = await registry.team("ocean")
    assert ocean is not None
    assert (ocean.state, ocean.gate, ocean.generation) == (TeamState.FROZEN, Gate.FROZEN, 2)
    last = (await registry.newest_transitions("sea"))[0]
    assert (last.transition, last.by, last.operation) == (frozen, "host", begun.number)
    contest = await registry.contest("sea")
    assert contest is not None
    ended = Transition("sea", "", "running", "destroyed")
    assert await registry.step_done(
        now[""], due_at=None, at=LATER, transition=ended, contest_values={"is_frozen": True}
    )
    after = await registry.contest("sea")
    assert after is not None
    assert (after.state, after.is_frozen) == (ContestState.DESTROYED, True)
    assert after.generation == contest.generation + 1


async def test_a_step_from_another_state(registry: ContestStore) -> None:
    await running(registry, "ocean")
    await begin(registry, course("ocean"))
    now = await registry.course("sea", "ocean")
    assert now is not None
    before = await snapshot(registry)
    for team in ("ocean", "river", ""):
        with pytest.raises(StaleError):
            await registry.step_done(
                now,
                due_at=LATER,
                at=AT,
                transition=Transition("sea", team, "frozen", "active"),
                team_values={"round": 2},
            )
    assert await snapshot(registry) == before


async def test_a_destroyed_team_lets_go(registry: ContestStore) -> None:
    await put(registry)
    await register(registry, "ocean", "ada")
    await begin(registry, course("ocean", CourseKind.DESTROY))
    now = await registry.course("sea", "ocean")
    assert now is not None
    gone = Transition("sea", "ocean", "invited", "destroyed")
    assert await registry.step_done(now, due_at=None, at=AT, transition=gone)
    await register(registry, "river", "ada")
    assert list(await registry.teams_of("ada")) == ["river"]


async def test_fair_between_contests(registry: ContestStore) -> None:
    big = [f"b{i:02}" for i in range(30)]
    await running(registry, *big, contest="big")
    await running(registry, "s0", "s1", "s2", contest="small")
    await running(registry, "late", contest="none")
    early = [course(t, contest="big", due_at=AT + i * MINUTE) for i, t in enumerate(big)]
    await begin(registry, *reversed(early), contest="big")
    small = [course(f"s{i}", contest="small", due_at=LATER - MINUTE) for i in range(3)]
    await begin(registry, *small, contest="small")
    await begin(registry, course("late", contest="none", due_at=LATER + MINUTE), contest="none")
    due = await registry.due_courses(LATER, limit=8)
    assert [c.team for c in due] == ["b00", "s0", "b01", "s1", "b02", "s2", "b03", "b04"]
    assert [c.team for c in await registry.due_courses(LATER, limit=1)] == ["b00"]
    assert len(await registry.due_courses(LATER, limit=100)) == 33
    assert [c.team for c in await registry.due_courses(AT, limit=100)] == ["b00"]
    assert await registry.due_courses(AT - MINUTE, limit=100) == ()
    assert await registry.next_due() == AT


async def test_what_is_due_is_found_along_an_index(registry: ContestStore, engine: Engine) -> None:
    """100,000 courses that wait cost nothing."""
    await running(registry, "t")
    waiting = [
        {"n": f"x{n}", "due": 9 * 10**15 + n}
        for n in range(2000)  # microseconds: after 2255
    ]
    with engine.begin() as connection:
        insert = "INSERT INTO contest_courses VALUES ('sea', :n, 'freeze', 0, :due, 0, '{}', 0, '')"
        connection.execute(text(insert), waiting)
        connection.execute(text("ANALYZE"))
    await begin(registry, course("t"))
    asked: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, sql: str, parameters: Any, *_more: object) -> None:
        asked.append((sql, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        assert [c.team for c in await registry.due_courses(LATER, limit=100)] == ["t"]
        await registry.next_due()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
    assert len(asked) == 3
    with engine.connect() as connection:
        for sql, parameters in asked:
            rows = connection.exec_driver_sql(explain + sql, parameters).all()
            how = " ".join(map(str, rows))
            assert "ix_contest_courses" in how, how
            assert "TEMP B-TREE" not in how, how
            assert "Seq Scan on contest_courses" not in how, how


# Races.


async def test_one_plan_from_four_places(stores: list[ContestStore]) -> None:
    await running(stores[0], "ocean")
    made = plan(1, course("ocean"), moves=ELIMINATED)
    same = await asyncio.gather(*(s.commit(made, operation(), at=AT) for s in stores))
    assert len({o.number for o in same}) == 1
    assert len(await stores[0].operations("sea")) == 1


async def test_four_plans_from_the_same(stores: list[ContestStore]) -> None:
    await running(stores[0], "ocean")
    done = await asyncio.gather(
        *(
            s.commit(plan(1, course("ocean")), operation(f"k{i}"), at=AT)
            for i, s in enumerate(stores)
        ),
        return_exceptions=True,
    )
    assert Counter(map(type, done)) == {Operation: 1, StaleError: 3}
    won = next(o for o in done if isinstance(o, Operation))
    assert await stores[0].operations("sea") == (won,)
    assert (await stores[0].courses("sea"))["ocean"].operation == won.number


async def test_approved_and_declined_at_once(stores: list[ContestStore]) -> None:
    await running(stores[0], "ocean")
    for i in range(5):
        kept = await stores[0].propose(operation(f"k{i}"))
        approved = replace(kept, state=OperationState.RUNNING, approved_by="second")
        contest = await stores[0].contest("sea")
        assert contest is not None
        await asyncio.gather(
            stores[0].commit(plan(contest.generation, course("ocean")), approved, at=AT),
            stores[1].end_operation(kept.number, OperationState.DECLINED, at=AT),
            return_exceptions=True,
        )
        found = await stores[0].operation(kept.number)
        now = await stores[0].course("sea", "ocean")
        assert found is not None
        is_its = now is not None and now.operation == kept.number
        assert is_its == (found.state is OperationState.RUNNING)


async def test_a_step_by_four_workers(stores: list[ContestStore]) -> None:
    teams = [f"t{i}" for i in range(8)]
    await running(stores[0], *teams)
    begun = await begin(stores[0], *map(course, teams))
    under_way = await stores[0].courses("sea")
    done = await asyncio.gather(
        *(
            store.step_done(
                under_way[team],
                due_at=None,
                at=AT,
                transition=Transition("sea", team, "active", "frozen"),
            )
            for team in teams
            for store in stores
        )
    )
    assert Counter(done) == {True: 8, False: 24}
    # Each last course saw that the others ended.
    ended = await stores[0].operation(begun.number)
    assert ended is not None
    assert ended.state is OperationState.DONE
    assert len(await stores[0].newest_transitions("sea", limit=99)) == 1 + 8 + 8


async def again(attempt: Callable[[], Awaitable[None]]) -> None:
    """As whoever was told that it is stale: each time somebody else got on."""
    while True:
        try:
            return await attempt()
        except StaleError:
            continue


async def test_workers_and_hosts_at_once(stores: list[ContestStore]) -> None:
    """Steps, actions, rosters in one contest: nobody waits for ever, nothing is lost."""
    teams = [f"t{i}" for i in range(6)]
    await running(stores[0], *teams)

    async def work(store: ContestStore) -> None:
        for now in await store.due_courses(LATER, limit=9):
            await store.step_done(now, due_at=LATER, at=AT, team_values={"round": now.step + 1})

    async def act(store: ContestStore, number: int) -> None:
        found = await store.contest("sea")
        assert found is not None
        made = plan(found.generation, *map(course, teams), updates={t: {"round": 9} for t in teams})
        await store.commit(made, operation(f"a{number}"), at=AT)

    async def apply(store: ContestStore, number: int) -> None:
        found = await store.contest("sea")
        assert found is not None
        await change(store, found, rosters={teams[number % 6]: (f"p{number}", f"q{number}")})

    await asyncio.gather(
        *(again(partial(act, stores[i % 4], i)) for i in range(6)),
        *(work(stores[i % 4]) for i in range(12)),
        *(again(partial(apply, stores[i % 4], i)) for i in range(6)),
        *(stores[i % 4].forget_projection("sea") for i in range(4)),
    )
    contest = await stores[0].contest("sea")
    assert contest is not None
    assert contest.generation == 1 + 6 + 6
    rosters = await stores[0].members(teams)
    assert {t: [m.entry for m in rosters[t]] for t in teams} == {
        t: [f"p{i}", f"q{i}"] for i, t in enumerate(teams)
    }
    newest, *before = await stores[0].operations("sea")
    assert newest.state is OperationState.RUNNING
    assert {o.state for o in before} == {OperationState.UNDONE}
    courses = await stores[0].courses("sea")
    assert {(t, c.operation) for t, c in courses.items()} == {(t, newest.number) for t in teams}


async def test_thousands_in_one_action(registry: ContestStore) -> None:
    teams = [f"t{i}" for i in range(5000)]
    await running(registry, *teams)
    made = plan(
        1,
        *(
            course(t, CourseKind.ELIMINATE if i >= 500 else CourseKind.ADVANCE)
            for i, t in enumerate(teams)
        ),
        action=Action.ADVANCE,
        moves=dict.fromkeys(teams[500:], ("active", "eliminated")),
        updates={t: {"round": 1} for t in teams[:500]},
    )
    done = await registry.commit(made, operation(), at=AT)
    assert await registry.count_teams("sea") == {TeamState.ACTIVE: 500, TeamState.ELIMINATED: 4500}
    assert await registry.count_courses("sea") == {
        (CourseKind.ADVANCE, Step.PROJECT): 500,
        (CourseKind.ELIMINATE, Step.CLOSE_GATE): 4500,
    }
    back = plan(2, ended=teams)
    await registry.commit(back, operation("k2"), at=AT)
    assert await registry.courses("sea") == {}
    undone = await registry.operation(done.number)
    assert undone is not None
    assert undone.state is OperationState.UNDONE
