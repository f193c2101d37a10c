"""What an action would change: from records and a moment to a plan, purely.

The dry run shows this plan, and the registry writes this plan; nothing else decides. What a state
allows is in `policy.contest_life`; here is added what is under way: who is on the way to be
destroyed is left to it, and a contest that ends takes nothing new.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final

from ..errors import PermanentError
from ..models import Gate, Retention
from ..models.contest_life import (
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
    TeamUpdate,
    Transition,
)
from .contest_courses import may_undo, next_step, steps_of
from .contest_life import Refusal, after_contest, after_team

_OF_TEAM: Final = (Action.ADMIT, Action.REJECT, Action.ELIMINATE, Action.RESTORE)
_OF_BOTH: Final = (Action.FREEZE, Action.LIFT, Action.ARCHIVE, Action.DESTROY)
TEAM_ACTIONS: Final = (*_OF_TEAM, *_OF_BOTH)
"""What may be done with one team."""

CONTEST_ACTIONS: Final = tuple(action for action in Action if action not in _OF_TEAM)
"""What may be done with a contest."""

LIVE: Final = frozenset({TeamState.PROVISIONING, TeamState.ACTIVE, TeamState.FROZEN})
"""Teams that are in the contest."""

_KEPT: Final = frozenset({TeamState.ACTIVE, TeamState.FROZEN})
_OVER: Final = frozenset({ContestState.FINISHED, ContestState.ARCHIVED, ContestState.DESTROYED})
_FINAL: Final = frozenset({Action.ADVANCE, Action.ELIMINATE, Action.DESTROY})
_NAMED: Final = 5  # teams that a sentence names


class RefusedError(PermanentError):
    """The action is not possible now; the text says why and what would be."""


def plan_action(
    request: ActionRequest,
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    courses: Mapping[str, Course],
    *,
    now: datetime,
) -> ActionPlan:
    """All that this action would change.

    Parameters
    ----------
    teams
        Of the contest; of an action on one team, that one alone is enough.
    courses
        What is under way, by team; the contest's own under "".

    Raises
    ------
    RefusedError
        It is not possible.
    """
    draft = _Draft(request, contest, courses, now)
    _refuse_misplaced(request)
    if request.team is None:
        _plan_contest(draft, {team.id: team for team in teams})
    else:
        found = [team for team in teams if team.id == request.team]
        if not found or found[0].contest != contest.id:
            raise RefusedError(f"The contest {contest.id} has no team {request.team}.")
        _plan_team(draft, found[0])
    return draft.to_plan()


def plan_admission(
    contest: ContestRecord,
    teams: Iterable[TeamRecord],
    courses: Mapping[str, Course],
    *,
    now: datetime,
    reason: str = "",
) -> ActionPlan:
    """Admit several teams at once: those of a manifest. Each must be INVITED.

    Raises
    ------
    RefusedError
        One of them cannot be admitted.
    """
    draft = _Draft(ActionRequest(action=Action.ADMIT, reason=reason), contest, courses, now)
    for team in teams:
        _plan_team(draft, team)
    return draft.to_plan()


def possible_actions(
    contest: ContestRecord, courses: Mapping[str, Course], team: TeamRecord | None = None
) -> tuple[Action, ...]:
    """What may be asked for now: with a team, or (None) with the contest."""
    if team is None:
        return tuple(a for a in CONTEST_ACTIONS if not _why_not_contest(a, contest, courses))
    return tuple(a for a in TEAM_ACTIONS if not _why_not_team(a, contest, team, courses))


def hash_plan(plan: ActionPlan) -> str:
    """SHA-256 of what the plan does, 64 hex digits: without moments, so that it can be shown, and
    approved later. How long after one another things happen is in it."""
    begin = min((course.due_at for course in plan.courses), default=None)

    def after_s(moment: datetime) -> float:
        return 0.0 if begin is None else (moment - begin).total_seconds()

    courses = [
        (
            course.team,
            course.kind.value,
            course.step,
            after_s(course.due_at),
            {step.value: after_s(moment) for step, moment in course.times.items()},
        )
        for course in plan.courses
    ]
    transitions = [(t.contest, t.team, t.before, t.after) for t in plan.transitions]
    parts = {
        "contest": plan.contest,
        "request": plan.request.to_wire(),
        "values": dict(plan.contest_values),
        "transitions": sorted(transitions),
        "updates": sorted((update.team, _to_text(update.values)) for update in plan.updates),
        "courses": sorted(_to_text(course) for course in courses),
        "ended": sorted(plan.ended_courses),
        "irreversible": sorted(plan.irreversible),
        "second": plan.needs_second,
    }
    return hashlib.sha256(_to_text(parts).encode()).hexdigest()


def _to_text(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_to_plain)


def _to_plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else str(value)


@dataclass
class _Draft:
    """A plan while it is made."""

    request: ActionRequest
    contest: ContestRecord
    courses: Mapping[str, Course]
    now: datetime
    contest_values: dict[str, Any] = field(default_factory=dict)
    transitions: list[Transition] = field(default_factory=list)
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    begun: dict[str, Course] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    irreversible: list[str] = field(default_factory=list)

    @property
    def notice(self) -> timedelta:
        """Between the notice and the stop of servers."""
        asked = self.request.notice_s
        seconds = self.contest.manifest.endings.notice_s if asked is None else asked
        return timedelta(seconds=seconds)

    def move_contest(self, after: ContestState, **values: Any) -> None:
        """The contest comes into another state (or stays in it, with another round)."""
        before = self.contest.state
        self.contest_values.update(values, state=after)
        reason = self.request.reason
        self.transitions.append(Transition(self.contest.id, "", before.value, after.value, reason))

    def move(self, team: TeamRecord, after: TeamState, **values: Any) -> None:
        """A team comes into another state."""
        self.updates.setdefault(team.id, {}).update(values, state=after)
        reason = self.request.reason
        self.transitions.append(
            Transition(self.contest.id, team.id, team.state.value, after.value, reason)
        )

    def begin(
        self,
        team: str,
        kind: CourseKind,
        *,
        at: Step | None = None,
        due_at: datetime | None = None,
        times: Mapping[Step, datetime] | None = None,
    ) -> None:
        """A course begins, in place of what is under way. Its operation's number comes later."""
        under_way = self.courses.get(team)
        if under_way is not None and under_way.kind is CourseKind.ADVANCE is not kind:
            # Which would have brought it there when its batch came.
            self.updates.setdefault(team, {}).setdefault("round", self.contest.round)
        self.begun[team] = Course(
            contest=self.contest.id,
            team=team,
            kind=kind,
            step=0 if at is None else steps_of(kind).index(at),
            due_at=due_at or self.now,
            operation=0,
            times=times or {},
        )

    def to_plan(self) -> ActionPlan:
        """It, finished."""
        endings = self.contest.manifest.endings
        is_final = bool(self.irreversible) or self.request.action in _FINAL
        return ActionPlan(
            contest=self.contest.id,
            contest_generation=self.contest.generation,
            request=self.request,
            contest_values=self.contest_values,
            transitions=tuple(self.transitions),
            updates=tuple(TeamUpdate(team, values) for team, values in self.updates.items()),
            courses=tuple(self.begun.values()),
            ended_courses=tuple(self.ended),
            irreversible=tuple(self.irreversible),
            needs_second=endings.two_persons and is_final,
        )


def _refuse_misplaced(request: ActionRequest) -> None:
    """Words that do not belong to this action."""
    action = request.action
    if request.team is None and action not in CONTEST_ACTIONS:
        raise RefusedError(f"To {action.value} is done with a team: say with which.")
    if request.team is not None and action not in TEAM_ACTIONS:
        raise RefusedError(f"To {action.value} is done with a whole contest: name no team.")
    if action is not Action.ADVANCE and (request.keep is not None or request.top is not None):
        raise RefusedError(f"Who is kept is said of advance only, not of {action.value}.")


# With a whole contest.


def _why_not_contest(action: Action, contest: ContestRecord, courses: Mapping[str, Course]) -> str:
    """Why this cannot be done with the contest now; empty: it can."""
    course = courses.get("")
    if course is not None and course.kind is CourseKind.END:
        return f"The contest {contest.id} is being destroyed"
    if course is not None and course.kind is CourseKind.SHELVE:
        return f"The contest {contest.id} is being archived: first that has to end"
    if action in (Action.FREEZE, Action.LIFT):
        if contest.state in (ContestState.ARCHIVED, ContestState.DESTROYED):
            return f"A contest that is {contest.state.value} cannot {action.value}"
        if contest.is_frozen is (action is Action.FREEZE):
            return f"The contest {contest.id} is {'' if contest.is_frozen else 'not '}frozen"
        return ""
    if isinstance(after_contest(contest.state, action), Refusal):
        return f"A contest that is {contest.state.value} cannot {action.value}"
    last = len(contest.manifest.rounds)
    if action is Action.ADVANCE and contest.round >= last:
        which = f"is in the last of its {last} rounds" if last else "has no rounds"
        return f"The contest {contest.id} {which}, so it cannot advance"
    return ""


def _plan_contest(draft: _Draft, teams: Mapping[str, TeamRecord]) -> None:
    contest, action = draft.contest, draft.request.action
    why = _why_not_contest(action, contest, draft.courses)
    if why:
        raise _refused(why, possible_actions(contest, draft.courses))
    after = after_contest(contest.state, action)
    if action is Action.ADVANCE:
        _plan_advance(draft, teams)
    elif action is Action.ARCHIVE:
        _plan_archive(draft, teams)
    elif action is Action.DESTROY:
        _plan_destroy(draft, teams)
    elif action is Action.FREEZE:
        draft.contest_values["is_frozen"] = True
        draft.begin("", CourseKind.FREEZE, times={Step.DRAIN: draft.now + draft.notice})
    elif action is Action.LIFT:
        _plan_lift(draft)
    elif not isinstance(after, Refusal):
        _plan_step(draft, after, teams)


def _plan_step(draft: _Draft, after: ContestState, teams: Mapping[str, TeamRecord]) -> None:
    """Open, start, close, reopen, finish: the contest's gate follows from its state."""
    contest, action = draft.contest, draft.request.action
    if action is Action.START and contest.manifest.rounds:
        draft.move_contest(after, round=1)
        for team in teams.values():
            # Nobody works yet, so there is nothing to do in batches.
            if team.state in LIVE and team.round != 1:
                draft.updates[team.id] = {"round": 1}
        return
    draft.move_contest(after)
    under_way = draft.courses.get("")
    is_freezing = under_way is not None and under_way.kind is CourseKind.FREEZE
    if action is Action.REOPEN_ROUND:
        _end_closing(draft)
    # Who is freezing stops the servers anyway; after JUDGING they are stopped already.
    elif contest.state is ContestState.RUNNING and not is_freezing:
        _begin_closing(draft)


def _begin_closing(draft: _Draft) -> None:
    draft.begin("", CourseKind.CLOSE_ROUND, times={Step.DRAIN: draft.now + draft.notice})


def _end_closing(draft: _Draft) -> None:
    under_way = draft.courses.get("")
    if under_way is not None and under_way.kind is CourseKind.CLOSE_ROUND:
        draft.ended.append("")


def _plan_lift(draft: _Draft) -> None:
    draft.contest_values["is_frozen"] = False
    under_way = draft.courses.get("")
    if under_way is None or under_way.kind is not CourseKind.FREEZE:
        return
    if draft.contest.state in (ContestState.JUDGING, ContestState.FINISHED):
        # Servers that can write may still run, and freezing took the place of closing.
        _begin_closing(draft)
    else:
        draft.ended.append("")


def _plan_advance(draft: _Draft, teams: Mapping[str, TeamRecord]) -> None:
    contest = draft.contest
    live = {team.id: team for team in teams.values() if _is_in(team, draft.courses.get(team.id))}
    kept = _kept(draft.request, contest, teams, live, draft.courses)
    following = contest.round + 1
    draft.move_contest(ContestState.RUNNING, round=following, ranking=())
    _end_closing(draft)
    endings = contest.manifest.endings
    pause = timedelta(seconds=endings.batch_pause_s)
    for i, team_id in enumerate(kept):
        due_at = draft.now + (i // endings.batch_teams) * pause
        _keep(draft, live[team_id], following, due_at)
    going_on = set(kept)
    for team_id, team in live.items():
        if team_id not in going_on:
            _eliminate(draft, team)


def _is_in(team: TeamRecord, course: Course | None) -> bool:
    """Whether a cut is about this team: neither out of the contest nor on its way out.

    One that is just coming back is in, or it would slip through the cut.
    """
    if course is not None and course.kind is CourseKind.RESTORE:
        return team.state in (*LIVE, TeamState.ELIMINATED, TeamState.ARCHIVED)
    return team.state in LIVE and not _is_leaving(course)


def _is_leaving(course: Course | None) -> bool:
    if course is None:
        return False
    return course.kind is CourseKind.ARCHIVE or not may_undo(course)


def _keep(draft: _Draft, team: TeamRecord, following: int, due_at: datetime) -> None:
    under_way = draft.courses.get(team.id)
    if under_way is not None and under_way.kind in (CourseKind.FREEZE, CourseKind.RESTORE):
        # That stops its servers, or waits for what the new round gives; it must come to its end.
        draft.updates[team.id] = {"round": following}
        return
    if under_way is not None and under_way.kind is CourseKind.LIFT:
        draft.updates[team.id] = {"gate": Gate.OPEN}  # which the course that ends had yet to do
    draft.begin(
        team.id,
        CourseKind.ADVANCE,
        due_at=due_at,
        times={Step.DRAIN: due_at + draft.notice},
    )


def _kept(
    request: ActionRequest,
    contest: ContestRecord,
    teams: Mapping[str, TeamRecord],
    live: Mapping[str, TeamRecord],
    courses: Mapping[str, Course],
) -> tuple[str, ...]:
    """Teams that go on, in the order in which they were named or ranked."""
    if (request.keep is None) is (request.top is None):
        raise RefusedError("To advance, say who goes on: either teams (keep), or how many (top).")
    if request.keep is not None:
        kept = request.keep
    else:
        ranked = tuple(team for team in contest.ranking if team in live)
        kept = ranked[: request.top]
        if len(kept) < (request.top or 0):
            raise RefusedError(
                f"The ranking has {len(ranked)} teams that are still in, not {request.top}:"
                " enter the rest of the ranking, or name the teams (keep)."
            )
    if not kept:
        raise RefusedError("Nobody would go on. To end the contest, finish it.")
    twice = [team for team, times in Counter(kept).items() if times > 1]
    if twice:
        raise RefusedError(f"Named twice among those who go on: {_list(twice)}.")
    strangers = [team for team in kept if team not in teams]
    if strangers:
        raise RefusedError(f"Not in the contest {contest.id}: {_list(strangers)}.")
    wrong = [
        f"{team} ({_how_it_is(teams[team], courses.get(team))})"
        for team in kept
        if team not in live or teams[team].state not in _KEPT
    ]
    if wrong:
        raise RefusedError(
            f"Only teams that are active or frozen go on, not {_list(wrong)}. Name others, or bring"
            " these back first."
        )
    return kept


def _how_it_is(team: TeamRecord, course: Course | None) -> str:
    return team.state.value if course is None else f"{team.state.value}, {course.kind.value} begun"


def _plan_archive(draft: _Draft, teams: Mapping[str, TeamRecord]) -> None:
    draft.begin("", CourseKind.SHELVE)
    for team in teams.values():
        course = draft.courses.get(team.id)
        if team.state is TeamState.INVITED:
            draft.move(team, TeamState.DESTROYED)
        elif team.state in (TeamState.ARCHIVED, TeamState.DESTROYED) or _is_leaving(course):
            continue
        elif course is not None and course.kind is CourseKind.ELIMINATE:
            continue  # its export window was promised; its volumes are archived after it
        else:
            _archive(draft, team)


def _plan_destroy(draft: _Draft, teams: Mapping[str, TeamRecord]) -> None:
    draft.contest_values["is_frozen"] = True  # so that nobody registers meanwhile
    draft.begin("", CourseKind.END)
    for team in teams.values():
        course = draft.courses.get(team.id)
        if team.state is TeamState.INVITED:
            draft.move(team, TeamState.DESTROYED)
        elif team.state is not TeamState.DESTROYED and not _is_being_destroyed(course):
            _destroy(draft, team)


def _is_being_destroyed(course: Course | None) -> bool:
    return course is not None and not may_undo(course)


# With one team.


def _why_not_team(
    action: Action, contest: ContestRecord, team: TeamRecord, courses: Mapping[str, Course]
) -> str:
    """Why this cannot be done with the team now; empty: it can."""
    of_contest, course = courses.get(""), courses.get(team.id)
    # Who came in at the last moment has nothing, and would be waited for.
    is_late = team.state is TeamState.INVITED and action in (Action.REJECT, Action.DESTROY)
    if of_contest is not None and of_contest.kind is CourseKind.END and not is_late:
        return f"The contest {contest.id} is being destroyed, and {team.id} with it"
    if _is_being_destroyed(course):
        step = next_step(course) if course is not None else None
        at = "" if step is None else f" (at {step.value})"
        return f"The team {team.id} is being destroyed{at}; nothing leads back"
    is_shelved = of_contest is not None and of_contest.kind is CourseKind.SHELVE
    if is_shelved and action is not Action.DESTROY:
        return f"The contest {contest.id} is being archived, and {team.id} with it"
    if isinstance(after_team(team.state, action), Refusal):
        return f"The team {team.id} is {team.state.value}: it cannot {action.value}"
    if action in (Action.ADMIT, Action.RESTORE) and contest.state in _OVER:
        return f"The contest {contest.id} is {contest.state.value}: nobody comes into it any more"
    if action is Action.RESTORE and team.retention is Retention.DESTROY:
        return f"The retention of {team.id} is destroy: set it to keep first"
    if course is not None and course.kind in _SAME.get(action, ()):
        return f"That is under way already with {team.id}"
    return ""


_SAME: Final[Mapping[Action, tuple[CourseKind, ...]]] = {
    Action.ARCHIVE: (CourseKind.ARCHIVE,),
    Action.LIFT: (CourseKind.RESTORE,),
    Action.RESTORE: (CourseKind.RESTORE,),
}
"""Courses at whose end only an action has its state: till then it could be asked for again."""


def _plan_team(draft: _Draft, team: TeamRecord) -> None:
    contest, action = draft.contest, draft.request.action
    why = _why_not_team(action, contest, team, draft.courses)
    if why:
        raise _refused(why, possible_actions(contest, draft.courses, team))
    if action is Action.ADMIT:
        draft.move(team, TeamState.PROVISIONING, round=contest.round)
        draft.begin(team.id, CourseKind.ADMIT)
    elif action is Action.REJECT:
        draft.move(team, TeamState.DESTROYED)
    elif action is Action.ELIMINATE:
        _eliminate(draft, team)
    elif action is Action.RESTORE:
        draft.updates[team.id] = {"round": contest.round}
        draft.begin(team.id, CourseKind.RESTORE)
    elif action is Action.FREEZE:
        draft.move(team, TeamState.FROZEN, state_before=team.state)
        draft.begin(team.id, CourseKind.FREEZE, times={Step.DRAIN: draft.now + draft.notice})
    elif action is Action.LIFT:
        _lift(draft, team)
    elif action is Action.ARCHIVE:
        _archive(draft, team)
    elif team.state is TeamState.INVITED:
        draft.move(team, TeamState.DESTROYED)
    else:
        _destroy(draft, team)


def _lift(draft: _Draft, team: TeamRecord) -> None:
    if team.state_before is TeamState.PROVISIONING:
        # It never was ready: it is active once it is, as one that comes back.
        draft.begin(team.id, CourseKind.RESTORE)
        return
    draft.move(team, TeamState.ACTIVE, state_before=None)
    draft.begin(team.id, CourseKind.LIFT)


def _eliminate(draft: _Draft, team: TeamRecord) -> None:
    """Out: notice, a time to read and export, then archive and destruction."""
    drain_at = draft.now + draft.notice
    window = timedelta(seconds=draft.contest.manifest.endings.export_window_s)
    if team.state is not TeamState.ELIMINATED:  # else it was just coming back
        draft.move(team, TeamState.ELIMINATED, state_before=team.state)
    draft.begin(
        team.id,
        CourseKind.ELIMINATE,
        times={Step.DRAIN: drain_at, Step.AWAIT_EXPORT: drain_at + window},
    )
    draft.irreversible.append(team.id)


def _archive(draft: _Draft, team: TeamRecord) -> None:
    draft.begin(team.id, CourseKind.ARCHIVE, times={Step.DRAIN: draft.now + draft.notice})


def _destroy(draft: _Draft, team: TeamRecord) -> None:
    draft.irreversible.append(team.id)
    if team.state is TeamState.ARCHIVED and team.id not in draft.courses:
        # Its gate is closed. Whether its copies are still kept is looked at once more.
        draft.begin(team.id, CourseKind.DESTROY, at=Step.ARCHIVE)
        return
    draft.begin(team.id, CourseKind.DESTROY, times={Step.DRAIN: draft.now + draft.notice})


def _refused(why: str, possible: Collection[Action]) -> RefusedError:
    could = ", ".join(sorted(action.value for action in possible)) or "nothing any more"
    return RefusedError(f"{why}. What is possible now: {could}.")


def _list(teams: Collection[str]) -> str:
    """The first few, and how many more."""
    named = sorted(teams)
    more = len(named) - _NAMED
    text = ", ".join(named[:_NAMED])
    return f"{text} and {more} more" if more > 0 else text
