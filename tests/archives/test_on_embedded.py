"""Volumes copied and brought back by real Jobs of the embedded cluster, over real HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab import names
from jupyterhub_collab.constants import (
    COMPONENT_PERSONAL_VOLUME,
    COMPONENT_TEAM_VOLUME,
    LABEL_COMPONENT,
    LABEL_CONTEST,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
)
from jupyterhub_collab.errors import AuditUnavailableError, NotOursError, UserError
from jupyterhub_collab.kube import KubeClient
from jupyterhub_collab.kube import kinds as k
from jupyterhub_collab.managers.contest_archives import RESTORE, SAVE, ContestArchives
from jupyterhub_collab.managers.contest_restores import ContestRestores
from jupyterhub_collab.managers.leftovers import Leftovers
from jupyterhub_collab.managers.team_archives import JobState, TeamArchives
from jupyterhub_collab.manifests.archive_job import ArchiveOrder, ArchiveWork
from jupyterhub_collab.models import Platform
from tests.archives.service import ArchiveService, archive_service
from tests.contract.clusters import ContractCluster, embedded_cluster
from tests.singleuser.archive_samples import fill, tree_of

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractCluster]:
    with embedded_cluster(tmp_path_factory.mktemp("embedded"), with_node=True) as found:
        yield found


def make_platform(port: int, **more: Any) -> Platform:
    where = {"address": "127.0.0.1", "peer": {"cidr": "127.0.0.1/32"}}
    return Platform.model_validate(
        {
            "hub_id": "lab",
            "hub_api": {"host": "hub", "port": 1, **where},
            "proxy": {"host": "hub", "port": 2, **where},
            "contests": {"host": "contests.internal", "port": port, **where},
            "archive_image": "local:1",
            **more,
        }
    )


@dataclass
class Ground:
    """A cluster, the service, and the provisioner's part."""

    kube: KubeClient
    service: ArchiveService
    platform: Platform
    spaces: list[str]

    @property
    def archives(self) -> TeamArchives:
        return TeamArchives(self.kube, self.platform)

    def labels(self, team: str, contest: str = "sea", hub: str = "lab") -> dict[str, str]:
        return {
            LABEL_MANAGED_BY: MANAGED_BY,
            LABEL_HUB: hub,
            LABEL_TEAM: team,
            LABEL_CONTEST: contest,
        }

    async def make_space(self, team: str, *claims: str, **more: str) -> None:
        """A team's namespace and volumes, as provisioner and hub make them."""
        space = f"team-{team}"
        labels = self.labels(team, **more)
        await self.kube.create(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {"name": space, "labels": labels},
            }
        )
        self.spaces.append(space)
        await until(self.has(k.SERVICE_ACCOUNT, "default", space))
        for claim in claims or ("team",):
            is_team = claim == "team"
            component = COMPONENT_TEAM_VOLUME if is_team else COMPONENT_PERSONAL_VOLUME
            await self.kube.create(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {
                        "name": claim,
                        "namespace": space,
                        "labels": {**labels, LABEL_COMPONENT: component},
                    },
                    "spec": {
                        "accessModes": ["ReadWriteMany"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
            )

    def has(self, kind: k.Kind, name: str, space: str) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            return name in [
                o["metadata"]["name"] for o in await self.kube.list(kind, namespace=space)
            ]

        return look

    async def volume(self, team: str, claim: str = "team") -> Path:
        """The folder that a volume is."""
        found = await self.kube.get(k.PERSISTENT_VOLUME_CLAIM, claim, f"team-{team}")
        name = found["spec"]["volumeName"]
        bound = await self.kube.get(k.PERSISTENT_VOLUME, name)
        return Path(bound["spec"]["csi"]["volumeAttributes"]["path"])

    def order(
        self, team: str, claim: str = "team", number: int = 7, what: str = SAVE, into: str = ""
    ) -> tuple[ArchiveOrder, str]:
        archive = names.archive_id(team, claim, number)
        keeper: ContestArchives = self.service.archives
        order = ArchiveOrder(ArchiveWork(what), into or claim, archive, keeper.path(archive))
        return order, keeper.token(archive, what)

    def of_ocean(self, claim: str) -> tuple[ArchiveOrder, str]:
        """Copying one of the volumes of the team ocean."""
        return self.order("ocean", claim)

    async def finish(self, team: str, *orders: tuple[ArchiveOrder, str]) -> None:
        """As the contests service does: ask until all is done."""

        async def is_done() -> bool:
            status = await self.archives.start(team, orders)
            assert status is not None
            wanted = {(order.work.value, order.archive) for order, _ in orders}
            done = {(j.work, j.archive) for j in status.jobs if j.state is JobState.DONE}
            assert not [j for j in status.jobs if j.state is JobState.FAILED]
            return wanted <= done

        await until(is_done)


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Ask until it is so: other processes give no other sign."""
    for _ in range(600):
        if await check():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it never came to that")


@pytest.fixture
async def ground(cluster: ContractCluster, tmp_path: Path) -> AsyncIterator[Ground]:
    async with (
        archive_service(tmp_path) as service,
        await KubeClient.from_kubeconfig(cluster.kubeconfig) as kube,
    ):
        found = Ground(kube, service, make_platform(service.port), [])
        yield found
        for space in found.spaces:
            await kube.delete(k.NAMESPACE, space)
        for space in found.spaces:
            await until(lambda space=space: gone(kube, space))  # type: ignore[misc]


async def gone(kube: KubeClient, space: str) -> bool:
    return space not in [o["metadata"]["name"] for o in await kube.list(k.NAMESPACE)]


async def test_a_volume_is_copied_and_restored_byte_for_byte(ground: Ground) -> None:
    personal = names.personal_claim("ada")
    await ground.make_space("ocean", "team", personal)
    source = await ground.volume("ocean")
    fill(source)
    (await ground.volume("ocean", personal) / "notes").write_text("mine")
    before = tree_of(source)
    status = await ground.archives.status("ocean")
    assert status is not None
    assert [(v.claim, v.kind, v.is_bound) for v in status.volumes] == [
        ("team", "team", True),
        (personal, "personal", True),
    ]
    await ground.finish("ocean", ground.order("ocean"), ground.order("ocean", personal))
    kept = await ground.service.archives.find(names.archive_id("ocean", "team", 7))
    assert kept is not None
    assert kept.missed == 0
    assert tree_of(source) == before, "copying changes nothing"

    await ground.make_space("river")
    await ground.finish("river", ground.order("ocean", what=RESTORE))
    assert tree_of(await ground.volume("river")) == before


async def test_a_job_whose_pod_is_killed_tries_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.make_space("ocean")
    (await ground.volume("ocean") / "big").write_bytes(os.urandom(3_000_000))
    arrived, go_on = asyncio.Event(), asyncio.Event()
    real = ground.service.archives.begin

    async def begin(archive: str) -> Any:
        if not arrived.is_set():
            arrived.set()
            await go_on.wait()
        return await real(archive)

    monkeypatch.setattr(ground.service.archives, "begin", begin)
    await ground.archives.start("ocean", [ground.order("ocean")])
    await arrived.wait()
    [pod] = await ground.kube.list(k.POD, namespace="team-ocean")
    await ground.kube.delete(k.POD, pod["metadata"]["name"], namespace="team-ocean", grace_s=0)
    go_on.set()
    await ground.finish("ocean", ground.order("ocean"))
    kept = await ground.service.archives.find(names.archive_id("ocean", "team", 7))
    assert kept is not None
    assert kept.size > 3_000_000


async def test_a_job_with_a_wrong_token_fails_and_is_made_anew(ground: Ground) -> None:
    await ground.make_space("ocean")
    order, token = ground.order("ocean")

    async def has_failed() -> bool:
        status = await ground.archives.status("ocean")
        assert status is not None
        return [job.state for job in status.jobs] == [JobState.FAILED]

    await ground.archives.start("ocean", [(order, "w" * 64)])
    await until(has_failed)
    assert await ground.service.archives.find(order.archive) is None
    status = await ground.archives.start("ocean", [(order, token)])
    assert status is not None

    async def is_away() -> bool:
        found = await ground.kube.list(k.SECRET, namespace="team-ocean")
        return not [s for s in found if s["metadata"]["name"] == order.name]

    await until(is_away)
    await ground.finish("ocean", (order, token))
    assert await ground.service.archives.find(order.archive) is not None


async def test_asking_twice_makes_one_job_and_few_run_at_once(ground: Ground) -> None:
    claims = ["team", *(names.personal_claim(f"user-{n}") for n in range(4))]
    await ground.make_space("ocean", *claims)
    orders = [ground.order("ocean", claim) for claim in claims]
    first, second = await asyncio.gather(
        ground.archives.start("ocean", orders), ground.archives.start("ocean", orders)
    )
    assert first is not None
    assert second is not None
    assert len(await ground.kube.list(k.JOB, namespace="team-ocean")) <= 4
    await ground.finish("ocean", *orders)
    assert len(await ground.kube.list(k.JOB, namespace="team-ocean")) == len(claims)


async def test_a_team_of_many_volumes_fits_into_a_small_quota(ground: Ground) -> None:
    """Each Job has a Secret, and both count for as long as they are there."""
    claims = ["team", *(names.personal_claim(f"user-{n}") for n in range(6))]
    await ground.make_space("ocean", *claims)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team", "namespace": "team-ocean"},
        "spec": {"hard": {"count/secrets": "4", "count/jobs.batch": "4"}},
    }
    await ground.kube.create(quota)
    orders = {order.archive: (order, token) for order, token in map(ground.of_ocean, claims)}

    async def all_kept() -> bool:
        status = await ground.archives.status("ocean")
        assert status is not None
        ended = [job.archive for job in status.jobs if job.state is JobState.DONE]
        missing = [orders[a] for a in orders if await ground.service.archives.find(a) is None]
        await ground.archives.start("ocean", missing, ended=ended)
        return not missing and not status.jobs

    await until(all_kept)

    async def no_secrets() -> bool:
        return not await ground.kube.list(k.SECRET, namespace="team-ocean")

    await until(no_secrets)


async def test_a_job_that_brought_back_goes_when_something_else_is_asked_for(
    ground: Ground,
) -> None:
    """Its Secret counts among those that the team's servers need."""
    claim = names.personal_claim("ada")
    await ground.make_space("ocean", "team", claim)
    await ground.finish("ocean", ground.order("ocean"))
    first = ground.order("ocean", what=RESTORE)
    other = ground.order("ocean", what=RESTORE, into=claim)
    await ground.finish("ocean", first)

    async def jobs_of(*wanted: tuple[ArchiveOrder, str], after_s: float = 0.0) -> set[str]:
        at = datetime.now(timezone.utc) + timedelta(seconds=after_s)
        archives = TeamArchives(ground.kube, ground.platform, now=lambda: at)
        status = await archives.start("ocean", wanted)
        assert status is not None
        return {f"{job.work} {job.claim}" for job in status.jobs}

    everything = {"save team", "restore team", f"restore {claim}"}
    assert await jobs_of(other) == everything, "whoever waits for the first learns of it"
    await ground.finish("ocean", other)
    assert await jobs_of(first, other, after_s=61.0) == everything, "asking again asks for the same"
    await jobs_of(other, after_s=61.0)

    async def is_gone() -> bool:
        secrets = await ground.kube.list(k.SECRET, namespace="team-ocean")
        return first[0].name not in {secret["metadata"]["name"] for secret in secrets}

    await until(is_gone)
    assert await jobs_of(other) == everything - {"restore team"}


async def test_a_job_that_runs_stays_though_it_is_said_to_have_ended(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.make_space("ocean")
    arrived, go_on = asyncio.Event(), asyncio.Event()
    real = ground.service.archives.begin

    async def begin(archive: str) -> Any:
        arrived.set()
        await go_on.wait()
        return await real(archive)

    monkeypatch.setattr(ground.service.archives, "begin", begin)
    order, token = ground.order("ocean")
    await ground.archives.start("ocean", [(order, token)])
    await arrived.wait()
    status = await ground.archives.start("ocean", [], ended=[order.archive])
    assert status is not None
    assert [job.state for job in status.jobs] == [JobState.RUNNING]
    go_on.set()
    await ground.finish("ocean", (order, token))


async def test_so_many_jobs_run_at_once_in_the_whole_cluster(ground: Ground) -> None:
    archives = TeamArchives(ground.kube, ground.platform, at_once_in_all=1, clock=lambda: 0.0)
    await ground.make_space("ocean")
    await ground.make_space("river")
    first = await archives.start("ocean", [ground.order("ocean")])
    second = await archives.start("river", [ground.order("river")])
    assert first is not None
    assert second is not None
    assert (first.is_full, len(first.jobs)) == (False, 1)
    assert (second.is_full, second.jobs) == (True, ())
    await ground.finish("ocean", ground.order("ocean"))
    later = TeamArchives(ground.kube, ground.platform, at_once_in_all=1)
    found = await later.start("river", [ground.order("river")])
    assert found is not None
    assert (found.is_full, len(found.jobs)) == (False, 1)


async def test_what_cannot_be_is_said(ground: Ground) -> None:
    assert await ground.archives.status("nobody") is None
    assert await ground.archives.start("nobody", [ground.order("nobody")]) is None
    await ground.make_space("ocean")
    with pytest.raises(UserError, match="no volume"):
        await ground.archives.start("ocean", [ground.order("ocean", names.personal_claim("x"))])
    closed = TeamArchives(ground.kube, make_platform(1, archive_image=None))
    with pytest.raises(UserError, match="no archive_image"):
        await closed.start("ocean", [ground.order("ocean")])
    status = await closed.status("ocean")
    assert status is not None
    assert "no archive_image" in status.refused
    await ground.make_space("foreign", hub="another")
    with pytest.raises(NotOursError):
        await ground.archives.start("foreign", [ground.order("foreign")])
    assert await ground.kube.list(k.JOB) == []


async def test_a_secret_holds_the_token_and_the_job_does_not(ground: Ground) -> None:
    await ground.make_space("ocean")
    order, token = ground.order("ocean")
    await ground.archives.start("ocean", [(order, token)])
    job = await ground.kube.get(k.JOB, order.name, "team-ocean")
    assert token not in str(job)
    assert token not in repr(replace(order))


async def test_what_a_host_brings_back_is_there_byte_for_byte(ground: Ground) -> None:
    """As the contests service does it: the registry's copy, its own token, and the log first."""
    await ground.make_space("ocean")
    fill(await ground.volume("ocean"))
    before = tree_of(await ground.volume("ocean"))
    await ground.finish("ocean", ground.order("ocean"))
    keeper, store = ground.service.archives, ground.service.store
    archive = names.archive_id("ocean", "team", 7)
    kept = await keeper.find(archive)
    assert kept is not None
    await store.put_archive(keeper.to_record(kept, team="ocean", volume="team"))
    await ground.make_space("river")
    (await ground.volume("river") / "work").write_text("in progress")

    class Provisioner:
        """What the provisioner's REST API does, without HTTP."""

        async def restore(self, team: str, entries: list[dict[str, str]]) -> dict[str, Any]:
            orders = [
                (
                    ArchiveOrder(ArchiveWork.RESTORE, e["volume"], e["archive"], e["path"]),
                    e["token"],
                )
                for e in entries
            ]
            status = await ground.archives.start(team, orders)
            assert status is not None
            return status.to_wire()

    provisioner: Any = Provisioner()
    told = ground.service.recorder
    restores = ContestRestores(keeper, store, provisioner, told, now=lambda: ground.service.now[0])
    river = await store.team("river")
    assert river is not None

    async def is_done() -> bool:
        found = await restores.restore(archive, river, volume=None, by="hanna")
        return [job["state"] for job in found["jobs"]] == ["done"]

    await until(is_done)
    root = await ground.volume("river")
    assert (root / "work").read_text() == "in progress"
    [folder] = [p for p in root.iterdir() if p.name.startswith("restored-")]
    assert tree_of(folder) == before
    event = next(e for e in told.events if e.reason == "archive-restore")
    assert (event.contest, event.team, event.thing) == ("sea", "river", archive)
    assert event.actor is not None
    assert event.actor.name == "hanna"
    told.refuse = AuditUnavailableError()
    with pytest.raises(AuditUnavailableError):
        await restores.restore(archive, river, volume=None, by="hanna")


async def test_a_secret_that_is_there_is_not_asked_for_again(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quota of a real cluster is charged for it each time, until it refuses what is needed."""
    made: list[str] = []
    create = ground.kube.create

    async def count(manifest: Manifest, **more: Any) -> Manifest:
        made.append(manifest["kind"])
        return await create(manifest, **more)

    monkeypatch.setattr(ground.kube, "create", count)
    await ground.make_space("ocean")
    order = ground.order("ocean")
    for most, archives in enumerate((ground.archives, ground.archives), 1):  # it is started again
        for _ in range(5):
            await archives.start("ocean", [order])
        assert 1 <= made.count("Secret") <= most
    assert made.count("Job") == 1


async def test_leftovers_are_found_and_anothers_are_not(ground: Ground) -> None:
    leftovers = Leftovers(ground.kube, ground.platform)
    assert (await leftovers.find("sea", ["ocean"])).leftovers == ()
    await ground.make_space("ocean")
    await ground.make_space("foreign", hub="another")
    await ground.make_space("lake", contest="lakes")
    found = {(f.kind, f.name) for f in (await leftovers.find("sea", ["ocean"])).leftovers}
    assert ("Namespace", "team-ocean") in found
    assert ("PersistentVolumeClaim", "team") in found
    [volume] = [
        f
        for f in (await leftovers.find("sea", ["ocean"])).leftovers
        if f.kind == "PersistentVolume"
    ]
    assert volume.team == "ocean"
    assert "keeps what is in it" in volume.why
    assert {f.namespace for f in (await leftovers.find("sea")).leftovers} <= {"", "team-ocean"}


async def test_an_orphan_planted_by_hand_is_found(ground: Ground) -> None:
    leftovers = Leftovers(ground.kube, ground.platform)
    orphan = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {
            "name": "orphan",
            "namespace": "default",
            "labels": {LABEL_CONTEST: "sea"},
        },
        "spec": {"hard": {"pods": "1000"}},
    }
    await ground.kube.create(orphan)
    try:
        [found] = (await leftovers.find("sea")).leftovers
        assert (found.kind, found.namespace, found.name) == ("ResourceQuota", "default", "orphan")
    finally:
        await ground.kube.delete(k.RESOURCE_QUOTA, "orphan", namespace="default")
    assert (await leftovers.find("sea")).leftovers == ()
