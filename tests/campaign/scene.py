"""A hub and a provisioner on a real API server, each behind a fault proxy; and what must not be
lost while they suffer.

There is no node: a hand plays the kubelet, and for each pod something answers at an address of its
own, for as long as the pod is there (`pods_by_hand`). Hub, proxies and provisioner are what they
are in production, under the roles that we ship.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from jupyterhub_collab import constants, names
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.campaign.pods_by_hand import Hand, Served
from tests.cluster.cluster import Cluster
from tests.hub.provisioned import provisioned
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, own_platform
from tests.services.fault_proxy import ProxyThread, kubeconfig_for, proxy_in_thread
from tests.services.running import READER_TOKEN, Provisioner, prepare_cluster

TEAMS: Final = tuple(f"t{number}" for number in range(6))
SERVERS: Final = 4  # of the first teams' members
OURS: Final = "networkpolicy,resourcequota,limitrange,serviceaccount,rolebinding,pvc"
#: A contest with room for many starts in each team.
_TIERS: Final = {"small": {**CONTEST["tiers"]["small"], "cpu": "4", "memory": "8Gi", "pods": 8}}
SEA: Final[dict[str, Any]] = {**CONTEST, "tiers": _TIERS}

Key = tuple[str, str, str]  # kind, namespace, name


def member(team: str) -> str:
    """The one member of a team."""
    return f"user-{team}"


@dataclass
class Scene:
    """All of it."""

    cluster: Cluster
    hub: RunningHub
    provisioner: Provisioner
    hub_proxy: ProxyThread
    provisioner_proxy: ProxyThread
    hand: Hand
    teams: list[str] = field(default_factory=list)

    @property
    def platform(self) -> Platform:
        return self.provisioner.platform

    @property
    def proxies(self) -> tuple[ProxyThread, ProxyThread]:
        return self.hub_proxy, self.provisioner_proxy

    def space(self, team: str) -> str:
        return names.namespace_of(team, prefix=self.platform.namespace_prefix)

    def add_team(self, team: str) -> None:
        self.hub.make_team(team, TEAM, member(team))
        self.teams.append(team)

    def is_ready(self, team: str) -> bool:
        answer = self.provisioner.request("GET", f"teams/{team}", token=READER_TOKEN)
        return answer.status_code == 200 and answer.json()["state"] == "ready"

    def has_server(self, team: str) -> bool:
        return bool(self.hub.server(member(team)).get("ready"))

    def ensure_server(self, team: str) -> bool:
        """Whether it runs; a start that was refused is asked for again."""
        found = self.hub.server(member(team))
        if not found.get("ready") and not found.get("pending"):
            self.hub.spawn(member(team))
        return bool(found.get("ready"))

    def pods(self) -> list[dict[str, Any]]:
        """Pods of this hub's servers."""
        selector = f"{constants.LABEL_HUB}={self.platform.hub_id}"
        return list(self.cluster.get("pods", "-A", "-l", selector)["items"])

    def secrets(self) -> list[dict[str, Any]]:
        """Secrets of this hub's servers."""
        selector = f"{constants.LABEL_HUB}={self.platform.hub_id}"
        return list(self.cluster.get("secrets", "-A", "-l", selector)["items"])

    def routes(self) -> dict[str, str]:
        """Member to the address at which the hub's proxy has their server."""
        table = self.hub.api("GET", "proxy?limit=200").json()
        return {
            spec.split("/")[2]: entry["target"]
            for spec, entry in table.items()
            if spec.startswith("/user/")
        }

    def census(self) -> Census:
        """What is there of ours now; not Secrets whose pod is gone, which are being collected."""
        uids: dict[Key, str] = {}
        found = self.cluster.get(f"{OURS},pods", "-A")["items"]
        pods = {item["metadata"]["uid"] for item in found if item["kind"] == "Pod"}
        found += [secret for secret in self.secrets() if owner_of(secret) in pods]
        found += self.cluster.get("namespaces")["items"]
        prefix = self.platform.namespace_prefix
        for item in found:
            meta = item["metadata"]
            labels = meta.get("labels") or {}
            if labels.get(constants.LABEL_HUB) == self.platform.hub_id:
                uids[item["kind"], meta.get("namespace", ""), meta["name"]] = meta["uid"]
        foreign = {
            (item["kind"], item["metadata"]["name"]): json.dumps(item)
            for item in self.cluster.get("configmaps", "-A", "-l", "somebody=else")["items"]
            if item["metadata"]["namespace"].startswith(prefix)
        }
        return Census(uids, foreign)


def owner_of(secret: dict[str, Any]) -> str:
    """Uid of the one object that owns a Secret."""
    (owner,) = secret["metadata"]["ownerReferences"]
    return str(owner["uid"])


@dataclass(frozen=True)
class Census:
    """Uids of all objects of ours, and foreign objects as they are."""

    uids: dict[Key, str]
    foreign: dict[tuple[str, str], str]

    def of(self, kind: str) -> dict[Key, str]:
        return {key: uid for key, uid in self.uids.items() if key[0] == kind}


def assert_nothing_lost(
    scene: Scene,
    before: Census,
    *,
    made_anew: tuple[Key, ...] = (),
    gone: tuple[str, ...] = (),
) -> None:
    """What "nothing lost" means, item by item.

    Parameters
    ----------
    made_anew
        What the fault itself deleted.
    gone
        Namespaces that the fault itself deleted, with all in them.
    """
    after = scene.census()
    # All teams are ready, and each has its tenancy: all of it, nothing twice, nothing besides.
    for team in scene.teams:
        assert scene.is_ready(team), team
        spec = merge_team_spec(team, {"collab": TEAM}, {"collab": SEA})
        wanted = {
            (m["kind"], m["metadata"].get("namespace", ""), m["metadata"]["name"])
            for m in make_tenancy(spec, scene.platform)
        }
        space = scene.space(team)
        there = {
            key
            for key in after.uids
            if space in key[1:]
            and key[0] not in ("Pod", "Secret")
            and not key[2].startswith("personal-")
        }
        assert there == wanted, team
    # What stood before is the very same object: pods and volumes above all.
    for key, uid in before.uids.items():
        if key not in made_anew and not {key[1], key[2]} & set(gone):
            assert after.uids.get(key) == uid, f"{key} is not what it was"
    # Nobody's own was touched.
    assert after.foreign == before.foreign
    # The hub's rows and its proxy's routes match the pods, one to one.
    pods = scene.pods()
    running = {pod["metadata"]["annotations"][constants.ANNOTATION_USERNAME]: pod for pod in pods}
    assert len(running) == len(pods), "a member has two pods"
    rows = scene.hub.api("GET", "users?state=ready").json()
    assert {user["name"] for user in rows} == running.keys()
    routes = scene.routes()
    assert routes.keys() == running.keys()
    # Every server answers where its member is led to, and it is their very pod that does.
    for user, pod in running.items():
        answer = httpx.get(f"{routes[user]}/user/{user}/api")
        assert answer.status_code == 200, user
        assert answer.json() == Served.of(pod).to_wire()
    # Each pod has the one Secret that was made for it, and none is left of pods that are gone.
    owned = sorted(pod["metadata"]["uid"] for pod in pods)
    wait_until(lambda: sorted(map(owner_of, scene.secrets())) == owned, 30, scene)
    # Nothing runs where the walls are not up.
    for pod in pods:
        key = ("NetworkPolicy", pod["metadata"]["namespace"], constants.POLICY_DENY_ALL)
        assert key in after.uids, f"{key} is missing while a pod runs"


@contextmanager
def playing(cluster: Cluster, folder: Path) -> Iterator[Scene]:
    """The scene with its teams ready and the first members' servers running."""
    raw = own_platform("s")
    home = raw["hub_namespace"]
    with ExitStack() as stack:
        settings = Platform.model_validate(raw)
        provisioner_config = prepare_cluster(cluster, settings, folder)
        hub_config = cluster.service_account_kubeconfig(home, "hub", folder / "hub-kubeconfig")
        hub_proxy = stack.enter_context(proxy_in_thread(hub_config))
        provisioner_proxy = stack.enter_context(proxy_in_thread(provisioner_config))
        hand = Hand(cluster, settings)
        hand.start()
        stack.callback(hand.end)
        hub, provisioner = stack.enter_context(
            provisioned(
                folder,
                raw,
                hub_kubeconfig=kubeconfig_for(hub_proxy.proxy, folder / "hub-proxy"),
                provisioner_kubeconfig=kubeconfig_for(
                    provisioner_proxy.proxy, folder / "provisioner-proxy"
                ),
                more="c.Spawner.poll_interval = 2\nc.TeamSpawner.start_timeout = 120\n",
                poll_s=1,
                slow_spawn_timeout=0,
                readiness_timeout_s=60,
            )
        )
        scene = Scene(cluster, hub, provisioner, hub_proxy, provisioner_proxy, hand)
        hub.make_contest("sea", SEA)
        for team in TEAMS:
            scene.add_team(team)
        wait_until(lambda: all(scene.is_ready(team) for team in TEAMS), 60, scene)
        for team in TEAMS[:SERVERS]:
            hub.spawn(member(team))
        wait_until(lambda: all(scene.has_server(team) for team in TEAMS[:SERVERS]), 60, scene)
        foreign = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "theirs",
                "namespace": scene.space(TEAMS[0]),
                "labels": {"somebody": "else"},
            },
        }
        cluster.apply(foreign)
        yield scene


def wait_until(is_so: Callable[[], Any], timeout_s: float, scene: Scene | None = None) -> float:
    """Wait for what other processes will do; returns the seconds it took."""
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > timeout_s:
            logs = "" if scene is None else scene.hub.log[-4000:] + scene.provisioner.log[-4000:]
            raise AssertionError(f"not within {timeout_s:.0f} s\n{logs}")
        time.sleep(0.1)
    return time.monotonic() - began
