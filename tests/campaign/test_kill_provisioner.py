"""kill -9 of the provisioner in the middle of provisioning fifty teams, again and again.

All fifty end ready, nothing is made twice, nothing is lost, nothing is deleted. Run by
``make campaign``.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Callable

import pytest

from jupyterhub_collab.constants import ANNOTATION_READY_HASH, LABEL_HUB
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.kube import kinds
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.informer import Change, Informer
from tests.cluster.cluster import Cluster
from tests.services.running import CONTEST, Provisioner, team

pytestmark = [pytest.mark.campaign, pytest.mark.api]

ROUNDS = 4
TEAMS = 50
KINDS = (
    kinds.NAMESPACE,
    kinds.NETWORK_POLICY,
    kinds.RESOURCE_QUOTA,
    kinds.LIMIT_RANGE,
    kinds.SERVICE_ACCOUNT,
    kinds.ROLE_BINDING,
    kinds.PERSISTENT_VOLUME_CLAIM,
)
OBJECTS_OF_A_TEAM = 9  # one of each kind, and three policies


class Ledger:
    """Every birth and death of an object of this hub, as the cluster tells it."""

    def __init__(self, kube: KubeClient, hub_id: str) -> None:
        self.births: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.deaths: list[tuple[str, str, str]] = []
        self._informers = [
            Informer(kube, kind, on_change=self._note, label_selector=f"{LABEL_HUB}={hub_id}")
            for kind in KINDS
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Ledger:
        self._tasks = [asyncio.create_task(informer.run()) for informer in self._informers]
        await asyncio.gather(*(informer.synced.wait() for informer in self._informers))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _note(self, change: Change) -> None:
        meta = change.obj["metadata"]
        key = (change.kind.name, meta.get("namespace", ""), meta["name"])
        if change.new is None:
            self.deaths.append(key)
        self.births[key].add(meta["uid"])

    def ready(self, prefix: str) -> int:
        """In how many of the namespaces that begin so the hub's rights bear the ready mark."""
        return sum(
            binding["metadata"]["namespace"].startswith(prefix)
            and ANNOTATION_READY_HASH in (binding["metadata"].get("annotations") or {})
            for informer in self._informers
            if informer.kind is kinds.ROLE_BINDING
            for binding in informer
        )


async def test_kill_9_in_the_middle_of_fifty_teams(
    make_provisioner: Callable[..., Provisioner], api_cluster: Cluster
) -> None:
    dice = random.Random(20270131)
    # Few places, so that the work lasts long enough to be killed in the middle of it.
    provisioner = make_provisioner(
        arguments=(
            "--ProvisionerApp.poll_seconds=0.5",
            "--ProvisionerApp.concurrency=3",
            "--ProvisionerApp.urgent_concurrency=1",
        )
    )
    platform = provisioner.platform
    kills = 0
    async with (
        HubClient(provisioner.hub.api_url, provisioner.hub.token) as hub,
        await KubeClient.from_kubeconfig(api_cluster.kubeconfig) as kube,
        Ledger(kube, platform.hub_id) as ledger,
    ):
        await hub.create_group("contest.reef")
        await hub.put_properties("contest.reef", {"collab": CONTEST})
        for number in range(ROUNDS):
            names = [f"r{number}-{i:02}" for i in range(TEAMS)]
            for name in names:
                await hub.create_group(name)
                await hub.put_properties(name, team())
            prefix = f"{platform.namespace_prefix}r{number}-"
            targets = sorted(dice.sample(range(2, TEAMS - 5), 4))
            began = time.monotonic()
            provisioner.start()
            for target in targets:
                while ledger.ready(prefix) < target:
                    assert time.monotonic() - began < 120, provisioner.log[-3000:]
                    await asyncio.sleep(0.001)
                await asyncio.sleep(dice.random() * 0.02)  # anywhere in a pass
                done = ledger.ready(prefix)
                provisioner.kill()
                kills += done < TEAMS
                await asyncio.to_thread(provisioner.start)
            while ledger.ready(prefix) < TEAMS:
                assert time.monotonic() - began < 120, provisioner.log[-3000:]
                await asyncio.sleep(0.01)
            provisioner.kill()
            print(f"round {number}: killed at {targets} of {TEAMS}, all ready")
        assert kills >= ROUNDS * 3, "most kills came too late to be in the middle"
        provisioner.start()
        provisioner.wait_healthy()
        for number in range(ROUNDS):
            for i in (0, TEAMS - 1):
                await asyncio.to_thread(provisioner.wait_state, f"r{number}-{i:02}", "ready")
        assert ledger.deaths == []
        twice = {key: uids for key, uids in ledger.births.items() if len(uids) > 1}
        assert twice == {}
        found = [key for key in ledger.births if key[0] != "ServiceAccount" or key[2] == "member"]
        in_teams = [k for k in found if (k[1] or k[2]).startswith(platform.namespace_prefix)]
        assert len(in_teams) == ROUNDS * TEAMS * OBJECTS_OF_A_TEAM
