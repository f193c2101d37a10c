"""The last steps of teams and contests: volumes copied away, what was shared removed, a look for
what is left, and the certificate.

Each step asks how things are and does what is missing, so whoever is killed anywhere does it again
with the same end: copies have the name of their operation, the first certificate stays. The
contests service has no rights in the cluster: it asks the provisioner.

It must not: destroy volumes or namespaces (the cluster's administrator has the last word on those),
or certify while anything is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from .. import names
from ..constants import PROPERTIES_KEY, TEAM_CLAIM_NAME
from ..errors import CollabError, RetryableError
from ..models.audit import AuditEvent, Outcome, Verb
from ..models.contest_life import (
    Archive,
    CourseKind,
    Operation,
    Step,
    TeamRecord,
    TeamState,
)
from ..models.hub_user import HubUser
from ..policy.checkpoint import LogSigner
from ..policy.teardown_certificate import (
    Asked,
    EndedTeam,
    KeptVolume,
    Scan,
    TeardownCertificate,
    certificate_sha256,
    sign_certificate,
    volume_labels,
)
from ..storage.archives import StoredArchive
from .contest_archives import SAVE, ContestArchives
from .contest_people import belonging_to_nothing, delete_people, people_of
from .contest_steps import StepHandlers, StepResult, StepWork

NOT_KEPT: Final = ""
"""Place of a volume of which there is no copy: its row remembers that there was one."""

_SOON: Final = timedelta(seconds=5)  # a copy takes a while, and nobody says when it is done
_LATER: Final = timedelta(seconds=15)  # of a large volume, or of one that waits for its turn
_EAGER: Final = 6  # looks, before it is looked more seldom
_ASK_ALL: Final = 4  # looks, after which all that is missing is asked for, whatever is said of it
_OPEN: Final = ("waiting", "running")  # states of Jobs
_LOOK_AGAIN: Final = timedelta(minutes=1)  # it reads all groups and users of the hub
_PEOPLE: Final = timedelta(minutes=5)  # somebody has to do something
_AT_ONCE: Final = 16  # notes of copies that are read at the same time
_TEAMS_PER_READ: Final = 500
_USERS_A_RECORD: Final = 100
_TOLD: Final = 10  # things that are named; the rest is counted

ON_THE_HUB: Final = ("hub groups", "hub users")
IN_THE_REGISTRY: Final = ("teams", "courses", "invitations")


@dataclass(frozen=True)
class Ending:
    """What the last steps work with.

    Attributes
    ----------
    archives
        None: no place for archives is configured.
    signer
        The contests service's own key; None: nothing can be certified.
    read_checkpoint
        The audit log's newest signed head; empty: there is none yet. None: no audit service is
        configured, and certificates say so.
    """

    archives: ContestArchives | None
    signer: LogSigner | None
    read_checkpoint: Callable[[], Awaitable[str]] | None = None

    def handlers(self) -> StepHandlers:
        """Of the steps that this module does."""
        return {
            Step.ARCHIVE: self.archive,
            Step.REMOVE_SHARED: remove_shared,
            Step.SCAN: scan,
            Step.CERTIFY: self.certify,
        }

    async def archive(self, work: StepWork) -> StepResult:
        """Have the team's volumes copied, each until what the pod sent is what was kept."""
        team = work.team
        if team is None or not work.has_group:
            return StepResult.done()
        status = await work.provisioner.read_archives(team.id)
        if status is None:  # nothing in the cluster, so nothing to copy
            return StepResult.done()
        volumes = [volume for volume in status["volumes"] if volume["bound"]]
        # An archived team's copies may be gone by now, and its volumes are there still.
        is_archived = team.state is TeamState.ARCHIVED
        is_asked = work.course.kind is CourseKind.ARCHIVE or work.contest.manifest.endings.archive
        if not (is_asked or is_archived):
            await _remember(work, team, volumes)
            return StepResult.done()
        if not volumes:
            return StepResult.done()
        if self.archives is None or status.get("refused"):
            why = status.get("refused") or (
                "Nothing can be archived: the contests service has no place for archives. An "
                "administrator configures one (docs/teardown.md), or the contest's manifest says "
                "`archive: false`."
            )
            return StepResult.not_yet(why, wait=_PEOPLE)
        known = {row.volume: row for row in await work.store.archives(team.contest, team=team.id)}
        # Who was on the way back may have written since; then servers were stopped before this.
        earlier = known if is_archived and Step.DRAIN not in work.course.times else {}
        kept = {v["volume"]: await self._kept(work, v["volume"], earlier) for v in volumes}
        missing = [claim for claim, stored in kept.items() if stored is None]
        found = {claim: stored for claim, stored in kept.items() if stored is not None}
        await self._note(work, team, found, known)
        if missing:
            return await self._copy(work, team, status, missing, done=len(found))
        if ended := _ended(work, status):
            await work.provisioner.start_archives(team.id, (), ended=ended)
        _tell_archived(work, found.values())
        return StepResult.done()

    async def _kept(
        self, work: StepWork, claim: str, earlier: Mapping[str, Archive]
    ) -> StoredArchive | None:
        """This operation's copy, or one of before since which nobody could write."""
        assert self.archives is not None
        row = earlier.get(claim)
        found = None if row is None else await self.archives.find_kept(row)
        return found or await self.archives.find(_archive_of(work, claim))

    async def _note(
        self,
        work: StepWork,
        team: TeamRecord,
        found: Mapping[str, StoredArchive],
        known: Mapping[str, Archive],
    ) -> None:
        """Have the registry know of copies, as soon as they are kept."""
        assert self.archives is not None
        for claim, stored in found.items():
            row = self.archives.to_record(stored, team=team.id, volume=claim)
            if known.get(claim) != row:
                await work.store.put_archive(row)

    async def _copy(
        self,
        work: StepWork,
        team: TeamRecord,
        status: Mapping[str, Any],
        missing: list[str],
        *,
        done: int,
    ) -> StepResult:
        """Have a Job for each missing copy; what is done already is asked for again in vain."""
        assert self.archives is not None
        ids = {claim: _archive_of(work, claim) for claim in missing}
        states = {job["archive"]: job for job in status.get("jobs", ())}
        ended = _ended(work, status)
        is_open = [states.get(a, {}).get("state") in _OPEN for a in ids.values()]
        # Who was killed after a Job and before its Secret left one that waits: now and then, all.
        if ended or not all(is_open) or work.course.attempts % _ASK_ALL == 0:
            entries = [self.archives.entry(a, claim, SAVE) for claim, a in ids.items()]
            status = await work.provisioner.start_archives(team.id, entries, ended=ended)
        text = f"{done} of {done + len(missing)} volumes are copied."
        failed = [states[a] for a in ids.values() if states.get(a, {}).get("state") == "failed"]
        waiting = [a for a in ids.values() if states.get(a, {}).get("state") == "waiting"]
        if failed:
            said = failed[0].get("message") or "no reason given"
            return StepResult.not_yet(
                f"{text} {len(failed)} Jobs failed and are tried again ({said}). Their pods' logs "
                f"say why, in the namespace {status.get('namespace')}."
            )
        if status.get("full"):
            text += " Volumes of other teams are copied first: so many Jobs run at once."
        elif len(waiting) == len(missing):
            text += " The Jobs have no pod yet: perhaps the team's quota has no room for one."
        is_new = work.course.attempts < _EAGER and not status.get("full")
        return StepResult.not_yet(text, wait=_SOON if is_new else _LATER)

    async def certify(self, work: StepWork) -> StepResult:
        """Look once more, sign what was and is, and have it in the audit log."""
        note = await work.store.certificate(work.contest.id)
        if note is None:
            if self.signer is None:
                return StepResult.not_yet(
                    "The contests service has no key to sign the certificate with. An "
                    "administrator gives it one (docs/teardown.md).",
                    wait=_PEOPLE,
                )
            look = await _look(work)
            if look.words:
                return _left(look)
            rows = await work.store.archives(work.contest.id)
            places = sorted({row.place for row in rows if row.place != NOT_KEPT})
            if self.archives is None and places:
                return StepResult.not_yet(
                    f"Copies of volumes are kept ({', '.join(places)}), and the contests service "
                    "has no place for archives now, so nobody can look whether they are there. An "
                    "administrator configures it again (docs/teardown.md).",
                    wait=_PEOPLE,
                )
            try:
                checkpoint = await self._checkpoint()
            except CollabError as error:
                return StepResult.not_yet(
                    "The certificate waits for the audit log's newest signed head, for it names"
                    f" that: {error}.",
                    wait=_LOOK_AGAIN,
                )
            certificate = await self._certificate(work, look, checkpoint)
            made = sign_certificate(certificate, self.signer)
            await work.store.put_certificate(work.contest.id, made, at=work.now)
            note = await work.store.certificate(work.contest.id) or made  # the first one stays
        await work.record("certify", sha256=certificate_sha256(note))
        return StepResult.done()

    async def _checkpoint(self) -> str:
        if self.read_checkpoint is None:
            return ""
        found = await self.read_checkpoint()
        if not found:
            raise RetryableError("it has signed none yet")
        return found

    async def _certificate(
        self, work: StepWork, look: _Look, checkpoint: str
    ) -> TeardownCertificate:
        contest = work.contest.id
        rows = await work.store.archives(contest)
        moments = await _moments(work)
        kept = await self._kept_volumes(rows)
        teams = await _ended_teams(work, rows, set(kept), moments, prefix=look.prefix)
        operation = await work.store.operation(work.course.operation)
        return TeardownCertificate(
            contest=contest,
            at=work.now,
            asked=_asked(operation, work),
            teams=tuple(teams),
            kept=tuple(kept.values()),
            scan=Scan(work.now, look.looked, look.not_looked),
            audit_checkpoint=checkpoint,
        )

    async def _kept_volumes(self, rows: Iterable[Archive]) -> dict[tuple[str, str], KeptVolume]:
        """Copies that are there now, by team and claim. Who says so has looked."""
        room = asyncio.Semaphore(_AT_ONCE)

        async def note_of(row: Archive) -> StoredArchive | None:
            if self.archives is None:
                return None
            async with room:
                return await self.archives.find_kept(row)

        every = list(rows)
        notes = await asyncio.gather(*map(note_of, every))
        labels = _labels(every)
        return {
            (row.team, row.volume): KeptVolume(
                team=row.team,
                volume=labels[row.team, row.volume],
                place=row.place,
                key=row.key,
                bytes=note.size,
                sha256=note.sha256,
                at=note.at,
                keep_until=note.keep_until,
                files=note.files,
                missed=note.missed,
            )
            for row, note in zip(every, notes, strict=True)
            if note is not None
        }


async def remove_shared(work: StepWork) -> StepResult:
    """The contest's own group goes, and hub users who belong to nothing any more.

    Most of those went with their teams. Here are the others: of teams that were never let in and so
    had no group, and who did not accept the agreement.
    """
    group = names.contest_group(work.contest.id)
    if await work.hub.read_group(group) is not None:
        await work.record("remove-shared", group=group)
        await work.groups.forget_contest(work.contest.id)
    if work.settings.keep_users:
        return StepResult.done()
    left, own = await _people_left(work)
    for start in range(0, len(left), _USERS_A_RECORD):
        # Few at a time: who was judged a while ago may be in another contest by now.
        some = left[start : start + _USERS_A_RECORD]
        alone = await belonging_to_nothing(work, some, besides=own)
        if alone:
            await work.record("forget-users", users=len(alone))
            await delete_people(work, alone)
    return StepResult.done()


async def _people_left(work: StepWork) -> tuple[list[HubUser], set[str]]:
    """Hub users who were in the contest, and groups that were its own."""
    teams = {team.id for team in await work.store.teams(work.contest.id)}
    people = await people_of(work, teams)
    listed = await work.hub.list_users() if people else {}
    left = [listed[name] for name in sorted(people) if name in listed]
    return left, {*teams, names.contest_group(work.contest.id)}


async def scan(work: StepWork) -> StepResult:
    """Look everywhere for what is left; done only if there is nothing."""
    look = await _look(work)
    return _left(look) if look.words else StepResult.done()


@dataclass(frozen=True)
class _Look:
    """What is left, in words, and where was looked."""

    words: tuple[str, ...] = ()
    looked: tuple[str, ...] = ()
    not_looked: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""


def _left(look: _Look) -> StepResult:
    shown = "; ".join(look.words[:_TOLD])
    more = f"; and {len(look.words) - _TOLD} more" if len(look.words) > _TOLD else ""
    text = f"{len(look.words)} things are left: {shown}{more}. Delete them or give them away."
    return StepResult.not_yet(text, wait=_LOOK_AGAIN)


async def _look(work: StepWork) -> _Look:
    contest = work.contest.id
    teams = [team.id for team in await work.store.teams(contest)]
    answer = await work.provisioner.find_leftovers(contest, teams)
    words = [_cluster_words(found) for found in answer["leftovers"]]
    words += await _on_the_hub(work, set(teams))
    words += await _in_the_registry(work, teams)
    return _Look(
        tuple(words),
        (*map(str, answer["looked"]), *ON_THE_HUB, *IN_THE_REGISTRY),
        {str(kind): str(why) for kind, why in answer["notLooked"].items()},
        str(answer.get("namespacePrefix", "")),
    )


def _cluster_words(found: Mapping[str, Any]) -> str:
    where = f" in namespace {found['namespace']}" if found.get("namespace") else ""
    state = ", being deleted" if found.get("terminating") else ""
    return f"{found['kind']} {found['name']}{where} ({found['why']}{state})"


async def _on_the_hub(work: StepWork, teams: set[str]) -> list[str]:
    contest, words = work.contest.id, []
    for name, group in sorted((await work.hub.list_groups()).items()):
        corner = group.properties.get(PROPERTIES_KEY)
        is_of_it = isinstance(corner, Mapping) and corner.get("contest") == contest
        if name in teams or name == names.contest_group(contest) or is_of_it:
            words.append(f"hub group {name}")
    if not work.settings.keep_users:
        left, own = await _people_left(work)
        alone = await belonging_to_nothing(work, left, besides=own)
        words += ["a hub user who was in the contest and belongs to nothing else"] * len(alone)
    return words


async def _in_the_registry(work: StepWork, teams: Iterable[str]) -> list[str]:
    contest = work.contest.id
    counts = await work.store.count_teams(contest)
    words = [
        f"registry: {count} teams are {state.value}"
        for state, count in sorted(counts.items())
        if count and state is not TeamState.DESTROYED
    ]
    unreadable = await work.store.unreadable_teams(contest)
    words += [f"registry: a row of team {one.id} that cannot be read" for one in unreadable]
    courses = await work.store.courses(contest)
    words += [f"registry: a course of team {team}" for team in sorted(courses) if team]
    for team in teams:
        if await work.store.invitations(team):
            words.append(f"registry: invitations into team {team}")
    return words


def _archive_of(work: StepWork, claim: str) -> str:
    assert work.team is not None
    return names.archive_id(work.team.id, claim, work.course.operation)


def _ended(work: StepWork, status: Mapping[str, Any]) -> list[str]:
    """Copies whose Jobs nobody needs any more: done, or failed for what was asked for before.

    One that is done and has no copy was done for a copy that was lost since: it is made anew.
    """
    mine = f".{work.course.operation}"
    return [
        str(job["archive"])
        for job in status.get("jobs", ())
        if job.get("work") == SAVE
        and (
            job.get("state") == "done"
            or (job.get("state") == "failed" and not str(job["archive"]).endswith(mine))
        )
    ]


async def _remember(work: StepWork, team: TeamRecord, volumes: Iterable[Mapping[str, Any]]) -> None:
    """Rows of volumes of which no copy is kept, unless an earlier operation kept one."""
    there = {row.volume for row in await work.store.archives(work.contest.id, team=team.id)}
    for volume in volumes:
        if volume["volume"] not in there:
            await work.store.put_archive(
                Archive(
                    contest=work.contest.id,
                    team=team.id,
                    volume=volume["volume"],
                    place=NOT_KEPT,
                    key="",
                    bytes=int(volume["bytes"]),
                    sha256="",
                    at=work.now,
                )
            )


def _tell_archived(work: StepWork, kept: Iterable[StoredArchive]) -> None:
    copies = list(kept)
    work.recorder.emit(
        AuditEvent(
            time=work.now,
            verb=Verb.CONTEST_CHANGE,
            outcome=Outcome.SUCCEEDED,
            contest=work.contest.id,
            team=None if work.team is None else work.team.id,
            reason="archive",
            details={
                "operation": work.course.operation,
                "volumes": len(copies),
                "bytes": sum(stored.size for stored in copies),
                "files": sum(stored.files for stored in copies),
                "missed": sum(stored.missed for stored in copies),
                "sha256": tuple(stored.sha256 for stored in copies[:100]),
            },
        )
    )


async def _members(work: StepWork, teams: Iterable[str]) -> dict[str, list[Any]]:
    """Roster entries by team."""
    wanted, found = sorted(teams), {}
    for start in range(0, len(wanted), _TEAMS_PER_READ):
        some = await work.store.members(wanted[start : start + _TEAMS_PER_READ])
        found.update({team: [m.entry for m in members] for team, members in some.items()})
    return found


async def _moments(work: StepWork) -> dict[tuple[str, str], datetime]:
    """When each team came last into each state."""
    found: dict[tuple[str, str], datetime] = {}
    after = 0
    while page := await work.store.transitions(work.contest.id, after=after, limit=1000):
        for past in page:
            found[past.transition.team, past.transition.after] = past.at
        after = page[-1].number
    return found


async def _ended_teams(
    work: StepWork,
    rows: Iterable[Archive],
    kept: Collection[tuple[str, str]],
    moments: Mapping[tuple[str, str], datetime],
    *,
    prefix: str,
) -> list[EndedTeam]:
    records = await work.store.teams(work.contest.id)
    members = await _members(work, [team.id for team in records])
    volumes: dict[str, list[Archive]] = {}
    for row in rows:
        volumes.setdefault(row.team, []).append(row)
    found = []
    for team in records:
        mine = volumes.get(team.id, [])
        lost = [row for row in mine if (row.team, row.volume) not in kept]
        found.append(
            EndedTeam(
                team=team.id,
                namespace=f"{prefix}{team.id}",
                members=len(members.get(team.id, ())),
                volumes=len(mine),
                lost_volumes=len(lost),
                lost_bytes=sum(row.bytes for row in lost),
                archived_at=moments.get((team.id, TeamState.ARCHIVED.value)),
                destroyed_at=moments.get((team.id, TeamState.DESTROYED.value)),
            )
        )
    return found


def _labels(rows: Iterable[Archive]) -> dict[tuple[str, str], str]:
    """Names of volumes that name no person, by team and claim."""
    claims: dict[str, list[str]] = {}
    for row in rows:
        claims.setdefault(row.team, []).append(row.volume)
    return {
        (team, claim): label
        for team, some in claims.items()
        for claim, label in volume_labels(some, team_claim=TEAM_CLAIM_NAME).items()
    }


def _asked(operation: Operation | None, work: StepWork) -> Asked:
    if operation is None:
        return Asked(work.course.operation, work.now, "")
    return Asked(
        operation.number,
        operation.asked_at,
        _kind_of(operation.asked_by),
        _kind_of(operation.approved_by),
    )


def _kind_of(name: str) -> str:
    """As what somebody acted: names are in the audit log."""
    if not name:
        return ""
    return "service" if name.startswith("service:") else "person"
