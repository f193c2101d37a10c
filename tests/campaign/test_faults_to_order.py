"""Faults to order, for hub and provisioner at once, while teams are made and servers start.

During each fault: a team is added and its member asks for a server, a policy of another team is
deleted by hand, and servers that ran go on running. When the fault is over everything has to be as
if it had not been, and nothing lost: see `assert_nothing_lost`.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from jupyterhub_collab.constants import POLICY_DENY_ALL, PROVISIONER_CLUSTER_ROLE
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.campaign.scene import (
    SEA,
    SERVERS,
    TEAMS,
    Scene,
    assert_nothing_lost,
    member,
    playing,
    wait_until,
)
from tests.cluster.cluster import Cluster
from tests.hub.following import Progress
from tests.hub.samples import TEAM
from tests.services.fault_proxy import Decide, Harm, Seen, all_down, no_harm
from tests.services.running import READER_TOKEN

#: Real minutes: long enough for every time-out, pause and lease to run out (15 s, 30 s, 60 s).
OUTAGE_S: Final = float(os.environ.get("CAMPAIGN_OUTAGE_S", "180"))
pytestmark = [pytest.mark.campaign, pytest.mark.api, pytest.mark.timeout(420 + OUTAGE_S)]
HEALED_S: Final = 120.0


@pytest.fixture(scope="module")
def scene(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with playing(api_cluster, tmp_path_factory.mktemp("scene")) as found:
        yield found


Fault = Callable[[Scene], "contextmanager[None]"]


@contextmanager
def decided(
    scene: Scene, decide: Callable[[], Decide], *, with_watches: bool = False
) -> Iterator[None]:
    """Both proxies do this harm."""
    for thread in scene.proxies:
        thread.proxy.harms_watches, thread.proxy.decide = with_watches, decide()
        if with_watches:
            thread.run(thread.proxy.cut_watches())
    try:
        yield
    finally:
        for thread in scene.proxies:
            thread.proxy.harms_watches, thread.proxy.decide = False, no_harm


def always(harm: Harm, *methods: str) -> Callable[[], Decide]:
    """Every request, of these methods if any are named."""
    return lambda: lambda seen: harm if not methods or seen.method in methods else None


def one_in(count: int, harm: Harm, *methods: str) -> Callable[[], Decide]:
    """Every so-manieth request."""

    def make() -> Decide:
        numbers = itertools.count(1)

        def decide(seen: Seen) -> Harm | None:
            if methods and seen.method not in methods:
                return None
            return harm if next(numbers) % count == 0 else None

        return decide

    return make


def bursts(*harms: Harm, length_s: float = 1.5) -> Callable[[], Decide]:
    """All is refused for a moment, then well for as long, then refused otherwise."""

    def make() -> Decide:
        began = time.monotonic()

        def decide(_seen: Seen) -> Harm | None:
            turn = int((time.monotonic() - began) / length_s)
            return harms[turn // 2 % len(harms)] if turn % 2 == 0 else None

        return decide

    return make


@contextmanager
def silent_watches(scene: Scene) -> Iterator[None]:
    """Connections stay, and nothing comes through them any more."""
    for thread in scene.proxies:
        thread.silence_watches()
    yield


@contextmanager
def fallen_behind(scene: Scene) -> Iterator[None]:
    """Silent for a while, then 410."""
    with silent_watches(scene):
        yield
    for thread in scene.proxies:
        thread.run(thread.proxy.end_watches_with_410())


@contextmanager
def cut_again_and_again(scene: Scene) -> Iterator[None]:
    """Every watch ends within a second, for as long as it lasts."""
    with decided(scene, lambda: _cut_watches(scene), with_watches=True):
        yield


def _cut_watches(scene: Scene) -> Decide:
    numbers = itertools.count()
    return lambda seen: Harm.CUT if seen.is_watch and next(numbers) % 2 == 0 else None


@contextmanager
def forbidden(scene: Scene) -> Iterator[None]:
    """The provisioner loses its rights, in the middle of its work."""
    name = f"{PROVISIONER_CLUSTER_ROLE}"
    bindings = scene.cluster.get("clusterrolebindings")["items"]
    account = scene.platform.hub_namespace
    mine = [
        b
        for b in bindings
        if b["roleRef"]["name"] == name
        and any(s.get("namespace") == account for s in b.get("subjects") or [])
    ]
    assert mine, f"no binding of {name}"
    for binding in mine:
        scene.cluster.kubectl("delete", "clusterrolebinding", binding["metadata"]["name"])
    try:
        yield
    finally:
        for binding in mine:
            meta = {"name": binding["metadata"]["name"], "labels": binding["metadata"]["labels"]}
            kept = {k: binding[k] for k in ("apiVersion", "kind", "roleRef", "subjects")}
            scene.cluster.apply({**kept, "metadata": meta})


@dataclass(frozen=True)
class Case:
    """A fault, and for how many seconds it lasts."""

    fault: Callable[[Scene], object]
    lasts_s: float = 6.0


def to_order(
    decide: Callable[[], Decide], *, with_watches: bool = False
) -> Callable[[Scene], object]:
    return lambda scene: decided(scene, decide, with_watches=with_watches)


def over_quota(seen: Seen) -> Harm | None:
    """The quota has no room for a volume or a pod."""
    is_write = seen.method in ("POST", "PATCH")
    counted = "persistentvolumeclaims" in seen.path or seen.path.endswith("/pods")
    return Harm.QUOTA if is_write and counted else None


CASES: Final = {
    "conflict-on-every-create": Case(to_order(always(Harm.CONFLICT, "POST", "PATCH"))),
    "busy": Case(to_order(always(Harm.BUSY))),
    "busy-until-a-date": Case(to_order(always(Harm.BUSY_UNTIL))),
    "gone": Case(to_order(always(Harm.GONE))),
    "bursts-of-500-and-503": Case(to_order(bursts(Harm.BROKEN, Harm.AWAY)), 9.0),
    "answers-lost-after-the-write": Case(to_order(one_in(2, Harm.LOST, "POST", "PATCH", "DELETE"))),
    "answers-broken-off": Case(to_order(one_in(3, Harm.PARTIAL))),
    "slow": Case(to_order(always(Harm.SLOW))),
    "requests-dropped": Case(to_order(one_in(4, Harm.DROPPED))),
    "connections-cut": Case(to_order(one_in(2, Harm.CUT), with_watches=True)),
    "watches-cut-again-and-again": Case(cut_again_and_again),
    "watches-fallen-behind": Case(fallen_behind, 3.0),
    "watches-silent": Case(silent_watches, 3.0),
    "no-room-in-the-quota": Case(to_order(lambda: over_quota)),
    "provisioner-without-rights": Case(forbidden),
    "api-away-for-minutes": Case(to_order(lambda: all_down, with_watches=True), OUTAGE_S),
}


@pytest.mark.parametrize("name", CASES)
def test_fault(scene: Scene, name: str, healed: Callable[[float], None]) -> None:
    case = CASES[name]
    before = scene.census()
    number = list(CASES).index(name)
    late, hurt = f"late{number}", TEAMS[number % len(TEAMS)]
    space = scene.space(hurt)
    with ExitStack() as stack:
        stack.enter_context(case.fault(scene))  # type: ignore[arg-type]
        scene.add_team(late)
        scene.hub.spawn(member(late))
        scene.cluster.kubectl("delete", "networkpolicy", POLICY_DENY_ALL, "-n", space)
        end = time.monotonic() + case.lasts_s
        while time.monotonic() < end:
            for team in TEAMS[:SERVERS]:
                assert scene.has_server(team), f"{team}'s server was given up"
            time.sleep(0.5)

    def policy_is_back() -> bool:
        found = scene.cluster.kubectl(
            "get", "networkpolicy", POLICY_DENY_ALL, "-n", space, check=False
        )
        return found.returncode == 0

    def all_stands() -> bool:
        return (
            policy_is_back()
            and all(scene.is_ready(team) for team in scene.teams)
            and scene.ensure_server(late)
        )

    healed(wait_until(all_stands, HEALED_S, scene))
    assert_nothing_lost(scene, before, made_anew=(("NetworkPolicy", space, POLICY_DENY_ALL),))
    scene.hub.stop_server(member(late))  # a stop goes through to the end too
    scene.hub.wait_stopped(member(late))
    wait_until(lambda: scene.space(late) not in str(scene.pods()), 30, scene)


def test_a_namespace_stuck_terminating_holds_nobody_else_up(
    scene: Scene, healed: Callable[[float], None]
) -> None:
    """Deleted by hand, and held by somebody's finalizer."""
    before = scene.census()
    stuck, fresh = TEAMS[-1], "fresh"
    space = scene.space(stuck)
    held = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "held", "namespace": space, "finalizers": ["example.org/held"]},
    }
    scene.cluster.apply(held)
    scene.cluster.kubectl("delete", "namespace", space, "--wait=false")

    def told() -> bool:
        answer = scene.provisioner.request("GET", f"teams/{stuck}", token=READER_TOKEN).json()
        return any("is being deleted" in c.get("message", "") for c in answer["conditions"])

    wait_until(told, 30, scene)
    scene.add_team(fresh)
    wait_until(lambda: scene.is_ready(fresh), 30, scene)
    scene.hub.spawn(member(stuck))
    Progress(scene.hub, member(stuck)).wait_for("is not ready yet")
    assert space not in str(scene.pods())  # the start goes on to wait, and makes no pod in there
    assert scene.hub.server(member(stuck))["pending"] == "spawn"
    patch = '{"metadata": {"finalizers": null}}'
    scene.cluster.kubectl("patch", "configmap", "held", "-n", space, "--type=merge", "-p", patch)
    healed(wait_until(lambda: scene.is_ready(stuck) and scene.ensure_server(stuck), 120, scene))
    assert_nothing_lost(scene, before, gone=(space,))


def killing(process: subprocess.Popen[bytes], space: str, step: int) -> Decide:
    """Kill the process at its write of this number in that namespace: carried out, or not."""
    writes = itertools.count()

    def decide(seen: Seen) -> Harm | None:
        if seen.namespace != space or seen.method == "GET" or next(writes) != step:
            return None
        process.kill()
        return Harm.CUT if step % 2 else None

    return decide


def test_killed_at_every_step_of_provisioning(
    scene: Scene, healed: Callable[[float], None]
) -> None:
    """The provisioner dies at its first write for a team, at its second, and so on."""
    before = scene.census()
    spec = merge_team_spec("any", {"collab": TEAM}, {"collab": SEA})
    steps = len(make_tenancy(spec, scene.platform))
    proxy = scene.provisioner_proxy.proxy
    for step in range(steps):
        team = f"killed{step}"
        process = scene.provisioner.process
        assert process is not None
        proxy.decide = killing(process, scene.space(team), step)
        scene.add_team(team)
        wait_until(lambda process=process: process.poll() is not None, 30, scene)
        proxy.decide = no_harm
        scene.provisioner.kill()
        scene.provisioner.start()
    scene.provisioner.wait_healthy()
    healed(wait_until(lambda: all(map(scene.is_ready, scene.teams)), HEALED_S, scene))
    assert_nothing_lost(scene, before)
