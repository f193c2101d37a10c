"""A plan in words: who goes where, what begins, and from when on it cannot be taken back."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from jupyterhub_collab.models import ContestManifest
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionRequest,
    ContestRecord,
    ContestState,
    CourseKind,
    Step,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.action_words import (
    ACTION_WORDS,
    COURSE_WORDS,
    STEP_WORDS,
    PlanWords,
    describe_plan,
)
from jupyterhub_collab.policy.contest_actions import plan_action
from tests.storage.contest_samples import manifest

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=timezone.utc)
NOTICE = timedelta(hours=1)
WINDOW = timedelta(days=7)


def contest(state: ContestState, **more: Any) -> ContestRecord:
    wire = manifest("sea").to_wire()
    wire["rounds"] = [{"title": "First"}, {"title": "Second"}]
    made = ContestManifest.model_validate(wire)
    return ContestRecord(id="sea", manifest=made, state=state, **more)


def team(name: str, state: TeamState = TeamState.ACTIVE) -> TeamRecord:
    return TeamRecord(name, "sea", tier="small", state=state, round=1)


def words(record: ContestRecord, *teams: TeamRecord, **request: Any) -> PlanWords:
    plan = plan_action(ActionRequest(**request), record, teams, {}, now=NOW)
    return describe_plan(plan, record)


def test_an_advance() -> None:
    record = contest(ContestState.JUDGING, round=1, ranking=("a", "b", "c"))
    said = words(record, team("a"), team("b"), team("c"), action=Action.ADVANCE, top=1)
    assert said.title == "Advance to the next round"
    assert said.sentences == (
        "The contest goes from judging to running.",
        "Round 2, Second begins.",
    )
    assert said.moves == (
        ("stay in and come into the next round", ("a",)),
        ("active → eliminated", ("b", "c")),
    )
    leaving = next(going for going in said.goings if going.what == "leaving the contest")
    assert leaving.teams == ("b", "c")
    assert leaving.steps[:3] == ("close the gate", "tell the people", "stop servers")
    assert "close the gate again" in leaving.steps
    assert leaving.times == (
        ("servers stop", NOW + NOTICE),
        ("the export window ends", NOW + NOTICE + WINDOW),
    )
    assert said.irreversible == ("b", "c")
    assert said.irreversible_from == NOW + NOTICE + WINDOW


def test_destruction_can_be_taken_back_until_servers_have_stopped() -> None:
    said = words(contest(ContestState.RUNNING, round=1), team("a"), action=Action.DESTROY, team="a")
    assert said.title == "Destroy: a"
    assert said.irreversible == ("a",)
    assert said.irreversible_from == NOW + NOTICE


@pytest.mark.parametrize(
    ("state", "frozen", "action", "sentence"),
    [
        (ContestState.RUNNING, False, Action.FREEZE, "Nobody in the contest can change anything"),
        (ContestState.RUNNING, True, Action.LIFT, "The freeze of the contest is lifted."),
        (ContestState.RUNNING, False, Action.FINISH, "goes from running to finished."),
    ],
)
def test_of_the_whole_contest(
    state: ContestState, frozen: bool, action: Action, sentence: str
) -> None:
    said = words(contest(state, round=1, is_frozen=frozen), team("a"), action=action)
    assert any(sentence in line for line in said.sentences), said.sentences
    assert said.irreversible == ()


def test_there_are_words_for_everything() -> None:
    assert set(ACTION_WORDS) == set(Action)
    assert set(COURSE_WORDS) == set(CourseKind)
    assert set(STEP_WORDS) == set(Step)
