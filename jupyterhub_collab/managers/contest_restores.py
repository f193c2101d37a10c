"""Copies of volumes, as hosts see them, and brought back into a team's volume.

A host asks; the provisioner makes the Job, whose pod fetches the copy from this service with a
token for this one. Nothing that is in the volume is overwritten. It is in the audit log before:
what was a team's may come to other people by it.

It must not: decide who may ask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from .. import names
from ..auditapi import Recorder
from ..hubapi.provisioner import ProvisionerClient, ProvisionerRefusedError
from ..models.audit import AuditEvent, Outcome, Person, Verb
from ..models.contest_life import Archive, CourseKind, TeamRecord
from ..storage.contests import ContestStore
from .contest_archives import RESTORE, ContestArchives, archive_of
from .contest_refusals import NotNowError, NotThereError

_LEAVING: Final = (CourseKind.ELIMINATE, CourseKind.ARCHIVE, CourseKind.DESTROY)
_NOTHING: Final[Mapping[str, Any]] = {"volumes": (), "jobs": ()}


class ContestRestores:
    """The use case.

    Parameters
    ----------
    archives
        None: no place for archives is configured.
    """

    def __init__(
        self,
        archives: ContestArchives | None,
        store: ContestStore,
        provisioner: ProvisionerClient,
        recorder: Recorder,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._archives, self._store, self._provisioner = archives, store, provisioner
        self._recorder, self._now = recorder, now

    async def page(
        self, contest: str, *, after: tuple[str, str], limit: int
    ) -> tuple[list[Archive], bool]:
        """Copies that the registry tells of, by team and volume, and whether there are more."""
        rows = [row for row in await self._store.archives(contest) if row.key]
        rows.sort(key=lambda row: (row.team, row.volume))
        found = [row for row in rows if (row.team, row.volume) > after]
        return found[:limit], len(found) > limit

    async def contest_of(self, archive: str) -> str:
        """Whose a copy is. Raises NotThereError: it is not kept (any more)."""
        there = NotThereError(f"There is no copy {archive[:80]!r}, or it is not for you.")
        if self._archives is None:
            raise NotNowError("Nothing is archived here: no place for archives is configured.")
        team = await self._store.team(archive.partition(".")[0])
        if not names.is_archive_id(archive) or team is None:
            raise there
        if await self._archives.find(archive) is None:
            raise there
        return team.contest

    async def status(self, team: TeamRecord) -> Mapping[str, Any]:
        """A team's volumes and archive Jobs, as the cluster has them now."""
        return await self._provisioner.read_archives(team.id) or _NOTHING

    async def restore(
        self, archive: str, team: TeamRecord, *, volume: str | None, by: str
    ) -> Mapping[str, Any]:
        """Have a copy brought back into a volume of this team; asking twice is asking once.

        Parameters
        ----------
        volume
            The claim's name; None: as the volume was called of which the copy is.

        Raises
        ------
        NotNowError
            The team is on its way out, has no such volume, or nothing in the cluster.
        NotThereError
            As `contest_of`.
        """
        source = await self.contest_of(archive)
        assert self._archives is not None
        course = await self._store.course(team.contest, team.id)
        if course is not None and course.kind in _LEAVING:
            raise NotNowError(
                f"The team {team.id} is on its way out ({course.kind.value}): its volumes are"
                " copied and deleted, not filled. Restore the team first, or choose another."
            )
        claim = volume or await self._volume_of(archive, source)
        await self._record(archive, source, team, by)
        entry = self._archives.entry(archive, claim, RESTORE)
        try:
            return await self._provisioner.restore(team.id, [entry])
        except ProvisionerRefusedError as error:
            if error.status in (404, 409):
                raise NotNowError(f"It cannot be brought back there: {error}.") from error
            raise

    async def _volume_of(self, archive: str, contest: str) -> str:
        team = archive.partition(".")[0]
        for row in await self._store.archives(contest, team=team):
            if archive_of(row) == archive:
                return row.volume
        raise NotNowError(
            f"There is a newer copy than {archive}, and the registry does not remember what volume"
            " this one is of. Name the volume."
        )

    async def _record(self, archive: str, source: str, team: TeamRecord, by: str) -> None:
        await self._recorder.record(
            AuditEvent(
                time=self._now(),
                verb=Verb.CONTEST_CHANGE,
                outcome=Outcome.ALLOWED,
                contest=team.contest,
                team=team.id,
                thing=archive,
                reason="archive-restore",
                details={"source": source},
                actor=Person(name=by),
                subject=Person(name=by),
            )
        )
