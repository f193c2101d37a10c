"""What actions plan: every pair of the tables, those who are kept, times, what is under way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyterhub_collab.models import Retention
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionPlan,
    ContestState,
    CourseKind,
    Step,
    TeamState,
)
from jupyterhub_collab.models.team import Gate
from jupyterhub_collab.policy.contest_actions import (
    CONTEST_ACTIONS,
    TEAM_ACTIONS,
    RefusedError,
    hash_plan,
    plan_action,
    plan_admission,
    possible_actions,
)
from jupyterhub_collab.policy.contest_courses import may_undo, steps_of
from jupyterhub_collab.policy.contest_life import CONTEST_TRANSITIONS, TEAM_TRANSITIONS

from .lives import NOW, Life, asked, contest, course, manifest, team

HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)
TEAM_MOVES = {(before.value, after.value) for (before, _), after in TEAM_TRANSITIONS.items()}
CONTEST_MOVES = {(before.value, after.value) for (before, _), after in CONTEST_TRANSITIONS.items()}


def refusal(life: Life, action: Action, of: str | None = None, **values: Any) -> str:
    with pytest.raises(RefusedError) as error:
        life.act(action, of, **values)
    return str(error.value)


def field(*names: str) -> Life:
    """A contest in which these have worked in the first round."""
    return Life(contest(), {name: team(name) for name in names})


# The tables.


@pytest.mark.parametrize("state", ContestState)
@pytest.mark.parametrize("action", CONTEST_ACTIONS)
def test_a_contest_does_what_the_table_says(state: ContestState, action: Action) -> None:
    life = Life(contest(state), {"ice": team("ice")})
    keep = {"keep": ("ice",)} if action is Action.ADVANCE else {}
    after = CONTEST_TRANSITIONS.get((state, action))
    is_over = state in (ContestState.ARCHIVED, ContestState.DESTROYED)
    if after is None and not (action is Action.FREEZE and not is_over):
        text = refusal(life, action, **keep)
        assert action.value in text or "frozen" in text
        possible = possible_actions(life.contest, {})
        assert action not in possible
        assert text.endswith(f"possible now: {', '.join(sorted(possible)) or 'nothing any more'}.")
        return
    assert action in possible_actions(life.contest, {})
    life.act(action, **keep)
    if action in (Action.ARCHIVE, Action.DESTROY):
        assert life.contest.state is state, "only when all teams are"
        life.work()
    assert life.contest.state is (after or state)


@pytest.mark.parametrize("state", TeamState)
@pytest.mark.parametrize("action", TEAM_ACTIONS)
def test_a_team_does_what_the_table_says(state: TeamState, action: Action) -> None:
    life = Life(contest(ContestState.RUNNING), {"ice": team("ice", state)})
    after = TEAM_TRANSITIONS.get((state, action))
    if after is None:
        text = refusal(life, action, "ice")
        assert f"ice is {state.value}" in text
        possible = possible_actions(life.contest, {}, life.teams["ice"])
        assert action not in possible
        assert text.endswith(f"possible now: {', '.join(sorted(possible)) or 'nothing any more'}.")
        return
    assert action in possible_actions(life.contest, {}, life.teams["ice"])
    plan = life.act(action, "ice")
    assert plan.transitions or plan.courses
    reached = [life.teams["ice"].state]
    while life.courses:
        assert life.step("ice")
        reached.append(life.teams["ice"].state)
    assert after in reached
    if action is Action.ADMIT:
        assert reached[-1] is TeamState.ACTIVE
    if action is Action.ELIMINATE:
        assert reached[-1] is TeamState.DESTROYED


def test_what_is_of_a_team_is_not_done_with_a_contest_and_the_other_way() -> None:
    life = field("ice")
    for action in set(Action) - set(CONTEST_ACTIONS):
        assert "say with which" in refusal(life, action)
    for action in set(Action) - set(TEAM_ACTIONS):
        assert "name no team" in refusal(life, action, "ice")
    assert "has no team fog" in refusal(life, Action.FREEZE, "fog")
    other = replace(team("fog"), contest="other")
    with pytest.raises(RefusedError, match="has no team fog"):
        plan_action(asked(Action.FREEZE, "fog"), life.contest, [other], {}, now=NOW)
    assert "of advance only" in refusal(life, Action.FINISH, keep=("ice",))
    assert "of advance only" in refusal(life, Action.FREEZE, "ice", top=1)


# Start.


def test_the_start_brings_all_who_are_in_to_the_first_round() -> None:
    states = {state.value: team(state.value, state, round=0) for state in TeamState}
    life = Life(contest(ContestState.REGISTRATION, round=0), states)
    life.act(Action.START)
    assert (life.contest.state, life.contest.round) == (ContestState.RUNNING, 1)
    assert {t.id for t in life.teams.values() if t.round == 1} == {
        "provisioning",
        "active",
        "frozen",
    }
    assert not life.courses


def test_a_contest_without_rounds_starts_in_none() -> None:
    plain = manifest().model_copy(update={"rounds": ()})
    life = Life(contest(ContestState.DRAFT, round=0, manifest=plain), {"ice": team("ice", round=0)})
    plan = life.act(Action.START)
    assert (life.contest.round, plan.updates) == (0, ())
    life.act(Action.CLOSE_ROUND)
    assert "has no rounds" in refusal(life, Action.ADVANCE, keep=("ice",))


def test_who_is_admitted_later_comes_into_the_present_round() -> None:
    life = Life(
        contest(ContestState.RUNNING, round=2), {"ice": team("ice", TeamState.INVITED, round=0)}
    )
    life.act(Action.ADMIT, "ice")
    assert life.teams["ice"].round == 2
    life.work()
    assert life.teams["ice"].state is TeamState.ACTIVE


def test_many_are_admitted_by_one_plan() -> None:
    life = Life(contest(ContestState.DRAFT, round=0))
    life.teams = {name: team(name, TeamState.INVITED) for name in ("fog", "ice")}
    plan = plan_admission(life.contest, life.teams.values(), {}, now=NOW, reason="listed")
    life.write(plan)
    assert [c.kind for c in plan.courses] == [CourseKind.ADMIT] * 2
    assert {t.reason for t in plan.transitions} == {"listed"}
    with pytest.raises(RefusedError):
        plan_admission(life.contest, life.teams.values(), {}, now=NOW)


# Closing, freezing.


def test_closing_a_round_stops_servers_after_notice_and_reopening_ends_that() -> None:
    life = field("ice")
    life.contest = contest(ContestState.RUNNING)
    plan = life.act(Action.CLOSE_ROUND)
    (begun,) = plan.courses
    assert (begun.team, begun.kind) == ("", CourseKind.CLOSE_ROUND)
    assert begun.times == {Step.DRAIN: NOW + HOUR}
    plan = life.act(Action.REOPEN_ROUND)
    assert plan.ended_courses == ("",)
    assert (life.contest.state, life.contest.round) == (ContestState.RUNNING, 1)
    assert not life.courses


def test_the_notice_may_be_shorter_than_the_contest_s() -> None:
    life = field("ice")
    plan = life.act(Action.FREEZE, "ice", notice_s=0)
    assert plan.courses[0].times[Step.DRAIN] == NOW


def test_finishing_a_running_contest_stops_servers_too() -> None:
    life = field("ice")
    life.contest = contest(ContestState.RUNNING)
    assert life.act(Action.FINISH).courses[0].kind is CourseKind.CLOSE_ROUND
    life = field("ice")
    assert not life.act(Action.FINISH).courses, "of a closed round they are stopped already"


@pytest.mark.parametrize(
    "state", set(ContestState) - {ContestState.ARCHIVED, ContestState.DESTROYED}
)
def test_a_contest_is_frozen_and_lifted_in_every_state(state: ContestState) -> None:
    life = Life(contest(state))
    assert "not frozen" in refusal(life, Action.LIFT)
    life.act(Action.FREEZE)
    assert (life.contest.is_frozen, life.contest.state) == (True, state)
    text = refusal(life, Action.FREEZE)
    assert "is frozen" in text
    assert "lift" in text
    life.act(Action.LIFT)
    assert not life.contest.is_frozen
    is_quiet = state in (ContestState.JUDGING, ContestState.FINISHED)
    assert [c.kind for c in life.courses.values()] == [CourseKind.CLOSE_ROUND] * is_quiet


def test_freezing_and_closing_do_not_end_one_another() -> None:
    """Servers that can write would go on in a closed round."""
    life = Life(contest(ContestState.RUNNING))
    life.act(Action.FREEZE)
    life.act(Action.CLOSE_ROUND)
    assert life.courses[""].kind is CourseKind.FREEZE
    life.act(Action.LIFT)
    assert life.courses[""].kind is CourseKind.CLOSE_ROUND


def test_a_frozen_team_comes_back_as_it_was() -> None:
    life = field("ice")
    life.act(Action.FREEZE, "ice")
    assert life.teams["ice"].state is TeamState.FROZEN
    assert life.teams["ice"].state_before is TeamState.ACTIVE
    life.work()
    assert life.teams["ice"].gate is Gate.FROZEN
    life.act(Action.LIFT, "ice")
    life.work()
    assert life.teams["ice"] == replace(team("ice"), generation=life.teams["ice"].generation)


def test_a_team_that_was_frozen_before_it_was_ready_is_active_when_it_is() -> None:
    life = Life(contest(ContestState.RUNNING), {"ice": team("ice", TeamState.INVITED)})
    life.act(Action.ADMIT, "ice")
    life.step("ice")
    life.act(Action.FREEZE, "ice")
    life.work()
    life.act(Action.LIFT, "ice")
    assert life.teams["ice"].state is TeamState.FROZEN
    assert "under way" in refusal(life, Action.LIFT, "ice")
    life.work()
    assert life.teams["ice"].state is TeamState.ACTIVE
    assert life.teams["ice"].gate is Gate.OPEN


# Advancing.


def test_who_is_kept_goes_on_in_batches_and_the_others_are_out() -> None:
    life = field("fog", "ice", "ocean", "wind")
    life.contest = replace(life.contest, manifest=manifest(batch_teams=2, batch_pause_s=60))
    plan = life.act(Action.ADVANCE, keep=("ocean", "fog", "ice"))
    due = {c.team: c.due_at - NOW for c in plan.courses if c.kind is CourseKind.ADVANCE}
    assert due == {
        "ocean": timedelta(0),
        "fog": timedelta(0),
        "ice": timedelta(seconds=60),
    }
    out = next(c for c in plan.courses if c.team == "wind")
    assert out.kind is CourseKind.ELIMINATE
    assert out.times == {Step.DRAIN: NOW + HOUR, Step.AWAIT_EXPORT: NOW + HOUR + WEEK}
    assert plan.irreversible == ("wind",)
    assert life.teams["wind"].state_before is TeamState.ACTIVE
    assert (life.contest.round, life.contest.state) == (2, ContestState.RUNNING)
    assert life.teams["fog"].round == 1, "until its batch"
    life.work()
    assert {t.id for t in life.teams.values() if t.round == 2} == {"fog", "ice", "ocean"}
    assert life.teams["wind"].state is TeamState.DESTROYED


def test_the_best_of_the_ranking_who_are_still_in() -> None:
    life = field("fog", "ice", "ocean", "wind")
    life.teams["fog"] = team("fog", TeamState.DESTROYED)
    life.contest = replace(life.contest, ranking=("ocean", "fog", "ice", "wind"))
    plan = life.act(Action.ADVANCE, top=2)
    kept = {c.team for c in plan.courses if c.kind is CourseKind.ADVANCE}
    assert kept == {"ocean", "ice"}
    assert life.contest.ranking == (), "which was of that round"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "say who goes on"),
        ({"keep": ("ice",), "top": 1}, "say who goes on"),
        ({"keep": ()}, "Nobody would go on"),
        ({"top": 0}, "Nobody would go on"),
        ({"top": 3}, "The ranking has 2 teams that are still in, not 3"),
        ({"keep": ("ice", "fog", "ice")}, "Named twice among those who go on: ice"),
        ({"keep": ("ice", "sun", "moon")}, "Not in the contest forecast: moon, sun"),
        ({"keep": ("ice", "late", "gone")}, "gone (destroyed), late (provisioning)"),
        ({"keep": ("ice", "leaving")}, "leaving (active, archive begun)"),
        ({"keep": ("ice", "back")}, "back (eliminated, restore begun)"),
    ],
)
def test_a_cut_that_is_not_one_is_refused(values: dict[str, Any], expected: str) -> None:
    life = field("fog", "ice", "leaving")
    life.contest = replace(life.contest, ranking=("ice", "fog"))
    life.teams["late"] = team("late", TeamState.PROVISIONING)
    life.teams["gone"] = team("gone", TeamState.DESTROYED)
    life.teams["back"] = team("back", TeamState.ELIMINATED)
    life.courses = {
        "leaving": course("leaving", CourseKind.ARCHIVE),
        "back": course("back", CourseKind.RESTORE),
    }
    assert expected in refusal(life, Action.ADVANCE, **values)


def test_after_the_last_round_there_is_none() -> None:
    life = field("ice")
    life.contest = contest(round=2)
    text = refusal(life, Action.ADVANCE, keep=("ice",))
    assert "last of its 2 rounds" in text
    assert "finish" in text


def test_a_cut_leaves_alone_who_is_out_already_and_catches_who_was_coming_back() -> None:
    life = field("ice", "leaving")
    life.teams["out"] = team("out", TeamState.ELIMINATED)
    life.teams["back"] = team("back", TeamState.ELIMINATED)
    life.teams["stored"] = team("stored", TeamState.ARCHIVED)
    life.courses = {
        "stored": course("stored", CourseKind.RESTORE),
        "leaving": course("leaving", CourseKind.DESTROY),
        "out": course("out", CourseKind.ELIMINATE, 4),
        "back": course("back", CourseKind.RESTORE),
    }
    plan = life.act(Action.ADVANCE, keep=("ice",))
    assert {c.team for c in plan.courses} == {"ice", "back", "stored"}
    assert life.courses["stored"].kind is CourseKind.ELIMINATE
    assert life.courses["back"].kind is CourseKind.ELIMINATE


@pytest.mark.parametrize("kind", [CourseKind.FREEZE, CourseKind.RESTORE, CourseKind.LIFT])
def test_what_a_kept_team_is_about_comes_to_its_end(kind: CourseKind) -> None:
    life = field("ice", "fog")
    is_lifting = kind is CourseKind.LIFT
    state, gate = (TeamState.ACTIVE, Gate.FROZEN) if is_lifting else (TeamState.FROZEN, Gate.CLOSED)
    life.teams["ice"] = team("ice", state, gate=gate)
    life.courses = {"ice": course("ice", kind)}
    life.act(Action.ADVANCE, keep=("ice", "fog"))
    life.work()
    assert life.teams["ice"].round == 2
    assert life.teams["ice"].gate is (Gate.FROZEN if kind is CourseKind.FREEZE else Gate.OPEN)


def test_who_is_frozen_before_its_batch_has_the_new_round_all_the_same() -> None:
    life = field("ice")
    life.act(Action.ADVANCE, keep=("ice",))
    life.act(Action.FREEZE, "ice")
    assert life.teams["ice"].round == 2


# Out, and back.


@pytest.mark.parametrize("step", range(len(steps_of(CourseKind.ELIMINATE))))
def test_an_eliminated_team_comes_back_until_something_is_deleted(step: int) -> None:
    life = field("ice", "fog")
    life.act(Action.ADVANCE, keep=("fog",))
    for _ in range(step):
        life.step("ice")
    if may_undo(life.courses["ice"]):
        assert step < steps_of(CourseKind.ELIMINATE).index(Step.RELEASE)
        life.act(Action.RESTORE, "ice")
        life.work()
        ice = life.teams["ice"]
        assert (ice.state, ice.round, ice.gate) == (TeamState.ACTIVE, 2, Gate.OPEN)
    else:
        assert "nothing leads back" in refusal(life, Action.RESTORE, "ice")


def test_after_the_contest_nobody_comes_back() -> None:
    life = Life(contest(ContestState.FINISHED), {"ice": team("ice", TeamState.ELIMINATED)})
    assert "finished" in refusal(life, Action.RESTORE, "ice")
    life.contest = contest(ContestState.RUNNING)
    life.teams["ice"] = team("ice", TeamState.ELIMINATED, retention=Retention.DESTROY)
    assert "set it to keep first" in refusal(life, Action.RESTORE, "ice")


# The end.


def teams_in_all_states() -> dict[str, Any]:
    return {state.value: team(state.value, state) for state in TeamState}


def test_destroying_a_contest_takes_every_team_that_is_left() -> None:
    life = Life(contest(ContestState.FINISHED), teams_in_all_states())
    life.courses["eliminated"] = course("eliminated", CourseKind.ELIMINATE, 4)
    plan = life.act(Action.DESTROY)
    assert life.contest.state is ContestState.FINISHED
    assert life.teams["invited"].state is TeamState.DESTROYED
    kinds = {c.team: (c.kind, c.step) for c in plan.courses}
    assert kinds == {
        "": (CourseKind.END, 0),
        **dict.fromkeys(
            ("provisioning", "active", "frozen", "eliminated"), (CourseKind.DESTROY, 0)
        ),
        "archived": (CourseKind.DESTROY, steps_of(CourseKind.DESTROY).index(Step.ARCHIVE)),
    }
    assert set(plan.irreversible) == set(kinds) - {""}
    assert "being destroyed" in refusal(life, Action.DESTROY)
    assert life.contest.is_frozen, "so that nobody registers"
    life.teams["late"] = team("late", TeamState.INVITED)
    assert possible_actions(life.contest, life.courses, life.teams["late"]) == (
        Action.REJECT,
        Action.DESTROY,
    )
    life.act(Action.REJECT, "late")
    assert "nothing any more" in refusal(life, Action.FREEZE)
    assert "being destroyed" in refusal(life, Action.RESTORE, "eliminated")
    life.work()
    assert life.contest.state is ContestState.DESTROYED
    assert {t.state for t in life.teams.values()} == {TeamState.DESTROYED}


def test_archiving_a_contest_keeps_the_promised_window() -> None:
    life = Life(contest(ContestState.FINISHED), teams_in_all_states())
    life.courses["eliminated"] = course("eliminated", CourseKind.ELIMINATE, 4)
    plan = life.act(Action.ARCHIVE)
    assert {c.team for c in plan.courses} == {"", "provisioning", "active", "frozen"}
    assert not plan.irreversible
    assert "being archived" in refusal(life, Action.ARCHIVE)
    assert "being archived" in refusal(life, Action.DESTROY)
    assert "being archived" in refusal(life, Action.FREEZE, "active")
    life.act(Action.DESTROY, "frozen")  # a way on, should its archive fail for good
    life.work()
    assert life.contest.state is ContestState.ARCHIVED
    life.act(Action.DESTROY)
    life.work()
    assert life.contest.state is ContestState.DESTROYED


def test_what_is_being_destroyed_is_left_to_it() -> None:
    life = field("ice", "fog")
    begun = course("ice", CourseKind.ELIMINATE, steps_of(CourseKind.ELIMINATE).index(Step.FORGET))
    life.courses = {"ice": begun}
    life.teams["ice"] = team("ice", TeamState.ARCHIVED)
    for action in TEAM_ACTIONS:
        assert "(at forget); nothing leads back" in refusal(life, action, "ice")
    life.contest = contest(ContestState.FINISHED)
    assert "ice" not in {c.team for c in life.act(Action.DESTROY).courses}
    assert life.courses["ice"] is begun


@pytest.mark.parametrize("two_persons", [True, False])
def test_a_second_person_is_needed_for_what_is_final(two_persons: bool) -> None:
    wanted = {Action.ADVANCE, Action.ELIMINATE, Action.DESTROY}
    for action in CONTEST_ACTIONS + TEAM_ACTIONS:
        for state in ContestState:
            life = Life(contest(state, manifest=manifest(two_persons=two_persons)))
            life.teams = {"ice": team("ice")}
            keep = {"keep": ("ice",)} if action is Action.ADVANCE else {}
            of = None if action in CONTEST_ACTIONS else "ice"
            try:
                plan = life.act(action, of, **keep)
            except RefusedError:
                continue
            assert plan.needs_second is (two_persons and action in wanted)


# Laws.

NAMES = ("fog", "ice", "ocean")
ACTS = st.tuples(
    st.sampled_from([None, None, *NAMES]),
    st.integers(0, 11),  # which of what is possible, or (0) of what is not
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
    st.integers(0, 14),
)


def chosen(life: Life, of: str | None, which: int) -> Action:
    possible = possible_actions(life.contest, life.courses, life.teams[of] if of else None)
    others = [action for action in Action if action not in possible]
    return possible[which % len(possible)] if possible and which else others[which % len(others)]


@settings(max_examples=300, deadline=None)
@given(st.booleans(), st.lists(ACTS, max_size=20))
def test_no_way_through_a_life_leaves_the_tables(begun: bool, acts: list[Any]) -> None:
    """Whatever is asked for in whatever order, with courses wherever they are meanwhile."""
    long = manifest().model_copy(update={"rounds": manifest().rounds * 3})
    life = field(*NAMES)
    life.contest = contest(manifest=long)
    if begun:
        life.act(Action.ADVANCE, keep=NAMES)
    else:
        life.contest = contest(ContestState.DRAFT, round=0, manifest=long)
        life.teams = {name: team(name, TeamState.INVITED, round=0) for name in NAMES}
    for of, which, keep, steps in acts:
        action = chosen(life, of, which)
        request = asked(action, of, **({"keep": tuple(keep)} if action is Action.ADVANCE else {}))
        is_possible = bool(which) and action in possible_actions(
            life.contest, life.courses, life.teams[of] if of else None
        )
        try:
            plan = life.plan(request)
        except RefusedError:
            assert not is_possible or action is Action.ADVANCE
            continue
        check(plan, life)
        life.write(plan)
        with pytest.raises(RefusedError):
            plan_action(request, life.contest, life.teams.values(), life.courses, now=life.now)
        for _ in range(steps):
            for name in sorted(life.courses, reverse=True):
                life.step(name)
    life.work()
    assert not life.courses
    for found in life.teams.values():
        gates = {
            TeamState.ACTIVE: Gate.OPEN,
            TeamState.FROZEN: Gate.FROZEN,
            TeamState.ARCHIVED: Gate.CLOSED,
        }
        assert found.state not in (TeamState.PROVISIONING, TeamState.ELIMINATED)
        assert found.gate is gates.get(found.state, found.gate)
        if found.state in (TeamState.ACTIVE, TeamState.FROZEN):
            assert found.round == life.contest.round


def check(plan: ActionPlan, life: Life) -> None:
    for move in plan.transitions:
        moves = TEAM_MOVES if move.team else CONTEST_MOVES
        assert (move.before, move.after) in moves
    for begun in plan.courses:
        before = life.courses.get(begun.team)
        assert before is None or may_undo(before), "what deletes is never stopped"
    assert set(plan.ended_courses) <= set(life.courses)
    assert not set(plan.ended_courses) & {c.team for c in plan.courses}


@settings(deadline=None)
@given(st.timedeltas(timedelta(0), timedelta(days=9)))
def test_the_hash_of_a_plan_does_not_age(later: timedelta) -> None:
    life = field("fog", "ice", "ocean")
    life.contest = replace(life.contest, manifest=manifest(batch_teams=1))
    plan = life.plan(asked(Action.ADVANCE, keep=("ice", "fog")))
    life.now += later
    again = life.plan(asked(Action.ADVANCE, keep=("ice", "fog")))
    assert hash_plan(again) == hash_plan(plan)
    assert len(hash_plan(plan)) == 64


def test_another_plan_has_another_hash() -> None:
    life = field("fog", "ice", "ocean")
    request = asked(Action.ADVANCE, keep=("ice", "fog"))
    plans = [
        life.plan(request),
        life.plan(asked(Action.ADVANCE, keep=("ice", "ocean"))),
        life.plan(asked(Action.ADVANCE, keep=("ice", "fog"), notice_s=0)),
        life.plan(asked(Action.FINISH)),
    ]
    life.contest = contest(manifest=manifest(export_window_s=60))
    plans.append(life.plan(request))
    life.contest = contest()
    del life.teams["ocean"]
    plans.append(life.plan(request))
    assert len({hash_plan(plan) for plan in plans}) == len(plans)


def test_five_thousand_teams_are_planned_at_once() -> None:
    life = field(*(f"t{i}" for i in range(5000)))
    life.contest = replace(life.contest, ranking=tuple(life.teams))
    plan = life.act(Action.ADVANCE, top=500)
    assert len(plan.courses) == 5000
    assert len(plan.irreversible) == 4500
    last = max(c.due_at for c in plan.courses if c.kind is CourseKind.ADVANCE)
    assert last - NOW == timedelta(minutes=9)
