"""A contest and its teams as its host sees them: where everything is, what is stuck, what comes.

Only hosts of the contest and admins of the hub come here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Final
from urllib.parse import urlencode

from ... import names
from ...models.contest_life import (
    ContestRecord,
    ContestState,
    Course,
    CourseKind,
    MemberRecord,
    OperationState,
    Step,
    TeamRecord,
    TeamState,
)
from ...policy.action_words import ACTION_WORDS, COURSE_WORDS, STEP_WORDS, moment_words
from ...policy.contest_access import Right
from ...policy.contest_actions import possible_actions
from ...policy.contest_calendar import Occasion
from ...policy.contest_calendar import deadlines as calendar_deadlines
from ...policy.contest_courses import next_step
from ...policy.contest_projection import to_acceptance
from ...policy.roster import to_text
from ...storage.contests import DeliveryState, PastTransition
from .handlers import Route
from .pages import PageHandler, name_of, round_of, zone_of
from .progress import PROBLEMS

_TEAMS_MAX: Final = 50  # on a page
_STUCK_MAX: Final = 20
_NEWEST: Final = 15
_LOOKED_AT: Final = 500  # transitions; a thousand teams that went one way are one line
_DEADLINES_MAX: Final = 12
_UNDELIVERED_LOOKED_AT: Final = 1000
_UNDELIVERED_MAX: Final = 10  # kinds of reasons
_STUCK_AFTER: Final = 3  # attempts at one step


@dataclass(frozen=True)
class Stuck:
    """A team, or the contest (empty), that does not come on."""

    team: str
    what: str
    step: str
    error: str
    attempts: int
    again_at: datetime


@dataclass(frozen=True)
class UnderWay:
    """How many are on which way, and before which step."""

    what: str
    step: str
    count: int
    first_due: datetime


@dataclass(frozen=True)
class Deadline:
    """A moment that comes."""

    at: datetime
    what: str


class ContestPage(PageHandler):
    """Everything about a contest on one page. `live` asks for the part that changes by itself."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        store, now = self.work.store, self.work.now()
        courses = await store.courses(contest)
        counts = await store.count_teams(contest)
        notices = await store.notices(contest=contest, now=now)
        self.show(
            "contest.html",
            contest=record,
            zone=zone_of(record),
            now=now,
            round_words=round_of(record),
            counts={state: count for state in TeamState if (count := counts.get(state, 0))},
            under_way=list(under_way(courses)),
            stuck=list(stuck_ones(courses))[:_STUCK_MAX],
            unreadable=await store.unreadable_teams(contest),
            unwritten=await self._unwritten(record),
            deadlines=sorted(deadlines(record, courses, now), key=lambda d: d.at)[:_DEADLINES_MAX],
            waiting=await store.operations(contest, states=(OperationState.PROPOSED,)),
            actions=[(a, ACTION_WORDS[a]) for a in possible_actions(record, courses)],
            gathered=counts.get(TeamState.INVITED, 0),
            newest=list(together(await store.newest_transitions(contest, limit=_LOOKED_AT)))[
                :_NEWEST
            ],
            notices=[n for n in notices if not n.team],
            told_teams=len({n.team for n in notices if n.team}),
            undelivered=await self._undelivered(contest),
            certificate=await store.certificate(contest),
            words=ACTION_WORDS,
        )

    async def _undelivered(self, contest: str) -> list[tuple[str, str, int]]:
        """Ways on which notices were given up, why, and for how many; the most first."""
        found = await self.work.store.deliveries.undone(contest, limit=_UNDELIVERED_LOOKED_AT)
        given_up = Counter(
            (d.channel, d.why) for _, d in found if d.state is DeliveryState.GIVEN_UP
        )
        return [(*what, count) for what, count in given_up.most_common(_UNDELIVERED_MAX)]

    async def _unwritten(self, contest: ContestRecord) -> list[tuple[str, str]]:
        """Groups of the hub that cannot be brought after the registry, and why."""
        problems = self.work.more[PROBLEMS]()
        if not problems:
            return []
        behind = (await self.work.registry.progress(contest)).behind
        return [(group, problems[group]) for group in behind if group in problems][:_STUCK_MAX]


class TeamsPage(PageHandler):
    """Teams of a contest in pages, by state and by the beginning of their ids."""

    async def get(self, contest: str) -> None:
        record = await self.require(Right.HOST, contest)
        wanted = self.get_query_argument("state", "")
        states = [s for s in TeamState if s.value == wanted]
        begin = self.get_query_argument("id", "").lower()[:30]
        after = self.get_query_argument("after", "")[:30]
        is_wrong = bool(begin) and not names.is_team_id(begin.rstrip("-") or "x")
        teams: list[TeamRecord] = []
        if not is_wrong:
            found = await self.work.store.teams(
                contest,
                states=states,
                after=after or just_before(begin),
                limit=_TEAMS_MAX + 1,
            )
            teams = [team for team in found if team.id.startswith(begin)]
        shown = teams[:_TEAMS_MAX]
        following = ""
        if len(teams) > _TEAMS_MAX:
            kept = {"state": wanted, "id": begin, "after": shown[-1].id}
            following = urlencode({k: v for k, v in kept.items() if v})
        members = await self.work.store.members(team.id for team in shown)
        courses = await self.work.store.courses(contest, teams=[team.id for team in shown])
        self.show(
            "teams.html",
            contest=record,
            teams=shown,
            sizes={team: len(some) for team, some in members.items()},
            courses={t: course_words(c) for t, c in courses.items()},
            states=[s.value for s in TeamState],
            wanted=wanted,
            begin=begin,
            is_wrong=is_wrong,
            following=following,
        )


class TeamPage(PageHandler):
    """One team, as its host sees it."""

    async def get(self, contest: str, team: str) -> None:
        record = await self.require(Right.HOST, contest)
        found = await self.work.store.team(team) if names.is_team_id(team) else None
        if found is None or found.contest != contest:
            self.not_there("team", team)
        store, now = self.work.store, self.work.now()
        courses = await store.courses(contest, teams=("", team))
        course = courses.get(team)
        roster = (await store.members([team])).get(team, ())
        agreement = record.manifest.registration and record.manifest.registration.agreement
        accepted = await store.acceptances(contest, agreement.version) if agreement else {}
        self.show(
            "team.html",
            contest=record,
            zone=zone_of(record),
            team=found,
            name=name_of(found),
            course=course,
            course_said="" if course is None else course_words(course),
            members=list(member_rows(roster, found, accepted if agreement else None)),
            actions=[(a, ACTION_WORDS[a]) for a in possible_actions(record, courses, found)],
            notices=[n for n in await store.notices(teams=[team], now=now) if n.team == team],
            archives=await store.archives(contest, team=team),
            newest=await store.newest_transitions(contest, team=team, limit=_NEWEST),
        )


def under_way(courses: Mapping[str, Course]) -> Iterable[UnderWay]:
    """What is under way, the most first."""
    found: Counter[tuple[CourseKind, Step]] = Counter()
    first: dict[tuple[CourseKind, Step], datetime] = {}
    for course in courses.values():
        step = next_step(course)
        if step is None:
            continue
        where = (course.kind, step)
        found[where] += 1
        first[where] = min(first.get(where, course.due_at), course.due_at)
    for (kind, step), count in found.most_common():
        yield UnderWay(COURSE_WORDS[kind], STEP_WORDS[step], count, first[kind, step])


def stuck_ones(courses: Mapping[str, Course]) -> Iterable[Stuck]:
    """Those that do not come on, the most attempts first."""
    some = [c for c in courses.values() if c.error and c.attempts >= _STUCK_AFTER]
    for course in sorted(some, key=lambda c: (-c.attempts, c.team)):
        step = next_step(course)
        yield Stuck(
            team=course.team,
            what=COURSE_WORDS[course.kind],
            step="" if step is None else STEP_WORDS[step],
            error=course.error,
            attempts=course.attempts,
            again_at=course.due_at,
        )


def deadlines(
    contest: ContestRecord, courses: Mapping[str, Course], now: datetime
) -> Iterable[Deadline]:
    """What comes: moments that courses wait for, by step; several teams' are one."""
    is_gathering = contest.state in (ContestState.DRAFT, ContestState.REGISTRATION)
    for entry in calendar_deadlines(contest, now):
        # What a host did by hand before its time comes no more.
        if entry.round:
            is_coming = entry.round >= contest.round
        else:
            is_coming = is_gathering or entry.occasion is Occasion.ENDS
        if is_coming:
            yield Deadline(entry.at, entry.words)
    found: dict[tuple[CourseKind, Step, datetime], list[str]] = {}
    for course in courses.values():
        for step, moment in course.times.items():
            if moment > now:
                minute = moment.replace(second=0, microsecond=0)
                found.setdefault((course.kind, step, minute), []).append(course.team)
    for (kind, step, minute), teams in found.items():
        who = teams[0] or "the contest" if len(teams) == 1 else f"{len(teams)} teams"
        yield Deadline(minute, f"{who}, {COURSE_WORDS[kind]}: {moment_words(step)}")


def together(past: Iterable[PastTransition]) -> Iterable[tuple[PastTransition, tuple[str, ...]]]:
    """Transitions of teams that went the same way by the same operation, as one with the teams."""

    def way(one: PastTransition) -> tuple[object, ...]:
        change = one.transition
        return (one.by, one.operation, bool(change.team), change.before, change.after)

    for _, some in groupby(past, key=way):
        same = list(some)
        yield same[0], tuple(one.transition.team for one in same if one.transition.team)


def course_words(course: Course) -> str:
    """What is under way with a team."""
    step = next_step(course)
    return COURSE_WORDS[course.kind] + ("" if step is None else f"; next: {STEP_WORDS[step]}")


def member_rows(
    roster: Iterable[MemberRecord], team: TeamRecord, accepted: Mapping[str, datetime] | None
) -> Iterable[tuple[MemberRecord, str, bool, datetime | None]]:
    """Each member, in words, whether captain, and when they accepted the agreement."""
    for member in roster:
        is_captain = member.entry == team.captain and bool(team.captain)
        when = None if accepted is None else accepted.get(to_acceptance(member.entry))
        yield member, to_text(member.entry), is_captain, when


def just_before(begin: str) -> str:
    """A text that sorts before all ids with this beginning, and after all others before them."""
    if not begin:
        return ""
    return f"{begin[:-1]}{chr(ord(begin[-1]) - 1)}\x7f"


ROUTES: Final[list[Route]] = [
    (r"contests/([^/]+)", ContestPage),
    (r"contests/([^/]+)/teams", TeamsPage),
    (r"contests/([^/]+)/teams/([^/]+)", TeamPage),
]
