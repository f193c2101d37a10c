"""What teams are told on the way: one notice a step that tells them something. Pure.

Each says what happens, when, and what can be done until then. Moments are in the contest's own time
zone, with the zone's name beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..models.contest_life import ContestRecord, Course, CourseKind, Notice, Step, TeamRecord
from .contest_courses import steps_of

SHOWN_FOR: Final = timedelta(days=14)


def to_notice(
    course: Course, contest: ContestRecord, team: TeamRecord | None, *, now: datetime
) -> Notice:
    """What is told at this step of this course. The same step twice has the same key."""
    words = _TEXTS[course.kind]
    text = words[min(_times_told(course), len(words) - 1)]
    moments = {
        "stop": _stop(course, contest, now),
        "export": _moment(course.times.get(Step.AWAIT_EXPORT), contest, "the end of the window"),
    }
    if team is None:
        who = f"The contest {contest.manifest.contest.title}"
    else:
        who = f"Your team {team.title or team.id}"
    return Notice(
        contest=contest.id,
        team=course.team,
        text=text.format(who=who, round=_round(contest), kept=_kept(contest), **moments),
        at=now,
        until=now + SHOWN_FOR,
        key=f"{course.kind.value}-{course.operation}-{course.step}",
    )


def _times_told(course: Course) -> int:
    return steps_of(course.kind)[: course.step].count(Step.NOTIFY)


def _round(contest: ContestRecord) -> str:
    rounds = contest.manifest.rounds
    if not 0 < contest.round <= len(rounds):
        return "this round"
    return f"round {contest.round}, {rounds[contest.round - 1].title}"


def _kept(contest: ContestRecord) -> str:
    if not contest.manifest.endings.archive:
        return "deleted for good"
    return f"archived for {contest.manifest.endings.keep_archives_days} days, and deleted here"


def _stop(course: Course, contest: ContestRecord, now: datetime) -> str:
    moment = course.times.get(Step.DRAIN)
    if moment is None or moment <= now:
        return "now"
    return f"at {_moment(moment, contest, '')}"


def _moment(moment: datetime | None, contest: ContestRecord, absent: str) -> str:
    if moment is None:
        return absent
    return moment.astimezone(_zone(contest)).strftime("%Y-%m-%d %H:%M %Z")


def _zone(contest: ContestRecord) -> tzinfo:
    try:
        return ZoneInfo(contest.manifest.contest.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return timezone.utc


_READ_ONLY: Final = (
    "After that you can start servers again; they read everything and change nothing."
)

_TEXTS: Final[Mapping[CourseKind, tuple[str, ...]]] = {
    CourseKind.ADMIT: ("{who} is in, and its space is ready: you can start servers.",),
    CourseKind.ADVANCE: (
        "{who} goes on to {round}. Servers that run are stopped {stop}; start them again to have"
        " the images, data sets and limits of the new round. Files stay as they are.",
    ),
    CourseKind.FREEZE: ("{who} is frozen. Servers that run are stopped {stop}. " + _READ_ONLY,),
    CourseKind.LIFT: (
        "{who} is open again. Servers that were started meanwhile change nothing until they are"
        " started again.",
    ),
    CourseKind.RESTORE: (
        "{who} is in again, with its files as they were. Servers that were started meanwhile change"
        " nothing until they are started again.",
    ),
    CourseKind.ELIMINATE: (
        "{who} does not go on. Servers that run are stopped {stop}. After that, until {export}, you"
        " can start servers to read and take out what is yours; they change nothing. Then all that"
        " the team has is {kept}.",
        "{who} had until {export} to take out what is its own. No server can be started any more;"
        " all that the team has is {kept}.",
    ),
    CourseKind.ARCHIVE: (
        "{who} is being archived. Servers that run are stopped {stop}, and none can be started.",
    ),
    CourseKind.DESTROY: (
        "{who} comes to its end. Servers that run are stopped {stop}, and none can be started. All"
        " that the team has is {kept}.",
    ),
    CourseKind.CLOSE_ROUND: (
        "{who}: the round is closed. Servers that can write are stopped {stop}. " + _READ_ONLY,
    ),
}
"""By kind, in the order in which they are told; {who} is a team or the contest."""
