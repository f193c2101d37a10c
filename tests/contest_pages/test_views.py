"""What a contest's page makes of records: what comes, what is stuck, what is one line."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub_collab.models import ContestManifest
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    Step,
    Transition,
)
from jupyterhub_collab.services.contests.pages_host import (
    deadlines,
    just_before,
    stuck_ones,
    together,
    under_way,
)
from jupyterhub_collab.storage.contests import PastTransition
from tests.storage.contest_samples import manifest

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=timezone.utc)


def contest(state: ContestState, number: int) -> ContestRecord:
    wire = manifest("sea").to_wire()
    wire["contest"]["ends"] = "2027-12-01T00:00:00+00:00"
    wire["rounds"] = [
        {"title": "First", "closes": "2027-05-01T18:00"},
        {"title": "Second", "opens": "2027-06-01T08:00", "closes": "2027-07-01T18:00"},
    ]
    wire["registration"] = {"tier": "small", "closes": "2027-04-01T12:00"}
    made = ContestManifest.model_validate(wire)
    return ContestRecord(id="sea", manifest=made, state=state, round=number)


def course(team: str, kind: CourseKind, step: int = 0, **more: object) -> Course:
    values = {"due_at": NOW, "operation": 1, **more}
    return Course(contest="sea", team=team, kind=kind, step=step, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "number", "months"),
    [
        (ContestState.REGISTRATION, 0, [4, 5, 6, 7, 12]),
        (ContestState.RUNNING, 1, [5, 6, 7, 12]),
        (ContestState.RUNNING, 2, [6, 7, 12]),
    ],
)
def test_what_was_done_by_hand_before_its_time_comes_no_more(
    state: ContestState, number: int, months: list[int]
) -> None:
    found = sorted(deadlines(contest(state, number), {}, NOW), key=lambda deadline: deadline.at)
    assert [deadline.at.month for deadline in found] == months


def test_several_teams_that_wait_for_one_moment_are_one_deadline() -> None:
    times = {Step.DRAIN: NOW + timedelta(hours=1)}
    past = {Step.DRAIN: NOW - timedelta(hours=1)}
    courses = {
        "a": course("a", CourseKind.FREEZE, times=times),
        "b": course("b", CourseKind.FREEZE, times=times),
        "c": course("c", CourseKind.DESTROY, times=times),
        "d": course("d", CourseKind.DESTROY, times=past),
    }
    record = ContestRecord(id="sea", manifest=manifest("sea"))
    assert {deadline.what for deadline in deadlines(record, courses, NOW)} == {
        "2 teams, being frozen: servers stop",
        "c, being destroyed: servers stop",
    }


def test_stuck_is_who_failed_several_times() -> None:
    courses = {
        "a": course("a", CourseKind.ADMIT, step=1, attempts=5, error="no answer"),
        "b": course("b", CourseKind.ADMIT, step=1, attempts=1, error="no answer"),
        "c": course("c", CourseKind.ADMIT, step=1, attempts=9),
    }
    (one,) = stuck_ones(courses)
    assert (one.team, one.step, one.error) == ("a", "wait until the space stands", "no answer")
    assert [(u.step, u.count) for u in under_way(courses)] == [("wait until the space stands", 3)]


def test_teams_that_went_one_way_are_one_line() -> None:
    def past(number: int, team: str, operation: int, after: str = "frozen") -> PastTransition:
        change = Transition("sea", team, "active", after)
        return PastTransition(number, NOW, "hana", operation, change)

    found = list(together([past(4, "a", 2), past(3, "b", 2), past(2, "", 2), past(1, "c", 1)]))
    assert [teams for _, teams in found] == [("a", "b"), (), ("c",)]


@pytest.mark.parametrize("begin", ["a", "sea", "sea-1", "z9"])
def test_a_list_begins_at_the_beginning_of_ids(begin: str) -> None:
    after = just_before(begin)
    assert after < begin
    assert not [c for c in ("a", "b-1", "sea", "sea-0", "sea-09", "z8z") if after < c < begin]
