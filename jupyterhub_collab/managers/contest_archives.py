"""Copies of volumes, as the contests service keeps them: who may bring one, what it is called, how
long it stays.

A copy's id says team, volume and operation; its one-time token is the id under a key that only this
service has, so nothing needs to be remembered until the copy comes, and a course that is done again
asks for the same copy. A token that brings is spent once its copy is kept; what is kept is never
written over.

Copies whose time is over are deleted, each told to the audit log before.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from .. import names
from ..auditapi import Recorder
from ..errors import CollabError, PermanentError
from ..models.audit import AuditEvent, Outcome, Verb
from ..models.contest_life import Archive
from ..storage.archives import ArchivePlace, Incoming, KeptError, StoredArchive
from ..storage.contests import ContestStore

__all__ = ["ArchiveLimits", "ContestArchives", "KeptError", "NotThisOneError", "archive_of"]
log = logging.getLogger(__name__)

KEY_BYTES_MIN: Final = 32
SAVE: Final = "save"
RESTORE: Final = "restore"
_TIB: Final = 1 << 40
_LOOK_S: Final = 3600.0
_Sleep = Callable[[float], Awaitable[None]]


def archive_of(row: Archive) -> str:
    """Id of the copy that a row of the registry tells of."""
    return row.key.rpartition("/")[2].removesuffix(".tar")


async def _repeat(
    work: Callable[[], Awaitable[object]], said: str, interval_s: float, sleep: _Sleep
) -> None:
    while True:
        try:
            await work()
        except CollabError as error:
            log.warning("%s: %s", said, error)
        except Exception:  # a defect: the service has other things to do as well
            log.exception("%s", said)
        await sleep(interval_s)


class NotThisOneError(PermanentError):
    """The token is not this copy's, or there is no such team. The text does not say which."""

    def __init__(self) -> None:
        super().__init__("This token does not open this archive.")


@dataclass(frozen=True)
class ArchiveLimits:
    """What this service takes.

    Attributes
    ----------
    bytes_max
        Of one copy.
    """

    bytes_max: int = _TIB


class ContestArchives:
    """The use case.

    Parameters
    ----------
    key
        Secret of this service, at least 32 bytes: tokens are made with it.
    prefix
        Path below which this service answers, with a slash at both ends.
    """

    def __init__(
        self,
        place: ArchivePlace,
        store: ContestStore,
        recorder: Recorder,
        *,
        key: bytes,
        prefix: str,
        now: Callable[[], datetime],
        limits: ArchiveLimits | None = None,
    ) -> None:
        if len(key) < KEY_BYTES_MIN:
            raise PermanentError(f"The archives' key has less than {KEY_BYTES_MIN} bytes.")
        self.place = place
        self._store, self._recorder, self._key, self._now = store, recorder, key, now
        self._prefix, self._limits = prefix, limits or ArchiveLimits()
        self.unreadable: tuple[str, ...] = ()  # copies whose notes the last sweep could not read

    @property
    def bytes_max(self) -> int:
        """The most that one copy may have."""
        return self._limits.bytes_max

    def token(self, archive: str, what: str) -> str:
        """What opens this one copy to be brought (`SAVE`) or fetched (`RESTORE`): 64 hex digits."""
        return hmac.new(self._key, f"{what}\0{archive}".encode(), hashlib.sha256).hexdigest()

    def path(self, archive: str) -> str:
        """Where a copy is brought and fetched, from this service's root on."""
        return f"{self._prefix}api/archives/{archive}"

    async def find(self, archive: str) -> StoredArchive | None:
        """The copy of this id, if it is kept. Raises NotThisOneError: there is no such team."""
        return await self.place.find(await self._key_of(archive))

    async def find_kept(self, row: Archive) -> StoredArchive | None:
        """The copy that a row of the registry tells of, if it is there and its time is not over."""
        if not row.key:
            return None
        found = await self.place.find(row.key)
        if found is None or found.sha256 != row.sha256:
            return None
        is_over = found.keep_until is not None and found.keep_until <= self._now()
        return None if is_over else found

    async def check(self, archive: str, token: str, *whats: str) -> None:
        """Raise NotThisOneError unless the token is this copy's, for one of these."""
        if not names.is_archive_id(archive):
            raise NotThisOneError
        wanted = (self.token(archive, what) for what in whats)
        if not any(hmac.compare_digest(token.encode(), w.encode()) for w in wanted):
            raise NotThisOneError

    async def begin(self, archive: str) -> Incoming:
        """Receive a copy. Raises KeptError, NotThisOneError, RetryableError, PermanentError."""
        if await self.find(archive) is not None:
            raise KeptError
        return await self.place.receive(bytes_max=self._limits.bytes_max)

    async def keep(self, archive: str, incoming: Incoming) -> StoredArchive:
        """Keep what was received, as long as its contest says. Raises as `begin`, CutOffError."""
        now, key = self._now(), await self._key_of(archive)
        stored = await incoming.finish(key, at=now)
        contest = await self._store.contest(key.partition("/")[0])
        if contest is None:
            raise NotThisOneError
        until = now + timedelta(days=contest.manifest.endings.keep_archives_days)
        return await self.place.keep(incoming, replace(stored, keep_until=until))

    async def read(self, archive: str) -> tuple[StoredArchive, AsyncGenerator[bytes, None]]:
        """A copy and its bytes. Raises NotThisOneError: it is not kept (any more)."""
        found = await self.find(archive)
        if found is None:
            raise NotThisOneError
        return found, self.place.read(found)

    def to_record(self, stored: StoredArchive, *, team: str, volume: str) -> Archive:
        """As the registry has it."""
        return Archive(
            contest=stored.key.partition("/")[0],
            team=team,
            volume=volume,
            place=self.place.name,
            key=stored.key,
            bytes=stored.size,
            sha256=stored.sha256,
            at=stored.at,
            keep_until=stored.keep_until,
        )

    def entry(self, archive: str, volume: str, what: str) -> dict[str, str]:
        """What the provisioner is asked for one copy: see `ProvisionerClient.restore`."""
        return {
            "volume": volume,
            "archive": archive,
            "path": self.path(archive),
            "token": self.token(archive, what),
        }

    async def run(self, *, interval_s: float = _LOOK_S, sleep: _Sleep = asyncio.sleep) -> None:
        """Sweep now and then, until cancelled: one process at a time."""
        said = "Archives whose time is over could not be looked for"
        await _repeat(self.sweep, said, interval_s, sleep)

    async def run_clearing(
        self, *, interval_s: float = _LOOK_S, sleep: _Sleep = asyncio.sleep
    ) -> None:
        """Remove what killed uploads left, now and then, until cancelled: each process in its own
        folder, for any of them may be brought a copy."""
        await _repeat(self._clear, "What killed uploads left is still there", interval_s, sleep)

    async def _clear(self) -> None:
        if count := await self.place.clear():
            log.info("Removed what killed uploads left: %d", count)

    async def sweep(self) -> int:
        """Delete all copies whose time is over; how many.

        Raises what the place raises. A copy whose note cannot be read is told and left alone.

        Raises
        ------
        AuditUnavailableError
            It cannot be recorded: nothing (more) is deleted.
        """
        now, count = self._now(), 0
        unreadable: list[str] = []
        kept = await self.place.all(on_unreadable=unreadable.append)
        self.unreadable = tuple(unreadable)
        for stored in kept:
            if stored.keep_until is None or stored.keep_until > now:
                continue
            await self._recorder.record(self._to_event(stored, now, Outcome.ALLOWED))
            try:
                await self.place.delete(stored)
            except CollabError as error:
                log.warning("An archive whose time is over stays: %s", error)
                self._recorder.emit(self._to_event(stored, now, Outcome.FAILED))
                continue
            self._recorder.emit(self._to_event(stored, now, Outcome.SUCCEEDED))
            count += 1
        return count

    def _to_event(self, stored: StoredArchive, now: datetime, outcome: Outcome) -> AuditEvent:
        contest, _, name = stored.key.partition("/")
        return AuditEvent(
            time=now,
            verb=Verb.CONTEST_CHANGE,
            outcome=outcome,
            contest=contest,
            team=name.partition(".")[0],
            thing=stored.key,
            reason="archive-delete",
            details={
                "sha256": stored.sha256,
                "bytes": stored.size,
                "place": self.place.name,
            },
        )

    async def _key_of(self, archive: str) -> str:
        team = archive.partition(".")[0]
        found = await self._store.team(team) if names.is_archive_id(archive) else None
        if found is None:
            raise NotThisOneError
        return f"{found.contest}/{archive}.tar"
