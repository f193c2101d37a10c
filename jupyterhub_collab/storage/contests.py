"""The team registry in SQL: the only truth about contests, teams and members.

One transaction for each call. Whatever two callers could race for (the last place in a team, a
name, an action on what has changed meanwhile) is decided by a constraint or a compare-and-swap in
the database, never by a look before.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from ..models import RosterEntry
from ..models.contest_life import (
    ActionPlan,
    Archive,
    ContestRecord,
    Course,
    CourseKind,
    MemberRecord,
    Notice,
    Operation,
    OperationState,
    Step,
    TeamRecord,
    TeamState,
    Transition,
)
from . import contest_courses as _courses
from . import contest_manifests as _manifests
from . import contest_notices as _notices
from . import contest_operations as _operations
from . import contest_teams as _teams
from .contest_deliveries import DeliveryStore
from .contest_errors import (
    AlreadyInError,
    FullError,
    InvitationError,
    NotHolderError,
    StaleError,
    TakenError,
    UnreadableError,
)
from .contest_migration import upgrade
from .contest_operations import DECLINED_BY
from .contest_records import (
    EVERYBODY,
    Delivery,
    DeliveryState,
    Merger,
    PastTransition,
    TeamInvitation,
    UnreadableContest,
    UnreadableTeam,
)
from .contest_transactions import ContestTransactions
from .database import TIMEOUT_S

__all__ = [
    "DECLINED_BY",
    "EVERYBODY",
    "AlreadyInError",
    "ContestStore",
    "Delivery",
    "DeliveryState",
    "FullError",
    "InvitationError",
    "Merger",
    "NotHolderError",
    "PastTransition",
    "StaleError",
    "TakenError",
    "TeamInvitation",
    "UnreadableContest",
    "UnreadableError",
    "UnreadableTeam",
]
log = logging.getLogger(__name__)


class ContestStore:
    """The registry in one database. Close it when done; the engine stays open.

    Every method that asks the database raises DatabaseError where it does not answer.
    """

    def __init__(self, engine: Engine, *, timeout_s: float = TIMEOUT_S) -> None:
        self._engine = engine
        self._db = ContestTransactions(engine, timeout_s=timeout_s)
        self._told: dict[str, str] = {}  # unreadable contests, so that each is said once
        self._told_teams: dict[str, str] = {}  # likewise

    def fenced(self, term: Callable[[], int]) -> ContestStore:
        """The same registry for whoever works under the lease, in that term of it.

        Writes raise NotHolderError once somebody else has had the lease.
        """
        other = copy.copy(self)
        other._db = self._db.fenced(term)
        return other

    @property
    def deliveries(self) -> DeliveryStore:
        """How far notices have come on the ways on which they leave the hub."""
        return DeliveryStore(self._db)

    def upgrade(self) -> None:
        """Bring the tables to this version (alembic). Two processes may do so at once.

        Raises
        ------
        PermanentError
            The database was made by a newer version.
        DatabaseError
        """
        upgrade(self._engine)

    def close(self) -> None:
        """End the threads."""
        self._db.close()

    # Reading.

    async def contests(self) -> tuple[ContestRecord, ...]:
        """All that can be read, by id. The others are said once each in the log."""
        found, unreadable = await self._db.read(_manifests.list_contests)
        for one in unreadable:
            if self._told.get(one.id) != one.why:
                log.error("A contest stands still, the others go on: %s", one.why)
        self._told.clear()  # in place: those who work under the lease have the same
        self._told.update((one.id, one.why) for one in unreadable)
        return found

    async def unreadable_contests(self) -> tuple[UnreadableContest, ...]:
        """Those whose rows cannot be read, by id, and why. They stand still until they can."""
        return (await self._db.read(_manifests.list_contests))[1]

    async def unreadable_teams(self, contest: str) -> tuple[UnreadableTeam, ...]:
        """Those of a contest of which a row cannot be read, by id, and why. They stand still until
        it can, and are in no answer but this one."""
        return await self._db.read(_teams.list_unreadable, contest)

    def _tell(self, unreadable: Iterable[UnreadableTeam]) -> None:
        for one in unreadable:
            where = f"{one.contest}/{one.id}"
            if self._told_teams.get(where) != one.why:
                self._told_teams[where] = one.why
                log.error("A team stands still, the others go on: %s", one.why)

    async def contest(self, contest: str) -> ContestRecord | None:
        """One. Raises UnreadableError where its row cannot be read."""
        return await self._db.read(_manifests.find_contest, contest)

    async def is_registering(self, contest: str) -> bool:
        """Whether there is such a contest, in its state of registration: for whoever may see it
        only then. It costs the same where there is none."""
        return await self._db.read(_manifests.is_registering, contest)

    async def teams(
        self,
        contest: str,
        *,
        states: Iterable[TeamState] = (),
        after: str = "",
        limit: int | None = None,
    ) -> tuple[TeamRecord, ...]:
        """Teams of a contest by id, those after `after`; of these states if any are given."""
        return await self._db.read(_teams.list_teams, contest, frozenset(states), after, limit)

    async def count_teams(self, contest: str) -> Mapping[TeamState, int]:
        """How many there are in each state that is not empty."""
        return await self._db.read(_teams.count_teams, contest)

    async def team(self, team: str) -> TeamRecord | None:
        """One, whatever its state. Raises UnreadableError where its row cannot be read."""
        return await self._db.read(_teams.find_team, team)

    async def teams_by_id(self, teams: Iterable[str]) -> Mapping[str, TeamRecord]:
        """Those of these that there are, of whatever contest and state."""
        return await self._db.read(_teams.find_teams, tuple(teams))

    async def members(self, teams: Iterable[str]) -> Mapping[str, tuple[MemberRecord, ...]]:
        """Rosters of these teams, each in the order in which people joined."""
        return await self._db.read(_teams.list_members, tuple(teams))

    async def teams_of(self, entry: RosterEntry) -> tuple[str, ...]:
        """Ids of teams in whose roster exactly this entry stands, destroyed ones left out, others
        whatever stands in their rows."""
        return await self._db.read(_teams.teams_of, entry)

    async def teams_of_any(
        self, entries: Iterable[RosterEntry]
    ) -> tuple[tuple[TeamRecord, RosterEntry], ...]:
        """Teams in whose roster one of these stands, with which; destroyed ones left out."""
        return await self._db.read(_teams.teams_of_any, tuple(entries))

    # A host's manifest.

    async def put_contest(
        self,
        contest: ContestRecord,
        teams: Iterable[TeamRecord],
        rosters: Mapping[str, tuple[RosterEntry, ...]],
        *,
        expected_generation: int | None,
        by: str,
        at: datetime,
    ) -> ContestRecord:
        """Make or change a contest, these of its teams, and the rosters of those named.

        `expected_generation`: None for one that must not be there yet. Generations of what differs
        are raised here, the contest's if anything does; what is equal is left alone. New states
        are noted as transitions.

        Raises
        ------
        StaleError
            The contest has another generation, or is there already; or a team that would change
            has another one than its record here.
        TakenError
            A team's id is another contest's, or was, or the team is destroyed.
        AlreadyInError
            A person would be in two teams.
        """
        return await self._db.write_whole(
            _manifests.put_contest,
            contest,
            tuple(teams),
            dict(rosters),
            expected_generation=expected_generation,
            by=by,
            at=at,
        )

    # What the hub's groups were brought after.

    async def unprojected(
        self, *, limit: int
    ) -> tuple[tuple[ContestRecord, ...], tuple[TeamRecord, ...]]:
        """Contests and teams whose generation is not the projected one."""
        contests, teams, unreadable = await self._db.read(_manifests.unprojected, limit)
        self._tell(unreadable)
        return contests, teams

    async def behind(self) -> Mapping[str, bool]:
        """All teams whose generation is not the projected one, by id, and whether the hub had
        their group before."""
        return await self._db.read(_manifests.list_behind)

    async def mark_projected(
        self, *, contests: Mapping[str, int] = {}, teams: Mapping[str, int] = {}
    ) -> None:
        """These groups were brought after these generations."""
        if not contests and not teams:
            return
        try:
            await self._db.write(_manifests.mark_projected, dict(contests), dict(teams))
        except NotHolderError:
            # What was written may be older than what the holder wrote: the holder is to look.
            none = dict.fromkeys(contests, 0), dict.fromkeys(teams, 0)
            await self._db.unfenced().write(_manifests.mark_projected, *none)
            raise

    async def forget_projection(self, contest: str | None = None) -> None:
        """Bring all groups after the registry anew: of one contest, or of all."""
        await self._db.write_whole(_manifests.forget_projection, contest)

    # Actions.

    async def commit(self, plan: ActionPlan, operation: Operation, *, at: datetime) -> Operation:
        """Write a plan whole, with its operation, transitions and courses.

        An operation of the same contest and key that is there already is returned, and nothing is
        written. A proposed one becomes running. `operation.number` 0: a new one. One without
        courses is done at once. An operation whose last course is replaced ends undone.

        The contest's generation rises each time, so of two plans that were made from the same the
        second is stale: plan it anew.

        Raises
        ------
        StaleError
            The contest has another generation, or a team another state, than the plan was made
            from; or a course that it would replace deletes by now.
        """
        kept, _ = await self.commit_once(plan, operation, at=at)
        return kept

    async def commit_once(
        self, plan: ActionPlan, operation: Operation, *, at: datetime
    ) -> tuple[Operation, bool]:
        """As `commit`; and whether this call wrote it, and not one before with the same key."""
        return await self._db.write_whole(_operations.commit, plan, operation, at=at)

    async def propose(self, operation: Operation) -> Operation:
        """Keep an operation that waits for a second person; the same key: the one that is there."""
        kept, _ = await self.propose_once(operation)
        return kept

    async def propose_once(self, operation: Operation) -> tuple[Operation, bool]:
        """As `propose`; and whether this call wrote it."""
        return await self._db.write(_operations.propose, operation)

    async def decline(self, number: int, *, by: str, at: datetime) -> tuple[Operation | None, bool]:
        """No to a proposal. The operation (None: there is none), and whether this ended it."""
        return await self._db.write(_operations.decline, number, by=by, at=at)

    async def operation(self, number: int) -> Operation | None:
        """One."""
        return await self._db.read(_operations.find_operation, number)

    async def operation_of(self, contest: str, key: str) -> Operation | None:
        """The one that was asked for with this key."""
        return await self._db.read(_operations.operation_of, contest, key)

    async def operations(
        self, contest: str, *, states: Iterable[OperationState] = (), limit: int = 100
    ) -> tuple[Operation, ...]:
        """The newest first."""
        return await self._db.read(_operations.list_operations, contest, frozenset(states), limit)

    async def end_operation(
        self, number: int, state: OperationState, *, at: datetime, report: Mapping[str, Any] = {}
    ) -> None:
        """What became of it; once more: another report.

        Raises
        ------
        StaleError
            It is not where it could end so: proposed for DECLINED, running for the others.
        """
        await self._db.write(_operations.end_operation, number, state, at=at, report=report)

    async def transitions(
        self, contest: str, *, team: str | None = None, after: int = 0, limit: int = 200
    ) -> tuple[PastTransition, ...]:
        """Those after that number, in order; of one team if it is named."""
        return await self._db.read(_operations.list_transitions, contest, team, after, limit)

    async def newest_transitions(
        self, contest: str, *, team: str | None = None, limit: int = 50
    ) -> tuple[PastTransition, ...]:
        """The newest first; of one team if it is named."""
        return await self._db.read(_operations.newest_transitions, contest, team, limit)

    async def untold(self, *, limit: int) -> tuple[PastTransition, ...]:
        """Those whose event was not handed on yet, in order."""
        return await self._db.read(_operations.list_untold, limit)

    async def mark_told(self, numbers: Iterable[int]) -> None:
        """Events of these transitions were handed on."""
        await self._db.write(_operations.mark_told, tuple(numbers))

    # Courses.

    async def due_courses(self, now: datetime, *, limit: int) -> tuple[Course, ...]:
        """Those that are due, the longest due first, fair between contests."""
        due, unreadable = await self._db.read(_courses.due_courses, now, limit)
        self._tell(unreadable)
        return due

    async def next_due(self) -> datetime | None:
        """When the next one is due."""
        return await self._db.read(_courses.next_due)

    async def courses(
        self, contest: str, *, teams: Iterable[str] | None = None
    ) -> Mapping[str, Course]:
        """What is under way in a contest, by team; the contest's own under "". Of `teams` alone,
        if that is given."""
        named = None if teams is None else tuple(teams)
        return await self._db.read(_courses.list_courses, contest, named)

    async def course(self, contest: str, team: str) -> Course | None:
        """What is under way with one team; with the contest itself where `team` is empty. Raises
        UnreadableError."""
        return await self._db.read(_courses.find_course, contest, team)

    async def count_courses(self, contest: str) -> Mapping[tuple[CourseKind, Step], int]:
        """How many stand before which step."""
        return await self._db.read(_courses.count_courses, contest)

    async def step_done(
        self,
        course: Course,
        *,
        due_at: datetime | None,
        at: datetime,
        transition: Transition | None = None,
        team_values: Mapping[str, Any] | None = None,
        contest_values: Mapping[str, Any] | None = None,
    ) -> bool:
        """A course's step is done; the next is due then. None: that was the last, the row goes.

        With it, in the same transaction, a transition and new values of rows (generations rise).
        False: the course is not any more what it was (undone meanwhile); nothing was written.
        The operation ends (DONE) with its last course. Moments in `course.times` are kept as given.

        Raises
        ------
        StaleError
            The team or contest is not in the state where the transition begins.
        """
        try:
            await self._db.write(
                _courses.step_done,
                course,
                due_at=due_at,
                at=at,
                transition=transition,
                team_values=team_values,
                contest_values=contest_values,
            )
        except _courses.NotAnyMoreError:
            return False
        return True

    async def step_failed(self, course: Course, error: str, *, due_at: datetime) -> None:
        """Try again then; attempts rise by one."""
        await self._db.write(_courses.step_failed, course, error, due_at=due_at)

    # Assembly of teams.

    async def register_team(
        self,
        team: TeamRecord,
        members: Iterable[MemberRecord],
        *,
        key: str,
        wish: str = "",
        by: str,
        at: datetime,
    ) -> tuple[TeamRecord, bool]:
        """A new team; the same contest and key: the one that is there. Whether it is new.

        `wish` is one text for one wish: another one with the same key is refused.

        Raises
        ------
        TakenError, FullError, AlreadyInError
        StaleError
            Nobody can register now: it is not open, over, or frozen, as a contest is that is being
            destroyed.
        """
        return await self._db.write(
            _teams.register_team, team, tuple(members), key=key, wish=wish, by=by, at=at
        )

    async def add_member(self, member: MemberRecord) -> None:
        """One more in a roster; who is in it already stays. The team's generation rises.

        Raises
        ------
        FullError, AlreadyInError
        StaleError
            Nobody can join now: the contest is frozen or over, or the team is not one that people
            join.
        """
        await self._db.write(_teams.add_member, member)

    async def remove_member(self, team: str, entry: RosterEntry) -> bool:
        """Whether it was there. The captain cannot be removed (StaleError)."""
        return await self._db.write(_teams.remove_member, team, entry)

    async def update_team(
        self,
        team: str,
        values: Mapping[str, Any],
        *,
        expected_generation: int | None = None,
        captain_entry: RosterEntry | None = None,
    ) -> TeamRecord:
        """New values of the row, but for its state.

        `captain_entry` with a new `captain`: the member who it is, where the roster does not have
        the hub user name itself. Raises StaleError.
        """
        return await self._db.write(
            _teams.update_team,
            team,
            dict(values),
            expected_generation=expected_generation,
            captain_entry=captain_entry,
        )

    async def merge_teams(
        self,
        source: str,
        into: str,
        *,
        token_sha256: str | None = None,
        by: str,
        at: datetime,
        is_dry: bool = False,
    ) -> Merger:
        """All of one team join another; the one is destroyed. Only teams that have nothing yet.

        `token_sha256`: of an invitation of the other team's, which is used by this or by nothing.
        `is_dry`: nothing is done; what would be, or why not, is found out just so.

        Raises
        ------
        FullError, InvitationError, StaleError
        """
        return await self._db.write(
            _teams.merge_teams,
            source,
            into,
            token_sha256=token_sha256,
            by=by,
            at=at,
            is_dry=is_dry,
        )

    async def put_invitation(self, invitation: TeamInvitation) -> None:
        """Keep it."""
        await self._db.write(_teams.put_invitation, invitation)

    async def invitations(self, team: str) -> tuple[TeamInvitation, ...]:
        """All of a team that are neither used nor withdrawn."""
        return await self._db.read(_teams.list_invitations, team)

    async def withdraw_invitation(self, team: str, invitation: str) -> bool:
        """Whether it was there."""
        return await self._db.write(_teams.withdraw_invitation, team, invitation)

    async def take_invitation(
        self, token_sha256: str, member: MemberRecord, *, by: str, at: datetime
    ) -> TeamRecord:
        """Use an invitation: once, in time. `member.team` is ignored.

        Raises
        ------
        InvitationError
            It is none that can be used; nothing of the team is said then.
        FullError, AlreadyInError, StaleError
            As `add_member`; the invitation is as it was.
        """
        return await self._db.write(_teams.take_invitation, token_sha256, member, by=by, at=at)

    async def accept_agreement(
        self, contest: str, version: str, user: str, *, at: datetime, entry: RosterEntry
    ) -> None:
        """This hub user accepted this version. The first time counts.

        The generation of the team rises in whose roster `entry` stands, which is the same person.
        """
        await self._db.write(_notices.accept_agreement, contest, version, user, at=at, entry=entry)

    async def acceptances(
        self, contest: str, version: str, *, users: Iterable[str] | None = None
    ) -> Mapping[str, datetime]:
        """Hub users who accepted it, and when; of `users` alone, if that is given."""
        named = None if users is None else tuple(users)
        return await self._db.read(_notices.list_acceptances, contest, version, named)

    # Notices, archives, certificates.

    async def put_notice(self, notice: Notice) -> bool:
        """Whether it is new (by contest, team and key)."""
        return await self._db.write(_notices.put_notice, notice)

    async def put_notice_once(self, notice: Notice) -> tuple[Notice, bool]:
        """Keep a notice that somebody wrote; the same contest and key, whatever the team: the one
        that is there. Whether it is new."""
        return await self._db.write(_notices.put_notice_once, notice)

    async def notices(
        self, *, contest: str | None = None, teams: Iterable[str] = (), now: datetime
    ) -> tuple[Notice, ...]:
        """Those in force now: of a contest with all its teams, or for these teams (their
        contests' included). The newest first."""
        return await self._db.read(_notices.list_notices, contest, tuple(teams), now)

    async def undelivered(self, *, after: int = 0, limit: int) -> tuple[tuple[int, Notice], ...]:
        """Notices that were not brought everywhere yet, by their numbers."""
        return await self._db.read(_notices.list_undelivered, after, limit)

    async def put_archive(self, archive: Archive) -> None:
        """A volume's copy; the same team and volume: in place of the one before."""
        await self._db.write(_notices.put_archive, archive)

    async def archives(self, contest: str, *, team: str | None = None) -> tuple[Archive, ...]:
        """By team and volume."""
        return await self._db.read(_notices.list_archives, contest, team)

    async def put_certificate(self, contest: str, text: str, *, at: datetime) -> None:
        """The signed certificate of a contest's end; the first one stays."""
        await self._db.write(_notices.put_certificate, contest, text, at=at)

    async def certificate(self, contest: str) -> str | None:
        """It, if there is one."""
        return await self._db.read(_notices.find_certificate, contest)
