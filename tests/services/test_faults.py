"""Faults at every step of provisioning, on a real API server behind a proxy that does harm."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab import tenancy_factory
from jupyterhub_collab.constants import POLICY_DENY_ALL
from jupyterhub_collab.hubapi.client import GroupPage
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.errors import NotFoundError
from jupyterhub_collab.managers.tenancy import TenancyManager, TenancySettings
from jupyterhub_collab.models import HubGroup, Platform
from jupyterhub_collab.reconcile.backoff import Backoff
from tests.cluster.cluster import Cluster
from tests.services.fault_proxy import FaultProxy, Harm, Seen
from tests.services.running import CONTEST, make_platform, prepare_cluster, team

pytestmark = pytest.mark.api

# namespace, three policies, quota, limits, account, claim; then the binding with the ready mark
STEPS = 9


class Groups:
    """The hub's groups, as the test says."""

    def __init__(self, names: list[str]) -> None:
        self.groups = {name: HubGroup(name, team(), ()) for name in names}
        self.groups["contest.reef"] = HubGroup("contest.reef", {"collab": CONTEST}, ())

    async def list_groups(self) -> Mapping[str, HubGroup]:
        return dict(self.groups)

    async def read_group(self, name: str) -> HubGroup | None:
        return self.groups.get(name)

    async def read_page(self, offset: int, limit: int) -> GroupPage:
        items = list(self.groups.values())[offset : offset + limit]
        return GroupPage(tuple(items), len(self.groups), None)


@pytest.fixture(scope="module")
def ground(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Platform, Path]:
    """A hub's platform, and the kubeconfig of its provisioner."""
    platform = make_platform("faults")
    return platform, prepare_cluster(api_cluster, platform, tmp_path_factory.mktemp("faults"))


@asynccontextmanager
async def running(
    ground: tuple[Platform, Path],
    teams: list[str],
    decide: Callable[[Seen], Harm | None] = lambda _seen: None,
    **informer_options: Any,
) -> AsyncIterator[tuple[TenancyManager, FaultProxy]]:
    """A tenancy manager that talks through a proxy."""
    platform, kubeconfig = ground
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(kubeconfig, decide))
        # A request that nobody answers is given up soon.
        client = KubeClient(proxy.configuration(), timeout_s=3)
        kube = await stack.enter_async_context(client)
        tenancy = tenancy_factory.make_tenancy(
            kube,
            Groups(teams),
            platform,
            settings=TenancySettings(poll_s=0.5, backoff=Backoff(0.02, 0.5)),
            informer_options=informer_options,
        )
        task = asyncio.create_task(tenancy.manager.run())
        try:
            yield tenancy.manager, proxy
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await proxy.cut_watches()


async def until(check: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = asyncio.get_running_loop().time() + timeout_s
    while not check():
        assert asyncio.get_running_loop().time() < end, "it never came to that"
        await asyncio.sleep(0.01)


def all_ready(manager: TenancyManager, teams: list[str]) -> bool:
    found = {name: manager.status(name) for name in teams}
    return all(status is not None and status.is_ready for status in found.values())


async def test_every_harm_at_every_step(
    ground: tuple[Platform, Path], api_cluster: Cluster
) -> None:
    """One team for each pair of a step and a harm; all end ready, nothing is made twice."""
    prefix = ground[0].namespace_prefix
    # A quota refuses volumes and pods alone; see the campaign.
    pairs = [(step, h) for h in Harm if h is not Harm.QUOTA for step in range(STEPS)]
    harms = {f"{h.name.lower().replace('_', '-')}-{step}": (step, h) for step, h in pairs}
    counts: dict[str, int] = defaultdict(int)

    def decide(seen: Seen) -> Harm | None:
        name = seen.namespace.removeprefix(prefix)
        if seen.method == "GET" or name not in harms:
            return None
        step, harm = harms[name]
        counts[name] += 1
        return harm if counts[name] == step + 1 else None

    async with running(ground, list(harms), decide) as (manager, proxy):
        await until(lambda: all_ready(manager, list(harms)), 60)
        hurt = {s.namespace.removeprefix(prefix): s for s in proxy.seen if s.harm is not None}
        assert set(hurt) == set(harms), "a harm was never done"
        for name, seen in hurt.items():
            _, harm = harms[name]
            writes = proxy.writes(prefix + name)
            # One write more than without harm: the one that was harmed. None was lost or doubled.
            was_done = harm in (Harm.LOST, Harm.PARTIAL, Harm.SLOW)
            repeats = 0 if was_done and len(writes) == STEPS else 1
            assert len(writes) == STEPS + repeats, (name, [w.path for w in writes])
            if harm is Harm.SLOW:
                assert repeats == 0, name
            if harm in (Harm.BUSY, Harm.BUSY_UNTIL):
                after = [w for w in writes if w.at > seen.at]
                assert min(w.at for w in after) - seen.at >= proxy.retry_after_s
    found = api_cluster.get("networkpolicy", "-A")["items"]
    mine = [item for item in found if item["metadata"]["namespace"].startswith(prefix)]
    assert len(mine) == 3 * len(harms)


async def test_a_watch_that_fell_behind_lists_anew_and_sees_what_it_missed(
    ground: tuple[Platform, Path], api_cluster: Cluster
) -> None:
    space = ground[0].namespace_prefix + "behind"
    async with running(ground, ["behind"]) as (manager, proxy):
        await until(lambda: all_ready(manager, ["behind"]))
        proxy.silence_watches()
        uid = api_cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", space)["metadata"]["uid"]
        api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
        lists = sum("networkpolicies" in s.path and s.method == "GET" for s in proxy.seen)
        await proxy.end_watches_with_410()
        async with await KubeClient.from_kubeconfig(ground[1]) as kube:
            await is_back(kube, space, uid)
        again = sum("networkpolicies" in s.path and s.method == "GET" for s in proxy.seen)
        assert again >= lists + 2  # a list and a watch
        assert all_ready(manager, ["behind"])


async def test_a_silent_watch_is_opened_anew_and_sees_what_it_missed(
    ground: tuple[Platform, Path], api_cluster: Cluster
) -> None:
    space = ground[0].namespace_prefix + "silent"
    async with running(ground, ["silent"], stall_s=1.0) as (manager, proxy):
        await until(lambda: all_ready(manager, ["silent"]))
        proxy.silence_watches()
        uid = api_cluster.get("networkpolicy", POLICY_DENY_ALL, "-n", space)["metadata"]["uid"]
        api_cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
        watches = len(proxy.seen)
        async with await KubeClient.from_kubeconfig(ground[1]) as kube:
            await is_back(kube, space, uid)
        assert len(proxy.seen) > watches


async def is_back(kube: KubeClient, space: str, uid: str) -> None:
    """Wait until the policy that denies all is there again."""
    end = asyncio.get_running_loop().time() + 10
    while True:
        try:
            found = await kube.get(kinds.NETWORK_POLICY, POLICY_DENY_ALL, space)
            if found["metadata"]["uid"] != uid:
                return
        except NotFoundError:
            pass
        assert asyncio.get_running_loop().time() < end, "it did not come back"
        await asyncio.sleep(0.01)


async def test_an_api_that_is_away_for_a_while_costs_nothing_but_the_while(
    ground: tuple[Platform, Path],
) -> None:
    teams = [f"patient-{i}" for i in range(8)]
    is_away = True

    def decide(seen: Seen) -> Harm | None:
        return Harm.AWAY if is_away and seen.method != "GET" else None

    def is_told(name: str) -> bool:
        status = manager.status(name)
        is_waiting = status is not None and status.state.value == "provisioning"
        return is_waiting and "503" in (status.last_error or "")

    async with running(ground, teams, decide) as (manager, proxy):
        await until(lambda: all(is_told(name) for name in teams))
        tries = len(proxy.seen)
        while len(proxy.seen) < tries + 20:  # also while the next pass is under way
            assert all(is_told(name) for name in teams)
            await asyncio.sleep(0.001)
        is_away = False
        await until(lambda: all_ready(manager, teams))


async def test_drift_is_healed_at_once_under_load(
    ground: tuple[Platform, Path], api_cluster: Cluster
) -> None:
    """While sixty teams are made, a policy deleted by hand is back within a second."""
    space = ground[0].namespace_prefix + "watched"
    async with running(ground, ["watched"]) as (manager, _):
        await until(lambda: all_ready(manager, ["watched"]))
        groups = manager._groups
        assert isinstance(groups, Groups)
        for i in range(60):
            groups.groups[f"load-{i}"] = HubGroup(f"load-{i}", team(), ())
        await until(lambda: manager.queue_length > 30)
        async with await KubeClient.from_kubeconfig(ground[1]) as kube:
            before = await kube.get(kinds.NETWORK_POLICY, POLICY_DENY_ALL, space)
            uid = before["metadata"]["uid"]
            # By an administrator (the provisioner may not), and without holding up this loop.
            deletion = ("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
            await asyncio.to_thread(api_cluster.kubectl, *deletion)
            began = asyncio.get_running_loop().time()
            await is_back(kube, space, uid)
            assert asyncio.get_running_loop().time() - began < 1.0
        assert manager.queue_length > 0, "the load was over: nothing was shown"
        await until(lambda: all_ready(manager, list(groups.groups)[2:]), 60)


async def test_two_at_once_do_each_other_no_harm(ground: tuple[Platform, Path]) -> None:
    """The lease forbids it; where it fails for a moment, the teams still end as they should."""
    teams = [f"twin-{i}" for i in range(10)]
    async with running(ground, teams) as (one, _), running(ground, teams) as (other, _):
        await until(lambda: all_ready(one, teams) and all_ready(other, teams))
        for manager in (one, other):
            for name in teams:
                assert manager.plan(name).steps == ()
