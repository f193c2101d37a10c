"""Contests in any state, and what becomes of them when plans are written and steps are done."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from jupyterhub_collab.models import Retention
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionPlan,
    ActionRequest,
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    Step,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.models.team import Gate
from jupyterhub_collab.policy.contest_actions import plan_action
from jupyterhub_collab.policy.contest_courses import next_step
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest

from .manifests import MANIFEST

NOW = datetime(2027, 1, 31, 12, tzinfo=timezone.utc)

ROUNDS = """\
rounds:
  - title: First
    opens: 2027-02-01T09:00
    closes: 2027-02-20T18:00
    tier: small
  - title: Second
    opens: 2027-03-01T09:00
    closes: 2027-03-20T18:00
    tier: large
    images: [deep]
    datasets: [sst]
"""
REGISTRATION = """\
registration:
  tier: small
  opens: 2027-01-10T09:00
  closes: 2027-01-25T18:00
  mergeUntil: 2027-01-20T18:00
"""
LONG = MANIFEST + ROUNDS + REGISTRATION
WITHOUT_TEAMS = LONG.split("teams:")[0] + ROUNDS + REGISTRATION


def manifest(text: str = WITHOUT_TEAMS, **endings: Any) -> Any:
    found = _read(text)
    return found.model_copy(update={"endings": found.endings.model_copy(update=endings)})


@functools.cache
def _read(text: str) -> Any:
    return parse_contest_manifest(text, file="contest.yaml")


def contest(state: ContestState = ContestState.JUDGING, **values: Any) -> ContestRecord:
    values = {"round": 1, "manifest": manifest(), **values}
    return ContestRecord(id="forecast", state=state, **values)


def team(name: str, state: TeamState = TeamState.ACTIVE, **values: Any) -> TeamRecord:
    values = {"round": 1, "tier": "small", **values}
    return TeamRecord(id=name, contest="forecast", state=state, **values)


def course(of: str, kind: CourseKind, step: int = 0) -> Course:
    return Course(contest="forecast", team=of, kind=kind, step=step, due_at=NOW, operation=1)


def asked(action: Action, of: str | None = None, **values: Any) -> ActionRequest:
    return ActionRequest(action=action, team=of, **values)


@dataclass
class Life:
    """A registry in memory, as small as can be."""

    contest: ContestRecord
    teams: dict[str, TeamRecord] = field(default_factory=dict)
    courses: dict[str, Course] = field(default_factory=dict)
    now: datetime = NOW

    def plan(self, request: ActionRequest) -> ActionPlan:
        return plan_action(request, self.contest, self.teams.values(), self.courses, now=self.now)

    def act(self, action: Action, of: str | None = None, **values: Any) -> ActionPlan:
        plan = self.plan(asked(action, of, **values))
        self.write(plan)
        return plan

    def write(self, plan: ActionPlan) -> None:
        assert plan.contest_generation == self.contest.generation
        for transition in plan.transitions:
            before = self.teams[transition.team] if transition.team else self.contest
            assert before.state.value == transition.before
        if plan.contest_values:
            self.contest = _raised(self.contest, plan.contest_values)
        for update in plan.updates:
            self.teams[update.team] = _raised(self.teams[update.team], update.values)
        for team_id in plan.ended_courses:
            del self.courses[team_id]
        self.courses.update({begun.team: begun for begun in plan.courses})

    def work(self, limit: int = 1000) -> None:
        """Do steps in an order that is always the same, until none is left or all wait."""
        for _ in range(limit):
            moved = [self.step(of) for of in sorted(self.courses, reverse=True)]
            if not any(moved):
                return

    def step(self, of: str) -> bool:
        """One step, as a worker does it; whether it could be done."""
        at = self.courses[of]
        step = next_step(at)
        assert step is not None
        if self.now < max(at.due_at, at.times.get(step, at.due_at)):
            self.now = max(at.due_at, at.times.get(step, at.due_at))
        if step is Step.AWAIT_TEAMS and not self._teams_are_gone(at.kind):
            return False
        values = _values(step, at, self.contest)
        if of:
            self.teams[of] = _raised(self.teams[of], values)
        elif values:
            self.contest = _raised(self.contest, values)
        after = replace(at, step=at.step + 1, due_at=self.now)
        if next_step(after) is None:
            del self.courses[of]
        else:
            self.courses[of] = after
        return True

    def wait(self, **span: float) -> None:
        self.now += timedelta(**span)

    def _teams_are_gone(self, kind: CourseKind) -> bool:
        gone = {TeamState.DESTROYED}
        if kind is CourseKind.SHELVE:
            gone.add(TeamState.ARCHIVED)
        return all(team.state in gone for team in self.teams.values())


def _raised(row: Any, values: Mapping[str, Any]) -> Any:
    return replace(row, **values, generation=row.generation + 1) if values else row


def _values(step: Step, at: Course, of_contest: ContestRecord) -> dict[str, Any]:
    if step is Step.MARK_ENDED:
        ends = {
            CourseKind.SHELVE: {"state": ContestState.ARCHIVED},
            CourseKind.END: {"state": ContestState.DESTROYED},
        }
        return ends.get(at.kind, {})
    if not at.team:
        return {}
    values: dict[Step, dict[str, Any]] = {
        Step.OPEN_GATE: {"gate": Gate.OPEN},
        Step.FREEZE_GATE: {"gate": Gate.FROZEN},
        Step.CLOSE_GATE: {"gate": Gate.CLOSED},
        Step.RELEASE: {"retention": Retention.DESTROY},
        Step.MARK_ACTIVE: {"state": TeamState.ACTIVE, "state_before": None},
        Step.MARK_ARCHIVED: {"state": TeamState.ARCHIVED},
        Step.MARK_DESTROYED: {"state": TeamState.DESTROYED},
    }
    if step is Step.PROJECT and at.kind is CourseKind.ADVANCE:
        return {"round": of_contest.round}
    return values.get(step, {})
