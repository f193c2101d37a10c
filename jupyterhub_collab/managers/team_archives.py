"""Archive Jobs in teams' namespaces: what volumes a team has, having them copied, and brought back.

Everything is asked of the cluster itself each time, and nothing is remembered that could not be
forgotten (which Jobs have their Secret): whoever is killed in between asks again and finds what was
made. A Job has the name of its copy, so asking twice makes one. One that failed is made anew when
somebody asks again. One that is done goes, and its Secret with it: a team's quota counts both. One
that copied goes once whoever asked says that it has ended for them. One that brought a copy back is
all that says so: whoever waits for it looks every second, and a minute later it goes as soon as
something else is asked for.

So many Jobs run at once for a team, and so many in the whole cluster: what has no place begins
when somebody asks again.

It must not: decide that anything is copied, look into a token, or touch what is not ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any, Final

from .. import names, units
from ..constants import (
    ANNOTATION_ARCHIVE,
    ANNOTATION_VOLUME,
    COMPONENT_ARCHIVE,
    COMPONENT_PERSONAL_VOLUME,
    COMPONENT_TEAM_VOLUME,
    LABEL_COMPONENT,
    LABEL_HUB,
    LABEL_TEAM,
)
from ..errors import NotOursError, UserError
from ..kube import kinds as k
from ..kube.client import KubeClient
from ..kube.errors import ConflictError, NotFoundError
from ..manifests.admission import OWNERSHIP
from ..manifests.archive_job import (
    ArchiveOrder,
    ArchiveWork,
    contests_root,
    make_archive_job,
    make_archive_secret,
)
from ..models import Platform
from ..reconcile.objects import Manifest, Owner, is_terminating, uid_of

AT_ONCE: Final = 2  # Jobs of one team: more would not fit into a small tier's quota
AT_ONCE_IN_ALL: Final = 32  # of all teams: their pods take nodes from those who still work
_LEARNT: Final = timedelta(minutes=1)  # by then whoever waits for a copy to be brought back knows
_COUNTED_S: Final = 2.0  # hundreds of teams ask at once, and the answer is the same for all
_REMEMBERED: Final = 20_000  # Jobs of 5,000 teams with some volumes each
_VOLUMES: Final = {COMPONENT_TEAM_VOLUME: "team", COMPONENT_PERSONAL_VOLUME: "personal"}


class JobState(str, Enum):
    """How an archive Job is."""

    WAITING = "waiting"  # no pod yet: no room in the quota, perhaps
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class TeamVolume:
    """A volume of a team, data sets left out: those are not its own.

    Attributes
    ----------
    size_bytes
        As it was asked for.
    is_bound
        False: nobody ever used it, so there is nothing in it.
    """

    claim: str
    kind: str  # team, personal
    size_bytes: int
    is_bound: bool

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "volume": self.claim,
            "kind": self.kind,
            "bytes": self.size_bytes,
            "bound": self.is_bound,
        }


@dataclass(frozen=True)
class ArchiveJob:
    """One Job, as the cluster has it now."""

    work: str
    archive: str
    claim: str
    state: JobState
    message: str = ""

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "work": self.work,
            "archive": self.archive,
            "volume": self.claim,
            "state": self.state.value,
            "message": self.message,
        }


@dataclass(frozen=True)
class TeamArchivesStatus:
    """Volumes and archive Jobs of a team.

    Attributes
    ----------
    refused
        Why nothing can be archived on this platform; empty: it can.
    is_full
        Something was asked for that waits until Jobs of other teams have ended.
    """

    team: str
    namespace: str
    volumes: tuple[TeamVolume, ...]
    jobs: tuple[ArchiveJob, ...]
    refused: str = ""
    is_full: bool = False

    def to_wire(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "team": self.team,
            "namespace": self.namespace,
            "refused": self.refused or None,
            "full": self.is_full,
            "volumes": [volume.to_wire() for volume in self.volumes],
            "jobs": [job.to_wire() for job in self.jobs],
        }


class TeamArchives:
    """The use case. Methods raise RetryableError or PermanentError where the cluster does.

    Parameters
    ----------
    at_once_in_all
        Archive Jobs of all teams together.
    clock
        Monotonic, in seconds.
    now
        The clock, in UTC; compared with the cluster's by the minute.
    """

    def __init__(
        self,
        kube: KubeClient,
        platform: Platform,
        *,
        at_once_in_all: int = AT_ONCE_IN_ALL,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._kube, self._platform, self._now = kube, platform, now
        self._places = _Places(kube, platform.hub_id, at_once_in_all, clock)
        self._with_secret: dict[str, None] = {}  # uids of Jobs, the oldest first

    async def status(self, team: str) -> TeamArchivesStatus | None:
        """How a team's volumes and Jobs are; None: it has nothing in the cluster.

        Raises
        ------
        NotOursError
            There is such a namespace, and it is not ours.
        """
        namespace = await self._namespace(team)
        if namespace is None:
            return None
        return (await self._look(team, namespace))[0]

    async def start(
        self,
        team: str,
        orders: Iterable[tuple[ArchiveOrder, str]],
        *,
        ended: Collection[str] = (),
    ) -> TeamArchivesStatus | None:
        """Have these done, each with its token; some may only begin when it is asked again.

        Parameters
        ----------
        ended
            Copies whose Jobs nobody needs any more: those that have ended are deleted.

        Raises
        ------
        UserError
            Nothing can be archived here, or the team has no such volume.
        NotOursError
        """
        contests_root(self._platform)
        namespace = await self._namespace(team)
        if namespace is None:
            return None
        if is_terminating(namespace):
            raise UserError(f"The namespace of team {team} is being deleted already.")
        status, jobs = await self._look(team, namespace)
        claims = {volume.claim for volume in status.volumes}
        wanted = list(orders)
        for order, _ in wanted:
            if order.claim not in claims:
                raise UserError(
                    f"Team {team} has no volume {order.claim!r}. A member's own volume is made "
                    "when they start their first server."
                )
        await self._delete_ended(jobs.values(), set(ended))
        asked = {order.name for order, _ in wanted}
        await self._delete_learnt(job for name, job in jobs.items() if name not in asked)
        places = AT_ONCE - sum(map(_is_open, jobs.values()))
        is_full = False
        for order, token in wanted:
            job = jobs.get(order.name)
            if job is not None:
                await self._go_on(job, token)
            elif places > 0 and not is_full:
                if await self._places.take():
                    await self._make(order, token, namespace)
                    places -= 1
                else:
                    is_full = True
        status, _ = await self._look(team, namespace)
        return replace(status, is_full=is_full)

    async def _delete_ended(self, jobs: Iterable[Manifest], ended: Collection[str]) -> None:
        for job in jobs:
            has_ended = not _is_open(job) and not is_terminating(job)
            if has_ended and _to_job(job).archive in ended:
                await self._delete(job)

    async def _delete_learnt(self, jobs: Iterable[Manifest]) -> None:
        """Those that brought a copy back a while ago. One that failed has no such moment."""
        for job in jobs:
            is_restore = _to_job(job).work == ArchiveWork.RESTORE.value
            at = str((job.get("status") or {}).get("completionTime") or "")
            if not is_restore or not at or is_terminating(job):
                continue
            if self._now() - datetime.fromisoformat(at.replace("Z", "+00:00")) >= _LEARNT:
                await self._delete(job)

    async def _go_on(self, job: Manifest, token: str) -> None:
        """Have a Job that is there get on: what failed is made anew once it is gone."""
        if is_terminating(job):
            return
        if _state_of(job) is JobState.FAILED:
            await self._delete(job)
        elif _is_open(job):
            await self._make_secret(job, token)

    async def _make(self, order: ArchiveOrder, token: str, namespace: Manifest) -> None:
        labels = namespace["metadata"]["labels"]
        made = make_archive_job(
            order,
            namespace=namespace["metadata"]["name"],
            labels={key: labels[key] for key in OWNERSHIP if key in labels},
            platform=self._platform,
        )
        with suppress(ConflictError):  # somebody else was faster, and makes its Secret
            await self._make_secret(await self._kube.create(made), token)

    async def _make_secret(self, job: Manifest, token: str) -> None:
        """Have a Job's Secret there. Each that is refused as there already is charged to the team's
        quota all the same, for minutes: so it is tried once for each Job, as long as we live.
        """
        uid = uid_of(job)
        if uid in self._with_secret:
            return
        with suppress(ConflictError):  # it is there: the token of a copy is always the same
            await self._kube.create(make_archive_secret(job, token))
        self._with_secret[uid] = None
        while len(self._with_secret) > _REMEMBERED:
            self._with_secret.pop(next(iter(self._with_secret)))

    async def _delete(self, job: Manifest) -> None:
        meta = job["metadata"]
        with suppress(NotFoundError, ConflictError):  # gone, or another one by now
            await self._kube.delete(
                k.JOB, meta["name"], namespace=meta["namespace"], uid=uid_of(job)
            )

    async def _namespace(self, team: str) -> Manifest | None:
        name = names.namespace_of(team, prefix=self._platform.namespace_prefix)
        try:
            found = await self._kube.get(k.NAMESPACE, name)
        except NotFoundError:
            return None
        owner = Owner(self._platform.hub_id, team)
        if not owner.owns(found):
            raise NotOursError(f"The namespace {name} is not ours: {owner.describe_other(found)}.")
        return found

    async def _look(
        self, team: str, namespace: Manifest
    ) -> tuple[TeamArchivesStatus, dict[str, Manifest]]:
        """How it is, and the Jobs themselves by name."""
        where = namespace["metadata"]["name"]
        ours = f"{LABEL_TEAM}={team}"
        claims = await self._kube.list(
            k.PERSISTENT_VOLUME_CLAIM, namespace=where, label_selector=ours
        )
        jobs = await self._kube.list(
            k.JOB, namespace=where, label_selector=f"{ours},{LABEL_COMPONENT}={COMPONENT_ARCHIVE}"
        )
        refused = ""
        try:
            contests_root(self._platform)
        except UserError as error:
            refused = str(error)
        volumes = [volume for claim in claims if (volume := _to_volume(claim)) is not None]
        status = TeamArchivesStatus(
            team,
            where,
            tuple(sorted(volumes, key=lambda volume: (volume.kind != "team", volume.claim))),
            tuple(sorted(map(_to_job, jobs), key=lambda job: (job.work, job.archive, job.claim))),
            refused,
        )
        return status, {job["metadata"]["name"]: job for job in jobs}


class _Places:
    """How many more archive Jobs may begin in the whole cluster, as it was counted a moment ago."""

    def __init__(
        self, kube: KubeClient, hub_id: str, at_once: int, clock: Callable[[], float]
    ) -> None:
        self._kube, self._at_once, self._clock = kube, at_once, clock
        self._selector = f"{LABEL_HUB}={hub_id},{LABEL_COMPONENT}={COMPONENT_ARCHIVE}"
        self._lock, self._free, self._counted_at = asyncio.Lock(), 0, float("-inf")

    async def take(self) -> bool:
        """Whether another one may begin now."""
        async with self._lock:
            now = self._clock()
            if self._free <= 0 and now - self._counted_at >= _COUNTED_S:
                jobs = await self._kube.list(k.JOB, label_selector=self._selector)
                self._free = self._at_once - sum(map(_is_open, jobs))
                self._counted_at = now
            if self._free <= 0:
                return False
            self._free -= 1
            return True


def _to_volume(claim: Mapping[str, Any]) -> TeamVolume | None:
    kind = _VOLUMES.get((claim["metadata"].get("labels") or {}).get(LABEL_COMPONENT, ""))
    if kind is None:
        return None
    asked = ((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0")
    is_bound = (claim.get("status") or {}).get("phase") == "Bound"
    return TeamVolume(claim["metadata"]["name"], kind, units.to_bytes(asked), is_bound)


def _to_job(job: Mapping[str, Any]) -> ArchiveJob:
    notes = job["metadata"].get("annotations") or {}
    work, _, _ = str(job["metadata"]["name"]).partition("-")
    why = "; ".join(
        f"{c.get('reason', '')}: {c.get('message', '')}"
        for c in (job.get("status") or {}).get("conditions") or ()
        if c.get("type") == "Failed" and c.get("status") == "True"
    )
    return ArchiveJob(
        work if work in [w.value for w in ArchiveWork] else "",
        str(notes.get(ANNOTATION_ARCHIVE, "")),
        str(notes.get(ANNOTATION_VOLUME, "")),
        _state_of(job),
        why,
    )


def _is_open(job: Mapping[str, Any]) -> bool:
    return _state_of(job) in (JobState.WAITING, JobState.RUNNING)


def _state_of(job: Mapping[str, Any]) -> JobState:
    status = job.get("status") or {}
    held = {c.get("type") for c in status.get("conditions") or () if c.get("status") == "True"}
    if "Complete" in held:
        return JobState.DONE
    if "Failed" in held:
        return JobState.FAILED
    return JobState.RUNNING if status.get("active") else JobState.WAITING
