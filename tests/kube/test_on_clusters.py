"""What the engine takes for granted of an API server, on the real one and the embedded one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.errors import KubeError
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.errors import ConflictError, NotFoundError, PermanentKubeError
from jupyterhub_collab.kube.informer import Change, Informer
from jupyterhub_collab.kube.lease import Lease
from tests.cluster.cluster import Cluster
from tests.contract.clusters import embedded_cluster


@pytest.fixture(scope="module")
def embedded_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with embedded_cluster(tmp_path_factory.mktemp("embedded"), with_node=False) as cluster:
        yield cluster.kubeconfig


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.api)])
async def kube(request: pytest.FixtureRequest) -> AsyncIterator[KubeClient]:
    """A client of each."""
    if request.param == "real":
        kubeconfig = request.getfixturevalue("api_cluster").kubeconfig
    else:
        kubeconfig = request.getfixturevalue("embedded_kubeconfig")
    async with await KubeClient.from_kubeconfig(kubeconfig) as client:
        yield client


def make_namespace(**labels: str) -> dict[str, Any]:
    name = f"kube-client-{uuid.uuid4().hex[:8]}"
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
    }


async def test_an_apply_that_only_creates_never_adopts(kube: KubeClient) -> None:
    manifest = make_namespace(owner="somebody-else")
    name = manifest["metadata"]["name"]
    theirs = await kube.create(manifest)
    ours = {**manifest, "metadata": {"name": name, "labels": {"owner": "us"}}}
    with pytest.raises(ConflictError):
        await kube.apply_new(ours)
    found = await kube.get(kinds.NAMESPACE, name)
    assert found["metadata"]["labels"] == theirs["metadata"]["labels"]
    assert found["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


async def test_what_it_creates_is_ours_field_by_field(kube: KubeClient) -> None:
    """So a later apply takes away what is no longer wanted, which it would not after a POST."""
    manifest = make_namespace(a="1", b="2")
    made = await kube.apply_new(manifest)
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    fewer = {**manifest, "metadata": {"name": name, "labels": {"a": "1"}}}
    again = await kube.apply(fewer, uid=uid)
    assert "b" not in again["metadata"]["labels"]
    same = await kube.apply(fewer, uid=uid)
    assert same["metadata"]["resourceVersion"] == again["metadata"]["resourceVersion"]


async def test_an_apply_for_one_object_never_hits_another(kube: KubeClient) -> None:
    manifest = make_namespace(a="1")
    made = await kube.apply_new(manifest)
    old = made["metadata"]["resourceVersion"]
    changed = await kube.apply(
        {**manifest, "metadata": {**manifest["metadata"], "labels": {"a": "2"}}},
        uid=made["metadata"]["uid"],
        resource_version=old,
    )
    assert changed["metadata"]["labels"]["a"] == "2"
    for insist in (
        {"uid": "00000000-0000-0000-0000-000000000000"},
        {"uid": made["metadata"]["uid"], "resource_version": old},
    ):
        with pytest.raises(ConflictError):
            await kube.apply(manifest, **insist)
    missing = make_namespace()
    with pytest.raises(ConflictError):
        await kube.apply(missing, uid=made["metadata"]["uid"])
    with pytest.raises(NotFoundError):
        await kube.get(kinds.NAMESPACE, missing["metadata"]["name"])


@pytest.mark.api
async def test_an_apply_refuses_a_misspelt_field_without_being_told_to(
    api_cluster: Cluster,
) -> None:
    """So nothing is lost by `fieldValidation=Ignore`."""
    async with await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as kube:
        manifest = make_namespace()
        with pytest.raises(KubeError, match="field not declared in schema"):
            await kube.apply_new({**manifest, "spec": {"finaliser": []}})
        with pytest.raises(NotFoundError):
            await kube.get(kinds.NAMESPACE, manifest["metadata"]["name"])


@pytest.mark.api
async def test_the_api_server_writes_lines_that_can_be_told_unparsed(api_cluster: Cluster) -> None:
    """Uid and version stand side by side, and early, in what it tells of every kind."""
    asked: set[tuple[str, str]] = set()

    def is_known(uid: str, version: str) -> bool:
        asked.add((uid, version))
        return True

    async with await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as kube:
        page = await kube.list_page(kinds.NAMESPACE)
        made = await kube.apply_new(make_namespace(a="1"))
        meta = made["metadata"]
        where: dict[str, Any] = {"resource_version": page.resource_version, "is_known": is_known}

        async def follow() -> None:
            async for event in kube.watch(kinds.NAMESPACE, **where):
                assert event.type == "BOOKMARK"
                if (meta["uid"], meta["resourceVersion"]) in asked:
                    return

        await asyncio.wait_for(follow(), 10)


async def test_two_managers_keep_their_own_annotations(kube: KubeClient) -> None:
    """The mark of a told portal outlives every apply of the namespace."""
    manifest = make_namespace(a="1")
    made = await kube.apply_new(manifest)
    name, uid = made["metadata"]["name"], made["metadata"]["uid"]
    mark = {**manifest, "metadata": {"name": name, "annotations": {"told": "yes"}}}
    await kube.apply(mark, field_manager="another", uid=uid)
    ready = {**manifest["metadata"], "annotations": {"ready": "x"}}
    found = await kube.apply({**manifest, "metadata": ready}, uid=uid)
    assert found["metadata"]["annotations"] == {"told": "yes", "ready": "x"}
    found = await kube.apply(manifest, uid=uid)
    assert found["metadata"]["annotations"] == {"told": "yes"}


async def test_deletion_insists_on_what_was_seen(kube: KubeClient) -> None:
    space = (await kube.apply_new(make_namespace()))["metadata"]["name"]
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "x", "namespace": space},
        "data": {"a": "1"},
    }
    made = await kube.apply_new(manifest)
    meta = made["metadata"]
    await kube.apply({**manifest, "data": {"a": "2"}}, uid=meta["uid"])
    seen = {"uid": meta["uid"], "resource_version": meta["resourceVersion"]}
    with pytest.raises(ConflictError):
        await kube.delete(kinds.CONFIG_MAP, "x", namespace=space, **seen)
    await kube.delete(kinds.CONFIG_MAP, "x", namespace=space, uid=meta["uid"])
    with pytest.raises(NotFoundError):
        await kube.delete(kinds.CONFIG_MAP, "x", namespace=space)


async def test_an_informer_pages_and_watches(kube: KubeClient) -> None:
    label = uuid.uuid4().hex[:8]
    for _ in range(5):
        await kube.apply_new(make_namespace(run=label))
    changes: list[Change] = []
    arrived = asyncio.Event()

    def note(change: Change) -> None:
        changes.append(change)
        if len(changes) >= 6:
            arrived.set()

    informer = Informer(
        kube, kinds.NAMESPACE, on_change=note, label_selector=f"run={label}", page_size=2
    )
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced.wait(), 10)
        assert len(informer) == 5
        await kube.create(make_namespace(run=label))
        await asyncio.wait_for(arrived.wait(), 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert len(informer) == 6
    assert "managedFields" not in next(iter(informer))["metadata"]


async def test_a_lease_is_held_by_one(kube: KubeClient) -> None:
    space = (await kube.apply_new(make_namespace()))["metadata"]["name"]
    first = Lease(kube, "l", space, identity="first")
    second = Lease(kube, "l", space, identity="second")
    await first.acquire()
    assert not await second._try()
    assert second.holder == "first"
    await first.release()
    assert await second._try()


async def test_what_is_not_valid_is_refused_for_good(kube: KubeClient) -> None:
    manifest = make_namespace()
    manifest["metadata"]["name"] = "Not_Valid"
    with pytest.raises(PermanentKubeError):
        await kube.apply_new(manifest)
