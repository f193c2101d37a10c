"""What hosts do with contests: manifests, actions with their dry run, approval by a second person.

Whatever somebody wants done becomes a plan (pure, `policy.contest_actions`); a dry run shows it,
and the store writes exactly it or nothing. Nothing here waits for the cluster: what takes time is
a course that the worker goes along, and groups of the hub are a projection.

It must not: know who may ask (`policy.contest_access`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from .. import names
from ..constants import PROPERTIES_KEY
from ..errors import Problem, SpecError
from ..models import ContestManifest, HubDecider, HubGroup
from ..models.contest_life import (
    Action,
    ActionPlan,
    ActionRequest,
    ContestRecord,
    ContestState,
    Course,
    Operation,
    OperationState,
    TeamRecord,
    TeamState,
)
from ..policy.contest_actions import RefusedError, hash_plan, plan_action, plan_admission
from ..policy.contest_projection import ManifestPlan, Registered, plan_manifest
from ..policy.problems import to_field
from ..policy.roster import check_decider, hash_roster
from ..storage.contests import DECLINED_BY, ContestStore, StaleError
from .contest_refusals import ChangedError, NotNowError, NotThereError, in_words_for_hosts
from .contest_telling import ContestTeller

RANKED_MAX: Final = 10_000
_BEHIND_MAX: Final = 10_000  # more are not counted one by one
_ASKED_ONE_BY_ONE: Final = 20  # teams; for more all groups are read, 200 at once
_TRIES: Final = 4  # plans made anew, because a step was done between plan and write
_ADMISSION_TRIES: Final = 20  # hosts change a contest now and then, other teams do not
_LOOKED_UP: Final = 200
_OVER: Final = frozenset({ContestState.ARCHIVED, ContestState.DESTROYED})
_OF_EACH: Final = frozenset({Action.ARCHIVE, Action.DESTROY})  # no team may be left out of these
_NAMED_MAX: Final = 200  # characters of teams' ids in a sentence
_OUT: Final = frozenset({TeamState.ELIMINATED, TeamState.ARCHIVED, TeamState.DESTROYED})


@dataclass(frozen=True)
class HubWords:
    """What the registry asks the hub before it takes a manifest or a team.

    Attributes
    ----------
    decider
        Whether the hub makes members of rosters itself.
    group, groups
        One group, and all by name.
    """

    decider: Callable[[], Awaitable[HubDecider | None]]
    group: Callable[[str], Awaitable[HubGroup | None]]
    groups: Callable[[], Awaitable[Mapping[str, HubGroup]]]

    async def is_free(self, team: str) -> bool:
        """Whether a team may have this name: there is no such group, or it is empty or ours."""
        return _is_free(await self.group(team))

    async def not_free(self, teams: Iterable[str]) -> list[str]:
        """Those of these names that a team may not have."""
        wanted = list(teams)
        if len(wanted) <= _ASKED_ONE_BY_ONE:
            return [team for team in wanted if not await self.is_free(team)]
        groups = await self.groups()
        return [team for team in wanted if not _is_free(groups.get(team))]


@dataclass(frozen=True)
class ContestProgress:
    """Where a contest is, as of one moment.

    Attributes
    ----------
    behind
        Groups that the hub was not brought after yet.
    """

    contest: ContestRecord
    teams: dict[TeamState, int]
    courses: dict[str, Course]
    behind: tuple[str, ...]


class ContestRegistry:
    """Contests of one hub.

    Parameters
    ----------
    now
        The clock, in UTC.
    wake
        Called when there is something to do for the worker.
    """

    def __init__(
        self,
        store: ContestStore,
        *,
        hub: HubWords,
        teller: ContestTeller,
        now: Callable[[], datetime],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._store, self._hub, self._tell = store, hub, teller.tell
        self._now, self._wake = now, wake
        self._admitting = asyncio.Lock()

    # A host's manifest.

    async def plan_manifest(self, manifest: ContestManifest) -> ManifestPlan:
        """What a manifest would change. Raises SpecError."""
        plan, _ = await self._plan_manifest(manifest)
        return plan

    async def put_manifest(self, manifest: ContestManifest, *, by: str) -> ManifestPlan:
        """Have a contest be as its manifest says; what was changed.

        Teams that come in are admitted in a second transaction. Whoever is killed between the two
        applies again, and they are.

        Raises
        ------
        SpecError
            Something in it cannot be.
        NotNowError
            It was changed meanwhile, or an id is another's.
        """
        plan, current = await self._plan_manifest(manifest)
        before = current.contest
        rosters = {  # people come and go: what is right is left alone
            team: roster
            for team, roster in plan.rosters.items()
            if hash_roster(roster) != hash_roster(current.rosters.get(team, ()))
        }
        with in_words_for_hosts():
            stored = await self._store.put_contest(
                plan.contest,
                plan.teams,
                rosters,
                expected_generation=None if before is None else before.generation,
                by=by,
                at=self._now(),
            )
        if before is None or before.generation != stored.generation or plan.difference.changes:
            details = {"teams": len(plan.teams), "generation": stored.generation}
            self._tell("manifest-applied", stored.id, by=by, details=details)
        await self._admit(stored, plan.admitted, by=by)
        self._wake()
        return plan

    async def _plan_manifest(self, manifest: ContestManifest) -> tuple[ManifestPlan, Registered]:
        decider = await self._hub.decider()
        problems = [
            Problem(to_field(("teams", team, "members", *p.path)), p.found, p.expected)
            for team, entry in manifest.teams.items()
            for p in check_decider(entry.members, decider)
        ]
        if problems:
            raise SpecError(problems)
        current = await self._read(manifest)
        plan = plan_manifest(current, manifest)
        await self._check_names(team.id for team in plan.teams if team.id not in current.teams)
        return plan, current

    async def _read(self, manifest: ContestManifest) -> Registered:
        """The manifest's contest, and whatever has the ids of its teams."""
        contest = await self._store.contest(manifest.contest.id)
        teams: dict[str, TeamRecord] = {}
        courses: Mapping[str, Course] = {}
        if contest is not None:
            teams = {team.id: team for team in await self._store.teams(contest.id)}
            courses = await self._store.courses(contest.id)
        new = sorted(manifest.teams.keys() - teams.keys())
        for team in new[:_LOOKED_UP]:  # a better sentence; the store refuses all of them
            with in_words_for_hosts():
                found = await self._store.team(team)
            if found is not None:
                teams[team] = found
        members = await self._store.members(teams)
        rosters = {team: tuple(m.entry for m in some) for team, some in members.items()}
        return Registered(contest=contest, teams=teams, rosters=rosters, courses=courses)

    async def _check_names(self, teams: Iterable[str]) -> None:
        """Raises SpecError where the hub has groups of these names that are not ours."""
        found = "a hub group of that name that this project did not make"
        expected = "a name that no other group has"
        taken = await self._hub.not_free(teams)
        if taken:
            raise SpecError([Problem(to_field(("teams", t)), found, expected) for t in taken])

    async def admit(self, team: TeamRecord, by: str) -> None:
        """Let a team in that no host need look at.

        Nobody looked at a plan of it, so one that a change has overtaken is made anew. Teams come
        one after another: hundreds register at the same moment.

        Raises
        ------
        NotNowError
            It cannot be admitted, or the contest changed all the time.
        """
        async with self._admitting:
            for is_last in (*(False,) * _ADMISSION_TRIES, True):
                contest = await self._store.contest(team.contest)
                record = await self._store.team(team.id)
                if contest is None or record is None or record.state is not TeamState.INVITED:
                    return
                try:
                    courses = await self._store.courses(contest.id, teams=("",))  # its end, maybe
                    await self._commit_admission(contest, [record], courses, by=by)
                    break
                except StaleError as e:
                    if is_last:
                        raise NotNowError(str(e)) from e
        self._wake()

    async def _admit(self, contest: ContestRecord, teams: Iterable[str], *, by: str) -> None:
        wanted = frozenset(teams)
        if not wanted:
            return
        records = [
            team
            for team in await self._store.teams(contest.id, states=(TeamState.INVITED,))
            if team.id in wanted
        ]
        if not records:
            return
        courses = await self._store.courses(contest.id)
        with in_words_for_hosts():
            await self._commit_admission(contest, records, courses, by=by)

    async def _commit_admission(
        self,
        contest: ContestRecord,
        records: Sequence[TeamRecord],
        courses: Mapping[str, Course],
        *,
        by: str,
    ) -> None:
        """Raises StaleError; NotNowError where they cannot be admitted."""
        at = self._now()
        try:
            plan = plan_admission(contest, records, courses, now=at)
        except RefusedError as e:
            raise NotNowError(str(e)) from e
        operation = Operation(
            number=0,
            contest=contest.id,
            request=plan.request,
            state=OperationState.RUNNING,
            key=_key_of_admission(records),
            asked_by=by,
            asked_at=at,
            plan_hash=hash_plan(plan),
        )
        await self._store.commit(plan, operation, at=at)

    # Actions.

    async def plan(self, contest: str, request: ActionRequest) -> ActionPlan:
        """What an action would change now.

        Raises
        ------
        NotThereError
            There is no such contest, or no such team in it.
        NotNowError
            It is not possible; the text says why and what would be.
        """
        record = await self._store.contest(contest)
        if record is None:
            raise NotThereError(f"There is no contest {contest}.")
        if request.team is not None:
            with in_words_for_hosts():
                team = await self._store.team(request.team)
            if team is None or team.contest != contest:
                raise NotThereError(f"There is no team {request.team} in the contest {contest}.")
            teams: Sequence[TeamRecord] = (team,)
            # Its own and the contest's: a thousand of these must not read a thousand each.
            courses = await self._store.courses(contest, teams=("", team.id))
        else:
            teams = await self._readable(contest, request.action)
            courses = await self._store.courses(contest)
        with in_words_for_hosts():
            return plan_action(request, record, teams, courses, now=self._now())

    async def _readable(self, contest: str, action: Action) -> Sequence[TeamRecord]:
        """Teams that an action on the whole contest is about: what cannot be read of a team costs
        that team alone. Raises NotNowError where none may be left out."""
        unreadable = {one.id: one.why for one in await self._store.unreadable_teams(contest)}
        if unreadable and action in _OF_EACH:
            raise NotNowError(
                f"To {action.value} a contest takes all its teams, and {len(unreadable)} cannot be"
                f" read: {', '.join(unreadable)[:_NAMED_MAX]}. {next(iter(unreadable.values()))}"
            )
        return [team for team in await self._store.teams(contest) if team.id not in unreadable]

    async def act(
        self,
        contest: str,
        request: ActionRequest,
        *,
        by: str,
        key: str,
        shown: str | None = None,
    ) -> Operation:
        """Do it, or propose it where that takes two; asked again with the same key: what there is.

        Parameters
        ----------
        shown
            Hash of the plan that was shown; another one is not done. None: nobody looked.

        Raises
        ------
        NotThereError, NotNowError
            As `plan`; besides, what would be done is not what was shown.
        """
        try:
            for _ in range(_TRIES):
                # A team's step may be done at this moment; what was shown is compared each time.
                with suppress(ChangedError):
                    return await self._act(contest, request, by=by, key=key, shown=shown)
            return await self._act(contest, request, by=by, key=key, shown=shown)
        except NotNowError:
            # Sent twice at the same moment: what the other one did may be why this cannot be done.
            before = await self._store.operation_of(contest, key)
            if before is None:
                raise
            return _same(before, request)

    async def _act(
        self, contest: str, request: ActionRequest, *, by: str, key: str, shown: str | None
    ) -> Operation:
        before = await self._store.operation_of(contest, key)
        if before is not None:
            return _same(before, request)
        plan = await self.plan(contest, request)
        hashed = hash_plan(plan)
        if shown is not None and shown != hashed:
            raise NotNowError(
                "What would be done is not any more what was shown. Look at the dry run again."
            )
        at = self._now()
        operation = Operation(
            number=0,
            contest=contest,
            request=request,
            state=OperationState.PROPOSED if plan.needs_second else OperationState.RUNNING,
            key=key,
            asked_by=by,
            asked_at=at,
            plan_hash=hashed,
        )
        with in_words_for_hosts():
            if plan.needs_second:
                kept, is_new = await self._store.propose_once(operation)
            else:
                kept, is_new = await self._store.commit_once(plan, operation, at=at)
        kept = _same(kept, request)
        if is_new:  # else it was sent twice at the same moment, and the other one told of it
            self._told("proposed" if plan.needs_second else "asked", kept, by=by)
            self._wake()
        return kept

    async def approve(self, number: int, *, by: str) -> Operation:
        """A second person's yes to exactly what was proposed; said twice it is said once.

        Raises
        ------
        NotThereError
            There is no such operation.
        NotNowError
            It does not wait for that, they proposed it, or it would do something else now.
        """
        found = await self.operation(number)
        if _has_approved(found, by):
            return found
        try:
            return await self._approve(found, by=by)
        except NotNowError:
            found = await self.operation(number)
            if _has_approved(found, by):  # the same word, at the same moment
                return found
            raise

    async def _approve(self, found: Operation, *, by: str) -> Operation:
        _check_proposed(found)
        if found.asked_by == by:
            raise NotNowError("You proposed this yourself. Another host has to approve it.")
        plan = await self.plan(found.contest, found.request)
        if hash_plan(plan) != found.plan_hash:
            raise NotNowError(
                "What it would do has changed since it was proposed, so nothing was done. Decline"
                " it, look at the dry run again, and propose it anew."
            )
        at = self._now()
        with in_words_for_hosts():
            kept, is_new = await self._store.commit_once(
                plan, replace(found, approved_by=by), at=at
            )
        if not is_new:
            if not _has_approved(kept, by):
                _check_proposed(kept)
            return kept
        self._told("approved", kept, by=by)
        self._wake()
        return kept

    async def decline(self, number: int, *, by: str) -> Operation:
        """No to what was proposed; whoever proposed it may take it back. Said twice: said once.

        Raises
        ------
        NotThereError
            There is no such operation.
        NotNowError
            It does not wait any more, and not by this person's no.
        """
        kept, is_new = await self._store.decline(number, by=by, at=self._now())
        if kept is None:
            raise NotThereError(f"There is no operation {number}.")
        if is_new:
            self._told("declined", kept, by=by)
        elif not (kept.state is OperationState.DECLINED and kept.report.get(DECLINED_BY) == by):
            _check_proposed(kept)
        return kept

    async def operation(self, number: int) -> Operation:
        """One. Raises NotThereError."""
        found = await self._store.operation(number)
        if found is None:
            raise NotThereError(f"There is no operation {number}.")
        return found

    def _told(self, what: str, operation: Operation, *, by: str) -> None:
        self._tell(
            f"operation-{what}",
            operation.contest,
            team=operation.request.team or "",
            by=by,
            details={"operation": operation.number, "action": operation.request.action.value},
            note=operation.request.reason,
        )

    # What judges say, and where it all is.

    async def rank(self, contest: ContestRecord, ranking: Sequence[str], *, by: str) -> None:
        """Teams from best to worst; in place of what was said before.

        Raises
        ------
        SpecError
            A team is not in the contest, out of it, or named twice.
        NotNowError
            The contest is over, or was changed meanwhile.
        """
        problems = await self.check_ranking(contest, ranking)
        if problems:
            raise SpecError(problems[:100])
        with in_words_for_hosts():
            await self._store.put_contest(
                replace(contest, ranking=tuple(ranking)),
                (),
                {},
                expected_generation=contest.generation,
                by=by,
                at=self._now(),
            )
        self._tell("ranked", contest.id, by=by, details={"teams": len(ranking)})

    async def check_ranking(self, contest: ContestRecord, ranking: Sequence[str]) -> list[Problem]:
        """What is not right with a ranking, place by place. Raises NotNowError: the contest is
        over."""
        if contest.state in _OVER:
            raise NotNowError(f"The contest is {contest.state.value}: there is nothing to rank.")
        teams = {team.id: team for team in await self._store.teams(contest.id)}
        problems: list[Problem] = []
        seen: set[str] = set()
        for i, team in enumerate(ranking):
            if team in seen:
                problems.append(_wrong(i, f"{team} again", "each team once"))
            elif team not in teams:
                problems.append(_wrong(i, team, "a team of the contest"))
            elif teams[team].state in _OUT:
                found = f"{team}, which is {teams[team].state.value}"
                problems.append(_wrong(i, found, "a team that is still in the contest"))
            seen.add(team)
        return problems

    async def progress(self, contest: ContestRecord) -> ContestProgress:
        """Where a contest is."""
        contests, teams = await self._store.unprojected(limit=_BEHIND_MAX)
        behind = [names.contest_group(c.id) for c in contests if c.id == contest.id]
        behind += [team.id for team in teams if team.contest == contest.id]
        return ContestProgress(
            contest=contest,
            teams=dict(await self._store.count_teams(contest.id)),
            courses=dict(await self._store.courses(contest.id)),
            behind=tuple(behind),
        )

    async def rebuild(self, contest: str | None, *, by: str) -> None:
        """Bring the hub's groups after the registry anew: of one contest, or of all."""
        await self._store.forget_projection(contest)
        if contest is not None:
            self._tell("rebuild", contest, by=by)
        self._wake()


def _is_free(group: HubGroup | None) -> bool:
    if group is None or PROPERTIES_KEY in group.properties:
        return True
    return not group.properties and not group.users


def _same(operation: Operation, request: ActionRequest) -> Operation:
    """What was asked for with a key, if it is this. Raises NotNowError."""
    if operation.request != request:
        raise NotNowError(
            f"With this Idempotency-Key something else was asked for (operation"
            f" {operation.number}: {operation.request.action.value}). Use another key."
        )
    return operation


def _has_approved(operation: Operation, by: str) -> bool:
    """Whether this person's yes is what an operation was done by."""
    is_decided = operation.state not in (OperationState.PROPOSED, OperationState.DECLINED)
    return is_decided and operation.approved_by == by


def _check_proposed(operation: Operation) -> None:
    """Raises NotNowError unless it waits for a second person."""
    if operation.state is OperationState.PROPOSED:
        return
    who = operation.approved_by or operation.report.get(DECLINED_BY)
    said = "said no to it" if operation.state is OperationState.DECLINED else "approved it"
    decided = f" {who} {said}." if who else ""
    raise NotNowError(
        f"Operation {operation.number} is {operation.state.value}; it waits for nobody's approval."
        f"{decided}"
    )


def _key_of_admission(teams: Iterable[TeamRecord]) -> str:
    """One for the same teams: nobody is admitted twice."""
    text = " ".join(sorted(team.id for team in teams))
    return f"admission {hashlib.sha256(text.encode()).hexdigest()}"


def _wrong(place: int, found: str, expected: str) -> Problem:
    return Problem(to_field(("ranking", place)), found, expected)
