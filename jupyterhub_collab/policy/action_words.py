"""What a plan would do, in words for the person who decides: the dry run as people read it. Pure.

Everything is said of the plan itself, so that what is read is what is approved and written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from ..models.contest_life import (
    Action,
    ActionPlan,
    ContestRecord,
    Course,
    CourseKind,
    Step,
    TeamState,
)
from .contest_courses import IRREVERSIBLE, steps_of

ACTION_WORDS: Final[Mapping[Action, str]] = MappingProxyType(
    {
        Action.OPEN: "Open registration",
        Action.START: "Start the contest",
        Action.CLOSE_ROUND: "Close the round",
        Action.REOPEN_ROUND: "Open the round again",
        Action.ADVANCE: "Advance to the next round",
        Action.FINISH: "Finish the contest",
        Action.ARCHIVE: "Archive",
        Action.DESTROY: "Destroy",
        Action.FREEZE: "Freeze",
        Action.LIFT: "Lift the freeze",
        Action.ADMIT: "Admit the team",
        Action.REJECT: "Reject the team",
        Action.ELIMINATE: "Eliminate the team",
        Action.RESTORE: "Take the team in again",
    }
)
"""What a button says."""

COURSE_WORDS: Final[Mapping[CourseKind, str]] = MappingProxyType(
    {
        CourseKind.ADMIT: "being let in",
        CourseKind.ADVANCE: "coming into the next round",
        CourseKind.FREEZE: "being frozen",
        CourseKind.LIFT: "being opened again",
        CourseKind.ELIMINATE: "leaving the contest",
        CourseKind.RESTORE: "coming back in",
        CourseKind.ARCHIVE: "being archived",
        CourseKind.DESTROY: "being destroyed",
        CourseKind.CLOSE_ROUND: "closing the round",
        CourseKind.SHELVE: "being archived",
        CourseKind.END: "coming to its end",
    }
)
"""What a course is, of a team or a contest that is on it."""

STEP_WORDS: Final[Mapping[Step, str]] = MappingProxyType(
    {
        Step.PROJECT: "write the hub group",
        Step.AWAIT_READY: "wait until the space stands",
        Step.OPEN_GATE: "open the gate",
        Step.CLOSE_GATE: "close the gate",
        Step.FREEZE_GATE: "let servers start again, read-only",
        Step.NOTIFY: "tell the people",
        Step.DRAIN: "stop servers",
        Step.AWAIT_EXPORT: "wait until the export window ends",
        Step.ARCHIVE: "copy the volumes, and check the copies",
        Step.MARK_ARCHIVED: "note it as archived",
        Step.RELEASE: "decide destruction",
        Step.AWAIT_DESTROYED: "wait until the namespace is gone",
        Step.FORGET: "remove tokens, group and users who belong to nothing else",
        Step.MARK_DESTROYED: "note it as destroyed",
        Step.MARK_ACTIVE: "note it as active",
        Step.AWAIT_TEAMS: "wait for the teams",
        Step.REMOVE_SHARED: "remove what the contest shares",
        Step.SCAN: "look for what is left",
        Step.CERTIFY: "sign the certificate",
        Step.MARK_ENDED: "note it as ended",
    }
)
"""What a step does."""


MOMENT_WORDS: Final[Mapping[Step, str]] = MappingProxyType(
    {Step.DRAIN: "servers stop", Step.AWAIT_EXPORT: "the export window ends"}
)
"""What happens at a moment that a step waits for."""


def moment_words(step: Step) -> str:
    """What happens at the moment that this step waits for."""
    return MOMENT_WORDS.get(step, STEP_WORDS[step])


@dataclass(frozen=True)
class Going:
    """Teams that go the same way.

    Attributes
    ----------
    times
        Moments that are waited for, with words, in order.
    steps
        In words, in order.
    """

    what: str
    teams: tuple[str, ...]
    steps: tuple[str, ...]
    times: tuple[tuple[str, datetime], ...]


@dataclass(frozen=True)
class PlanWords:
    """A plan in words.

    Attributes
    ----------
    sentences
        On the contest itself.
    moves
        What becomes of teams: words, and the teams.
    goings
        What begins and takes time.
    irreversible
        Teams of which something is deleted for good; `irreversible_from` says from when on, at the
        earliest. None: as soon as it runs.
    """

    title: str
    sentences: tuple[str, ...]
    moves: tuple[tuple[str, tuple[str, ...]], ...]
    goings: tuple[Going, ...]
    irreversible: tuple[str, ...]
    irreversible_from: datetime | None
    needs_second: bool


def describe_plan(plan: ActionPlan, contest: ContestRecord) -> PlanWords:
    """It, in words."""
    title = ACTION_WORDS[plan.request.action]
    if plan.request.team is not None:
        title = f"{title}: {plan.request.team}"
    return PlanWords(
        title=title,
        sentences=tuple(_sentences(plan, contest)),
        moves=tuple(_moves(plan)),
        goings=tuple(_goings(plan.courses)),
        irreversible=plan.irreversible,
        irreversible_from=_irreversible_from(plan),
        needs_second=plan.needs_second,
    )


def _sentences(plan: ActionPlan, contest: ContestRecord) -> Iterable[str]:
    values = plan.contest_values
    state = values.get("state", contest.state)
    if state is not contest.state:
        yield f"The contest goes from {contest.state.value} to {state.value}."
    following = values.get("round", contest.round)
    if following != contest.round:
        rounds = contest.manifest.rounds
        named = f", {rounds[following - 1].title}" if 0 < following <= len(rounds) else ""
        yield f"Round {following}{named} begins."
    if values.get("is_frozen", contest.is_frozen) is not contest.is_frozen:
        yield (
            "Nobody in the contest can change anything until it is lifted."
            if values["is_frozen"]
            else "The freeze of the contest is lifted."
        )
    updates = len(plan.updates) - len({t.team for t in plan.transitions if t.team})
    if updates > 0:
        yield f"{_count(updates, 'team')} {_verb(updates, 'changes', 'change')} without moving on."
    ended = [team for team in plan.ended_courses if team]
    if "" in plan.ended_courses:
        yield "What is under way with the contest ends where it is."
    if ended:
        yield f"What is under way with {_names(ended)} ends where it is."
    if plan.needs_second:
        yield "Nothing is done until another host has approved exactly this."


def _moves(plan: ActionPlan) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Transitions of teams; those that stay first, then by how final it is."""
    found: dict[tuple[str, str], list[str]] = {}
    for change in plan.transitions:
        if change.team:
            found.setdefault((change.before, change.after), []).append(change.team)
    kept = [c.team for c in plan.courses if c.kind is CourseKind.ADVANCE]
    if kept:
        yield "stay in and come into the next round", tuple(kept)
    order = [state.value for state in TeamState]
    for (before, after), teams in sorted(found.items(), key=lambda item: order.index(item[0][1])):
        yield f"{before} → {after}", tuple(teams)


def _goings(courses: Iterable[Course]) -> Iterable[Going]:
    found: dict[tuple[CourseKind, int, bool], list[Course]] = {}
    for course in courses:
        found.setdefault((course.kind, course.step, not course.team), []).append(course)
    for (kind, step, is_contest), some in found.items():
        yield Going(
            what="the contest" if is_contest else COURSE_WORDS[kind],
            teams=() if is_contest else tuple(course.team for course in some),
            steps=tuple(_with_again(steps_of(kind)[step:])),
            times=tuple(_times(some)),
        )


def _with_again(steps: Iterable[Step]) -> Iterable[str]:
    seen: Counter[Step] = Counter()
    for step in steps:
        seen[step] += 1
        yield STEP_WORDS[step] + (" again" if seen[step] > 1 else "")


def _times(courses: list[Course]) -> Iterable[tuple[str, datetime]]:
    """Of several courses, the first and the last moment of each step."""
    moments: dict[Step, list[datetime]] = {}
    for course in courses:
        for step, moment in course.times.items():
            moments.setdefault(step, []).append(moment)
    for step, some in sorted(moments.items(), key=lambda item: min(item[1])):
        yield moment_words(step), min(some)
        if max(some) - min(some) > timedelta(seconds=1):
            yield f"{moment_words(step)}, the last of them", max(some)


def _irreversible_from(plan: ActionPlan) -> datetime | None:
    """No earlier than the last moment that is waited for before the first step of that kind."""
    found = []
    for course in plan.courses:
        if course.team not in plan.irreversible:
            continue
        before = []
        for step in steps_of(course.kind)[course.step :]:
            if step in IRREVERSIBLE:
                break
            before.append(step)
        moments = [course.times[step] for step in before if step in course.times]
        found.append(max([course.due_at, *moments]))
    return min(found, default=None)


def _names(teams: list[str], most: int = 5) -> str:
    named = ", ".join(teams[:most])
    return named if len(teams) <= most else f"{named} and {len(teams) - most} more"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _verb(number: int, one: str, several: str) -> str:
    return one if number == 1 else several
