"""The tables of states and courses, and the page that is drawn from them."""

from __future__ import annotations

import re
from itertools import product

import pytest

from jupyterhub_collab.models.contest_life import (
    Action,
    ContestState,
    Course,
    CourseKind,
    Step,
    TeamState,
)
from jupyterhub_collab.models.team import Gate
from jupyterhub_collab.policy.contest_courses import (
    FINAL,
    IRREVERSIBLE,
    STEPS,
    may_undo,
    next_step,
    steps_of,
)
from jupyterhub_collab.policy.contest_life import (
    CONTEST_GATES,
    CONTEST_TRANSITIONS,
    TEAM_TRANSITIONS,
    Refusal,
    after_contest,
    after_team,
    strictest,
)
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest
from tools.contest_life_page import PAGE, TEXT, draw, render

from .lives import course

MANIFEST_PAGE = PAGE.parent / "contest-manifest.md"


def test_the_page_is_the_tables() -> None:
    assert PAGE.read_text() == render(), "run python tools/generate_docs.py"


def test_every_way_is_drawn_and_no_other() -> None:
    drawn = draw(CONTEST_TRANSITIONS, {})
    assert drawn.count("►") == len(CONTEST_TRANSITIONS)
    for _, action in CONTEST_TRANSITIONS:
        assert f" {action.value} " in drawn
    assert draw(TEAM_TRANSITIONS, {}).count("►") == len(TEAM_TRANSITIONS)


def test_the_examples_of_the_manual_are_manifests() -> None:
    whole, besides = re.findall(r"```yaml\n(.*?)```", MANIFEST_PAGE.read_text(), re.DOTALL)[:2]
    assert parse_contest_manifest(whole, file="page").rounds == ()
    own = whole[: whole.index("contest:")] + besides + whole[whole.index("tiers:") :]
    found = parse_contest_manifest(own, file="page")
    assert [part.title for part in found.rounds] == ["Warm-up", "Finals"]


def test_what_is_not_in_the_tables_is_refused_with_what_is() -> None:
    for state, action in product(ContestState, Action):
        after = after_contest(state, action)
        assert isinstance(after, Refusal) is ((state, action) not in CONTEST_TRANSITIONS)
        if isinstance(after, Refusal):
            assert f"contest that is {state.value} cannot {action.value}" in after.message
            for known, possible in CONTEST_TRANSITIONS:
                assert known is not state or possible.value in after.message
    for team_state, action in product(TeamState, Action):
        result = after_team(team_state, action)
        assert isinstance(result, Refusal) is ((team_state, action) not in TEAM_TRANSITIONS)
    assert "nothing any more" in str(after_team(TeamState.DESTROYED, Action.RESTORE))


@pytest.mark.parametrize("state", [s for s in ContestState if s is not ContestState.DESTROYED])
def test_every_contest_can_come_to_its_end(state: ContestState) -> None:
    reached = {state}
    for _ in ContestState:
        reached |= {
            after for (before, _), after in CONTEST_TRANSITIONS.items() if before in reached
        }
    assert ContestState.DESTROYED in reached
    assert not any(before is ContestState.DESTROYED for before, _ in CONTEST_TRANSITIONS)


def test_nobody_works_in_what_does_not_run() -> None:
    assert [s for s, gate in CONTEST_GATES.items() if gate is Gate.OPEN] == [ContestState.RUNNING]
    assert set(CONTEST_GATES) == set(ContestState)
    assert strictest() is Gate.OPEN
    assert strictest(Gate.FROZEN, Gate.OPEN) is Gate.FROZEN
    assert strictest(Gate.FROZEN, Gate.CLOSED, Gate.OPEN) is Gate.CLOSED


@pytest.mark.parametrize("kind", CourseKind)
def test_a_course_can_be_undone_until_something_is_gone(kind: CourseKind) -> None:
    steps = steps_of(kind)
    assert set(STEPS) == set(CourseKind)
    for at in range(len(steps)):
        begun: Course = course("ice", kind, at)
        assert next_step(begun) is steps[at]
        is_final = kind in FINAL or bool(IRREVERSIBLE & set(steps[: at + 1]))
        assert may_undo(begun) is not is_final
    assert next_step(course("ice", kind, len(steps))) is None


def test_volumes_are_copied_before_anything_is_deleted_and_nobody_works_then() -> None:
    for kind in (CourseKind.ELIMINATE, CourseKind.DESTROY):
        steps = steps_of(kind)
        archive = steps.index(Step.ARCHIVE)
        assert steps[archive - 1] is Step.DRAIN
        gates = [s for s in steps[:archive] if s in (Step.CLOSE_GATE, Step.FREEZE_GATE)]
        assert gates[-1] is Step.CLOSE_GATE
        assert archive < steps.index(Step.RELEASE) < steps.index(Step.FORGET)


def test_the_page_s_text_has_each_drawing_once() -> None:
    marks = re.findall(r"<!-- (\w+) -->", TEXT.read_text())
    assert sorted(marks) == ["actions", "contest", "courses", "steps", "team"]
