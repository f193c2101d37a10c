"""What the provisioner asks when nothing is to be done, counted: nothing grows but by pages."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyterhub_collab import factory, tenancy_factory
from jupyterhub_collab.constants import LABEL_HUB, LABEL_MANAGED_BY, MANAGED_BY
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.informer import label_selector
from jupyterhub_collab.managers.tenancy import TenancySettings
from tests.cluster.cluster import Cluster
from tests.services.running import CONTEST, make_platform, prepare_cluster, team
from tests.services.stub_hub import StubHub

pytestmark = pytest.mark.api

TEAMS = 12
OTHERS = 400  # groups that are no team's: they cost a place in a page, no more
PAGE = 5
KINDS = (
    kinds.NAMESPACE,
    kinds.RESOURCE_QUOTA,
    kinds.LIMIT_RANGE,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE_BINDING,
    kinds.PERSISTENT_VOLUME_CLAIM,
    kinds.PERSISTENT_VOLUME,
)


async def until(check: Callable[[], bool]) -> None:
    async def look() -> None:
        while not check():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.02)

    await asyncio.wait_for(look(), 60)


async def test_at_rest_nothing_is_asked_and_a_start_takes_one_list_a_kind(
    api_cluster: Cluster, tmp_path: Path
) -> None:
    platform = make_platform("atrest")
    kubeconfig = prepare_cluster(api_cluster, platform, tmp_path)
    asked: Counter[tuple[str, str]] = Counter()

    def count(verb: str, kind: str, _status: int) -> None:
        asked[verb, kind] += 1

    hub = StubHub()
    others = {f"Other {number}": {} for number in range(OTHERS)}
    teams = {f"rest{number:02}": team() for number in range(TEAMS)}
    hub.publish({"contest.reef": {"collab": CONTEST}, **teams, **others})
    async with (
        hub.running(),
        await tenancy_factory.make_kube_client(kubeconfig, on_request=count) as kube,
        factory.make_hub_client(hub.api_url, "token") as groups,
    ):
        tenancy = tenancy_factory.make_tenancy(
            kube,
            groups,
            platform,
            settings=TenancySettings(poll_s=0.1),
            informer_options={"page_size": PAGE},
        )

        def all_ready() -> bool:
            found = tenancy.manager.statuses()
            return len(found) == TEAMS and all(status.is_ready for status in found)

        first = asyncio.create_task(tenancy.manager.run())
        await until(all_ready)
        # The cluster's controllers have a last word on some objects: till they are silent.
        before = None
        while before != asked:
            before = asked.copy()
            await asyncio.sleep(0.5)
        assert asked["apply", "Namespace"] == TEAMS
        assert asked["apply", "RoleBinding"] == TEAMS, "made with the ready mark"
        pages = hub.pages
        await until(lambda: hub.pages >= pages + 9)
        assert asked == before, "passes without drift ask nothing"
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

        # Of these all are read, whoever's: somebody else's policy may be a hole in a team's walls,
        # and a namespace of a team's name without our labels stands all the same. Other tests'
        # may come or go meanwhile.
        everybodys = (kinds.NETWORK_POLICY, kinds.NAMESPACE)
        earlier = {kind.name: len(await kube.list(kind)) for kind in everybodys}

        # The lease comes back, or a process starts: what is there is read once.
        asked.clear()
        second = asyncio.create_task(tenancy.manager.run())
        await until(lambda: tenancy.manager.is_ready)
        a_poll = math.ceil((TEAMS + OTHERS + 1) / 200)
        pages = hub.pages
        await until(lambda: hub.pages >= pages + 3 * a_poll)
        lists = {kind: n for (verb, kind), n in asked.items() if verb == "list"}
        rest = {key: n for key, n in asked.items() if key[0] not in ("list", "watch")}
        assert rest == {}, "nothing is written, nothing is read one by one"
        assert all_ready()
        # All that bears the hub's labels, its own accounts and bindings among them.
        ours = label_selector({LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id})
        there = {kind.name: len(await kube.list(kind, label_selector=ours)) for kind in KINDS}
        assert there["Namespace"] == TEAMS
        for kind in everybodys:
            there[kind.name] = len(await kube.list(kind))
        # Names of teams have routes of one of these kinds; what an earlier setting left is found.
        there |= {kinds.INGRESS.name: 0, kinds.HTTP_ROUTE.name: 0}
        assert lists.keys() == there.keys()
        for name, n in there.items():
            few, many = sorted((n, earlier.get(name, n)))
            # A page that ends with the last one does not tell so: an empty one may follow.
            assert max(1, math.ceil(few / PAGE)) <= lists[name] <= many // PAGE + 1, name
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)


async def test_hub_groups_are_read_in_one_page_for_two_hundred() -> None:
    hub = StubHub()
    hub.publish({f"g{number}": {} for number in range(1000)})
    async with hub.running(), factory.make_hub_client(hub.api_url, "token") as groups:
        assert len(await groups.list_groups()) == 1000
    assert hub.pages == 5
