"""Brings hub groups after the registry: what differs by generation is written, again and again.

Level-triggered: a row whose `generation` is not its `projected` is dirty, whatever made it so. The
group is written as the row is now, and only then is noted after which generation; whoever is killed
in between writes the same once more, and a row that changed meanwhile stays dirty. Groups that are
not ours are left alone (`policy.contest_manifest.plan_contest` says which those are).

Who asks for one team (`bring_team`) waits for the next batch with all others who ask at that
moment: rosters, acceptances and the hub's word to its decider are then one call for many teams.

Where thousands are behind, as after a rebuild or an action on a whole contest, they are taken as
they stand in the hub's list, so that few pages show what is to be written (`group_reader`).

A contest's group comes before its teams'. Where it takes away what teams name (a tier, a data set),
`ContestManager` writes it and its dirty teams in the order that leaves no team without valid
settings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from weakref import WeakValueDictionary

from .. import names
from ..constants import PROPERTIES_KEY
from ..errors import CollabError, PermanentError
from ..hubapi.client import HubClient
from ..hubapi.provisioner import ProvisionerClient
from ..models import Gate, HubDecider, HubGroup
from ..models.contest_life import (
    ContestRecord,
    ContestState,
    Course,
    Step,
    TeamRecord,
    TeamState,
)
from ..policy.contest_courses import steps_of
from ..policy.contest_manifest import GroupChange, plan_contest, plan_team, to_groups
from ..policy.contest_order import NAMED_BY_TEAMS
from ..policy.contest_projection import (
    Projected,
    gate_of_contest,
    has_group,
    to_acceptance,
    to_manifest,
)
from ..policy.spec import merge_read, read_contest, to_team_properties
from ..storage.contests import ContestStore
from .contest import ContestManager, TeamRegistry
from .contest_pause import Pause
from .group_reader import GroupReader, Look

BATCH: Final = 100  # teams written together
AT_ONCE: Final = 8  # the hub works on one call at a time; this only hides the way there and back
SWEEP_S: Final = 5.0  # between looks for what nobody asked for
RETRY_FIRST_S: Final = 2.0  # what could not be written is tried again then, ever more seldom
RETRY_LONGEST_S: Final = 300.0
DECIDER_S: Final = 60.0  # the hub has another authenticator only after a restart
_OUR_FAULT: Final = "this program has a fault there; its log says more"

log = logging.getLogger(__name__)
Sleep = Callable[[float], Awaitable[None]]


@dataclass
class _Trouble:
    """A group that could not be written."""

    why: str
    failures: int
    again_at: float


class _SomeGroups(TeamRegistry):
    """The registry's groups as `ContestManager` sees them: those of one contest that it writes."""

    def __init__(self, hub: HubClient, wanted: Sequence[str], *, sleep: Sleep) -> None:
        super().__init__(hub, sleep=sleep)
        self._wanted = wanted

    async def read(self) -> dict[str, HubGroup]:
        return await _read_groups(self._hub, self._wanted)


class Projection:
    """Writes the hub's groups. One for a registry.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(
        self,
        store: ContestStore,
        hub: HubClient,
        provisioner: ProvisionerClient,
        *,
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._store, self._hub, self._provisioner = store, hub, provisioner
        self._clock, self._sleep = clock, sleep
        self._registry = TeamRegistry(hub, sleep=sleep)
        self._reader = GroupReader(hub, clock=clock)
        # Of many that are behind those still to be tried, and whether the hub had their groups.
        self._backlog: dict[str, bool] = {}
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._serving: asyncio.Task[None] | None = None
        self._contest_locks: dict[str, asyncio.Lock] = {}
        self._team_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._troubles: dict[str, _Trouble] = {}
        self._decider: tuple[float, HubDecider | None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._pause = Pause(sleep)

    # -- for steps ----------------------------------------------------------------------------

    async def bring_team(self, team: str) -> None:
        """The team's group is as the registry has it when this returns; the contest's before it.

        Raises
        ------
        PermanentError, RetryableError
            It is not.
        """
        asked = self._asked.get(team)
        if asked is None:
            asked = self._asked[team] = asyncio.get_running_loop().create_future()
        if self._serving is None or self._serving.done():
            self._serving = asyncio.create_task(self._serve())
        await asyncio.shield(asked)

    async def bring_contest(self, contest: str) -> None:
        """The contest's group is as the registry has it when this returns. Raises likewise."""
        await self._bring_contest(contest)

    async def _bring_contest(self, contest: str) -> tuple[ContestRecord | None, bool]:
        """Its row, and whether its group had to be written."""
        async with self._contest_locks.setdefault(contest, asyncio.Lock()):
            record = await self._store.contest(contest)
            if record is None or record.generation == record.projected:
                return record, False
            await self._write_contest(record)
            return record, True

    async def wanted_hash(self, team: str) -> str:
        """Of the spec that the registry wants for a team.

        Raises
        ------
        PermanentError
            There is no such team, or its settings are not valid.
        """
        record = await self._store.team(team)
        contest = None if record is None else await self._store.contest(record.contest)
        if record is None or contest is None:
            raise PermanentError(f"there is no team {team} in the registry")
        projected = to_manifest(contest, [record], {})
        groups = to_groups(projected.manifest, None, projected.reached)
        if team not in groups:
            raise PermanentError(f"team {team} is {record.state.value} and has no settings")
        shared = groups[names.contest_group(contest.id)].properties
        mine = to_team_properties(team, groups[team].properties)
        return merge_read(team, mine, read_contest(contest.id, shared)).hash()

    async def forget_team(self, team: str, contest: str) -> None:
        """There is no group of the team any more. One that is not ours stays.

        Raises
        ------
        PermanentError
            The group of that name is another's.
        """
        async with self._team_lock(team):
            await self._delete_ours(team, contest)
        await self._nudge([team])

    async def forget_contest(self, contest: str) -> None:
        """There is no group of the contest any more. One that is not ours stays.

        Raises
        ------
        PermanentError
            The group of that name is nobody's that we know.
        """
        async with self._contest_locks.setdefault(contest, asyncio.Lock()):
            await self._delete_contest(contest)

    def problems(self) -> Mapping[str, str]:
        """Groups that could not be written, and why, for the host's page."""
        return {group: trouble.why for group, trouble in self._troubles.items()}

    # -- for everything else ------------------------------------------------------------------

    def wake(self) -> None:
        """Something was committed."""
        self._pause.cut()

    async def run(self) -> None:
        """Write what is dirty, until cancelled; what was a problem is then another's to say."""
        try:
            while True:
                self._pause.begin()
                try:
                    is_more = await self.sweep()
                except CollabError as error:
                    log.warning(
                        "The hub's groups could not be brought after the registry: %s", error
                    )
                    is_more = False
                except Exception:  # of one row, say: the service has other things to do as well
                    log.exception("The hub's groups could not be brought after the registry")
                    is_more = False
                if not is_more:
                    await self._pause.wait(SWEEP_S)
        finally:
            await self.close()
            self._troubles.clear()

    async def close(self) -> None:
        """End what runs in the background; it is done again."""
        for task in (self._serving, self._telling):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def sweep(self) -> bool:
        """Write what is dirty now, some of it. Whether something was written.

        Raises
        ------
        DatabaseError
            The registry's database does not answer.
        """
        # What is in trouble stays dirty: it must not hide what is behind it.
        limit = BATCH + len(self._troubles)
        contests, teams = await self._store.unprojected(limit=limit)
        is_any = False
        for contest in contests:
            if self._may_try(names.contest_group(contest.id)):
                is_any |= await self._try(
                    names.contest_group(contest.id), self.bring_contest(contest.id)
                )
        if self._backlog or len(teams) == limit:
            ready = await self._next_of_many()
        else:
            ready = [team.id for team in teams if self._may_try(team.id)][:BATCH]
        done = await asyncio.gather(*(self._try(team, self.bring_team(team)) for team in ready))
        if not ready:
            await self._told()
        return is_any or any(done) or bool(self._backlog)

    async def _next_of_many(self) -> list[str]:
        """Of all that are behind, the next that stand together in the hub's list."""
        if not self._backlog:
            behind = await self._store.behind()
            self._backlog = {team: has for team, has in behind.items() if self._may_try(team)}
        found: Iterable[str] = ()
        while not found and not self._reader.knows(t for t, has in self._backlog.items() if has):
            shown = await self._reader.discover()
            if not shown:
                break
            found = [team for team in shown if team in self._backlog]
        ready = list(found or self._reader.in_order(self._backlog)[:BATCH])
        for team in ready:
            del self._backlog[team]
        return ready

    def _may_try(self, group: str) -> bool:
        trouble = self._troubles.get(group)
        return trouble is None or trouble.again_at <= self._clock()

    async def _try(self, group: str, work: Awaitable[None]) -> bool:
        """Whether it went well."""
        try:
            await work
        except Exception as error:  # a fault of ours must cost one group, not all contests
            if not isinstance(error, CollabError):
                log.exception("The hub group %s could not be written", group)
            before = self._troubles.get(group)
            failures = 1 if before is None else before.failures + 1
            wait_s = min(RETRY_LONGEST_S, RETRY_FIRST_S * 2.0 ** min(failures - 1, 16))
            why = str(error) if isinstance(error, CollabError) else _OUR_FAULT
            self._troubles[group] = _Trouble(why, failures, self._clock() + wait_s)
            if before is None or before.why != why:
                log.warning("The hub group %s could not be written: %s", group, why)
            return False
        self._troubles.pop(group, None)
        return True

    # -- batches ------------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Write asked teams, batch by batch, until none is left."""
        while self._asked:
            batch = dict(list(self._asked.items())[:BATCH])
            for team in batch:
                del self._asked[team]
            try:
                results = await self._bring(list(batch))
            except Exception as error:
                results = dict.fromkeys(batch, error)
            except BaseException:  # this process ends; nobody may wait for ever
                for asked in (*batch.values(), *self._asked.values()):
                    asked.cancel()
                self._asked.clear()
                raise
            for team, asked in batch.items():
                if asked.cancelled():
                    continue
                found = results.get(team)
                if found is None:
                    asked.set_result(None)
                else:
                    asked.set_exception(found)
                    asked.exception()  # whoever asked may be gone

    async def _bring(self, teams: Sequence[str]) -> dict[str, Exception]:
        """Bring these; what went wrong with which."""
        dirty = await self._read_dirty(teams)
        wrong: dict[str, Exception] = {}
        for contest, records in dirty.items():
            try:
                record, is_written = await self._bring_contest(contest)
                if is_written:  # and teams as well, it may be, in their order
                    mine = [team.id for team in records]
                    records = (await self._read_dirty(mine)).get(contest, [])
                if record is not None and records:
                    wrong.update(await self._write_teams(record, records))
            except Exception as error:  # of one contest: the others go on
                wrong.update((team.id, error) for team in records)
        return wrong

    async def _read_dirty(self, teams: Iterable[str]) -> dict[str, list[TeamRecord]]:
        """Those that differ, by contest."""
        wanted = tuple(teams)
        records = await self._store.teams_by_id(wanted)
        found: dict[str, list[TeamRecord]] = {}
        for team in wanted:
            record = records.get(team)
            if record is not None and record.generation != record.projected:
                found.setdefault(record.contest, []).append(record)
        return found

    async def _write_teams(
        self, contest: ContestRecord, teams: Sequence[TeamRecord]
    ) -> dict[str, Exception]:
        """Write the groups of these teams; what went wrong with which."""
        wrong: dict[str, Exception] = {}
        gone = [team for team in teams if not has_group(team)]
        present = [team for team in teams if has_group(team)]
        await self._each(gone, self._leave_out, wrong)
        await self._mark(team for team in gone if team.id not in wrong)
        if present:
            projected = await self._projected(contest, present)
            decider = await self._read_decider()
            look = self._reader.look([team.id for team in present], to_write=True)
            changes: list[GroupChange] = []

            async def write(team: TeamRecord) -> None:
                changes.extend(await self._write_team(projected, team, decider, look))

            await self._each(present, write, wrong)
            written = [team for team in present if team.id not in wrong]
            if decider is not None and any(c.joining or c.leaving for c in changes):
                await self._registry.tell(changes)
            await self._mark(written)
            # It reads them first: the next batch is written meanwhile.
            await self._told()
            nudge = self._nudge([c.group for c in changes if c.properties is not None])
            self._telling = asyncio.create_task(nudge)
        return wrong

    async def _told(self) -> None:
        """The provisioner has looked at the batch before."""
        if self._telling is not None:
            await asyncio.wait({self._telling})

    async def _mark(self, teams: Iterable[TeamRecord]) -> None:
        """These are written."""
        await self._store.mark_projected(teams={team.id: team.generation for team in teams})

    async def _each(
        self,
        teams: Sequence[TeamRecord],
        work: Callable[[TeamRecord], Awaitable[None]],
        wrong: dict[str, Exception],
    ) -> None:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(team: TeamRecord) -> None:
            async with room, self._team_lock(team.id):
                try:
                    await work(team)
                except Exception as error:  # of one team: the others go on
                    wrong[team.id] = error

        await asyncio.gather(*map(one, teams))

    async def _write_team(
        self, projected: Projected, team: TeamRecord, decider: HubDecider | None, look: Look
    ) -> Sequence[GroupChange]:
        """Make one team's group as it should be. Raises SpecError where it is not ours."""
        current = await self._read_team_group(team, look)
        change = plan_team(projected.manifest, team.id, current, decider, projected.reached)
        if change is None:
            return []
        await self._registry.write(change)
        return [change]

    async def _read_team_group(self, team: TeamRecord, look: Look) -> HubGroup | None:
        """As it is. A new team's is made first, which costs no look where there was none."""
        if team.projected == 0 and await self._hub.create_group(team.id):
            return HubGroup(team.id, {}, ())
        return await look.read(team.id)

    async def _leave_out(self, team: TeamRecord) -> None:
        """A team that has no group: not yet, or no more."""
        if team.state is TeamState.DESTROYED and await self._delete_ours(team.id, team.contest):
            await self._nudge([team.id])

    async def _delete_ours(self, team: str, contest: str) -> bool:
        """Whether there was one. Raises PermanentError for one of another contest or nobody's."""
        group = await self._hub.read_group(team)
        if group is None:
            return False
        corner = group.properties.get(PROPERTIES_KEY)
        if not isinstance(corner, Mapping) or corner.get("contest") != contest:
            raise PermanentError(
                f"the hub group {team} is not a team of the contest {contest}; it is left alone."
                " Delete it on the hub if nobody needs it"
            )
        await self._hub.delete_group(team)
        return True

    # -- a contest ----------------------------------------------------------------------------

    async def _delete_contest(self, contest: str) -> None:
        name = names.contest_group(contest)
        group = await self._hub.read_group(name)
        if group is None:
            return
        if not isinstance(group.properties.get(PROPERTIES_KEY), Mapping):
            raise PermanentError(
                f"the hub group {name} bears nothing of a contest; it is left alone. Delete it on"
                " the hub if nobody needs it"
            )
        await self._hub.delete_group(name)
        await self._nudge([name])

    async def _write_contest(self, record: ContestRecord) -> None:
        if record.state is ContestState.DESTROYED:  # it would come back with the last transition
            await self._delete_contest(record.id)
            await self._store.mark_projected(contests={record.id: record.generation})
            return
        group = names.contest_group(record.id)
        current = await _read_groups(self._hub, [group])
        projected = await self._projected(record, [])
        decider = await self._read_decider()
        plan = plan_contest(projected.manifest, current, decider, projected.reached)
        teams: list[TeamRecord] = []
        if any(_takes_away(current.get(c.group), c) for c in plan.changes):
            teams = await self._dirty_teams_of(record.id)
            projected = await self._projected(record, teams)
            wanted = [group, *(team.id for team in teams)]
            registry = _SomeGroups(self._hub, wanted, sleep=self._sleep)
            plan = await ContestManager(registry).apply(projected.manifest, projected.reached)
        else:
            for change in plan.changes:
                await self._registry.write(change)
        await self._store.mark_projected(contests={record.id: record.generation})
        await self._mark(teams)
        await self._nudge(change.group for change in plan.changes)

    async def _dirty_teams_of(self, contest: str) -> list[TeamRecord]:
        teams = await self._store.teams(contest)
        return [t for t in teams if t.generation != t.projected and has_group(t)]

    async def _projected(self, contest: ContestRecord, teams: Sequence[TeamRecord]) -> Projected:
        """What groups should say. Rosters are read after the rows: never older than those."""
        rosters = await self._store.members([team.id for team in teams]) if teams else {}
        accepted: Mapping[str, datetime] = {}
        registration = contest.manifest.registration
        if teams and registration is not None and registration.agreement is not None:
            version = registration.agreement.version
            users = {to_acceptance(m.entry) for roster in rosters.values() for m in roster}
            accepted = await self._store.acceptances(contest.id, version, users=users)
        projected = to_manifest(contest, teams, rosters, frozenset(accepted))
        until = await self._until(contest, teams)
        return replace(projected, reached=replace(projected.reached, until=until))

    async def _until(
        self, contest: ContestRecord, teams: Sequence[TeamRecord]
    ) -> dict[str, datetime]:
        """When servers that run are stopped, by team; the contest's own under ""."""
        narrowed = [team.id for team in teams if team.gate is not Gate.OPEN]
        if gate_of_contest(contest) is not Gate.OPEN:
            narrowed.append("")
        courses = await self._store.courses(contest.id, teams=narrowed) if narrowed else {}
        moments = {team: _drained_at(courses.get(team)) for team in narrowed}
        return {team: moment for team, moment in moments.items() if moment is not None}

    async def _read_decider(self) -> HubDecider | None:
        if self._decider is None or self._clock() - self._decider[0] > DECIDER_S:
            self._decider = self._clock(), await self._registry.read_decider()
        return self._decider[1]

    async def _nudge(self, groups: Iterable[str]) -> None:
        """Have the provisioner look now; where it does not answer it looks by itself, soon."""
        changed = list(groups)
        try:
            if changed:
                await self._provisioner.nudge(changed)
        except CollabError as error:
            log.info("The provisioner was not told of %d groups: %s", len(changed), error)

    def _team_lock(self, team: str) -> asyncio.Lock:
        return self._team_locks.setdefault(team, asyncio.Lock())


async def _read_groups(hub: HubClient, wanted: Sequence[str]) -> dict[str, HubGroup]:
    """Those of these groups that there are: one by one, or out of the list of all."""
    if len(wanted) > BATCH:
        return await hub.list_groups(frozenset(wanted))
    found = {name: await hub.read_group(name) for name in wanted}
    return {name: group for name, group in found.items() if group is not None}


def _drained_at(course: Course | None) -> datetime | None:
    """When a course stops servers, if it has not done so."""
    if course is None or Step.DRAIN not in steps_of(course.kind)[course.step :]:
        return None
    return course.times.get(Step.DRAIN)


def _takes_away(current: HubGroup | None, change: GroupChange) -> bool:
    """Whether something that teams may name is in the contest's group and will not be."""
    if current is None or change.properties is None:
        return False
    before, after = current.properties.get(PROPERTIES_KEY), change.properties[PROPERTIES_KEY]
    if not isinstance(before, Mapping):
        return False
    return any(
        len(after.get(key) or ()) < len(before.get(key) or ())
        or bool(_keys(before.get(key)) - _keys(after.get(key)))
        for key in NAMED_BY_TEAMS
    )


def _keys(value: Any) -> set[str]:
    return set(value) if isinstance(value, Mapping) else set()
