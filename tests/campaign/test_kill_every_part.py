"""kill -9 of every part, each alone and each in the middle of provisioning 50 teams.

On the embedded cluster and on a real node, with the hub, proxy and provisioner that `up` runs. What
must hold each time: all 50 teams end ready; nothing is there twice; what stood before the kill is
the very same object afterwards; a server that ran goes on running, answers throughout, and can be
stopped and started by the hub that came back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from jupyterhub_collab import constants
from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.cli.up.lease import read_live_holder
from jupyterhub_collab.hub.demo_settings import read_demo_settings
from jupyterhub_collab.kube.client import KubeClient
from jupyterhub_collab.kube.kinds import (
    LIMIT_RANGE,
    NAMESPACE,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    RESOURCE_QUOTA,
    ROLE_BINDING,
    SERVICE_ACCOUNT,
    Kind,
)
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.platform_file import make_platform
from jupyterhub_collab.policy.contest_manifest import parse_contest_manifest, to_groups
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.campaign.visitor import Probe, Visitor
from tests.cluster.cluster import Cluster
from tests.walk.ground import Run, running
from tests.walk.node import arrange

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(1200)]

TEAMS = 50
KINDS = (
    RESOURCE_QUOTA,
    LIMIT_RANGE,
    NETWORK_POLICY,
    SERVICE_ACCOUNT,
    ROLE_BINDING,
    PERSISTENT_VOLUME_CLAIM,
)
BACK_S = 90.0
PROVISIONED_S = 240.0


@dataclass
class Ground:
    """A run of `up`, the cluster below it as an administrator sees it, and how to kill a part."""

    run: Run
    kubeconfig: Path
    kill_cluster_part: Callable[[str], None] | None

    @property
    def folder(self) -> DataFolder:
        return DataFolder(self.run.data)

    def kill(self, part: str) -> None:
        if self.kill_cluster_part is not None and part not in ("hub", "provisioner"):
            self.kill_cluster_part(part)
            return
        holder = read_live_holder(self.folder.lease(part))
        assert holder is not None, f"{part} does not run"
        os.kill(holder.pid, signal.SIGKILL)

    def is_back(self) -> bool:
        """Hub, provisioner and API server answer."""
        settings = read_demo_settings(self.folder.settings)
        try:
            hub = httpx.get(f"{settings.hub_url}/hub/health", timeout=5)
            provisioner = httpx.get(f"{settings.provisioner_url}health", timeout=5)
            self.objects(NAMESPACE)
        except Exception:  # whatever it is, it is not back
            return False
        return hub.status_code == provisioner.status_code == 200

    def objects(self, kind: Kind) -> dict[tuple[str, str], dict[str, Any]]:
        """All objects of ours of a kind, by namespace and name."""

        async def read() -> list[dict[str, Any]]:
            async with await KubeClient.from_kubeconfig(self.kubeconfig) as client:
                selector = f"{constants.LABEL_MANAGED_BY}={constants.MANAGED_BY}"
                return await client.list(kind, label_selector=selector)

        return {
            (found["metadata"].get("namespace", ""), found["metadata"]["name"]): found
            for found in asyncio.run(read())
        }

    def ready_teams(self, prefix: str) -> set[str]:
        """Teams with that prefix that are marked as ready for the spec on their namespaces."""
        spaces = {
            name: found["metadata"]["annotations"].get(constants.ANNOTATION_SPEC_HASH)
            for (_, name), found in self.objects(NAMESPACE).items()
            if name.startswith(f"team-{prefix}-")
        }
        return {
            space
            for (space, _), found in self.objects(ROLE_BINDING).items()
            if space in spaces
            and found["metadata"]["annotations"].get(constants.ANNOTATION_READY_HASH)
            == spaces[space]
        }


def wait_until(is_so: Callable[[], bool], *, timeout_s: float, what: Callable[[], str]) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


@pytest.fixture(scope="module", params=["embedded", "node"])
def ground(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp(f"kill-{request.param}")
    options: tuple[str, ...] = ()
    cluster: Cluster | None = None
    if request.param == "node":
        cluster = request.getfixturevalue("node_cluster")
        options = arrange(cluster, folder / "credentials")
    with running(folder / "data", *options) as run:
        if cluster is None:
            yield Ground(run, run.data / "cluster" / "kubeconfig", None)
        else:
            yield Ground(run, cluster.kubeconfig, cluster.kill)


@pytest.fixture(params=["hub", "provisioner", "api", "node"])
def part(request: pytest.FixtureRequest, ground: Ground) -> str:
    """The part by the name it has on this ground."""
    real = {"api": "kube-apiserver", "node": "kubelet"}
    embedded = {"api": "cluster-api", "node": "cluster-node"}
    return (embedded if ground.kill_cluster_part is None else real).get(
        request.param, request.param
    )


@pytest.fixture(scope="module")
def visitor(ground: Ground) -> Iterator[Visitor]:
    found = Visitor("ada", url=ground.run.url, accounts=ground.folder.accounts)
    found.sign_in()
    yield found
    found.close()


def server_pod(ground: Ground) -> str:
    """Uid of ada's pod in team ocean."""
    pods = [pod for (space, _), pod in ground.objects(POD).items() if space == "team-ocean"]
    running_pods = [pod for pod in pods if pod["status"].get("phase") == "Running"]
    assert len(running_pods) == 1, [pod["metadata"]["name"] for pod in pods]
    return str(running_pods[0]["metadata"]["uid"])


def write_manifest(folder: Path, prefix: str) -> Path:
    """A contest of 50 teams, without members: who is in them is not the matter here."""
    manifest = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": prefix, "title": f"Fifty teams of {prefix}"},
        "tiers": {
            "s": {
                "cpu": 1,
                "memory": "1Gi",
                "storage": "2Gi",
                "ephemeralStorage": "2Gi",
                "pods": 2,
            }
        },
        "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
        "profiles": {"s": {"title": "Small", "cpu": "500m", "memory": "512Mi"}},
        "egress": [{"name": "web", "cidr": "151.101.0.0/16", "ports": [{"port": 443}]}],
        "teams": {f"{prefix}-{number}": {"tier": "s"} for number in range(TEAMS)},
    }
    path = folder / f"{prefix}.yaml"
    path.write_text(yaml.safe_dump(manifest, sort_keys=False))
    return path


def start_apply(ground: Ground, manifest: Path) -> subprocess.Popen[bytes]:
    settings = read_demo_settings(ground.folder.settings)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "jupyterhub_collab.cli.main", "apply", str(manifest)),
            f"--contests-url={settings.contests_url}",
            f"--token-file={ground.folder.secret('contest-host-token')}",
        ],
        stdout=subprocess.DEVNULL,
    )


def finish_apply(ground: Ground, manifest: Path, first: subprocess.Popen[bytes]) -> None:
    """An apply that a dead hub cut off is simply said again."""
    code = first.wait(120)
    for _ in range(3):
        if code == 0:
            return
        wait_until(ground.is_back, timeout_s=BACK_S, what=lambda: "not back")
        code = start_apply(ground, manifest).wait(120)
    assert code == 0, "apply did not come to an end"


def check_tenancies(ground: Ground, manifest: Path, before: dict[str, str]) -> None:
    """Each team has exactly its tenancy, and what stood before the kill is the very same."""
    platform = make_platform(ground.folder.platform)
    contest = parse_contest_manifest(manifest.read_bytes(), file=str(manifest), platform=platform)
    groups = to_groups(contest)
    shared = groups[f"{constants.CONTEST_GROUP_PREFIX}{contest.contest.id}"].properties
    found = {kind.name: ground.objects(kind) for kind in KINDS}
    namespaces = ground.objects(NAMESPACE)
    for team in contest.teams:
        spec = merge_team_spec(team, groups[team].properties, shared)
        for wanted in make_tenancy(spec, platform):
            meta = wanted["metadata"]
            if wanted["kind"] == "Namespace":
                assert ("", meta["name"]) in namespaces
            else:
                space = meta.get("namespace", "")
                assert (space, meta["name"]) in found[wanted["kind"]], (wanted["kind"], meta)
        wanted_names = {
            (m["kind"], m["metadata"]["name"])
            for m in make_tenancy(spec, platform)
            if m["kind"] != "Namespace"
        }
        there = {
            (kind, name)
            for kind, objects in found.items()
            for space, name in objects
            if space == f"team-{team}"
        }
        assert there == wanted_names, team
    for name, uid in before.items():
        assert namespaces[("", name)]["metadata"]["uid"] == uid, name


def test_killed_alone(ground: Ground, part: str, visitor: Visitor) -> None:
    if not visitor.server().get("ready"):
        visitor.start("ocean")
    pod = server_pod(ground)
    with Probe(visitor) as probe:
        ground.kill(part)
        wait_until(ground.is_back, timeout_s=BACK_S, what=lambda: f"{part} did not come back")
        wait_until(
            lambda: bool(visitor.server().get("ready")),
            timeout_s=BACK_S,
            what=lambda: "the hub lost the server",
        )
        # Some parts are back before anybody would notice: ask on for a while.
        wait_until(lambda: probe.asked >= 20, timeout_s=BACK_S, what=lambda: "the probe stands")
    assert probe.failed == 0, f"{probe.failed} of {probe.asked} requests to the server failed"
    assert server_pod(ground) == pod
    visitor.stop()
    visitor.start("ocean")
    assert visitor.is_reachable()


def test_killed_in_the_middle_of_50_teams(
    ground: Ground, part: str, visitor: Visitor, tmp_path: Path
) -> None:
    if not visitor.server().get("ready"):
        visitor.start("ocean")
    pod = server_pod(ground)
    prefix = part.removeprefix("kube-").removeprefix("cluster-")
    manifest = write_manifest(tmp_path, prefix)
    applying = start_apply(ground, manifest)
    wait_until(
        lambda: len(ground.ready_teams(prefix)) >= TEAMS // 5,
        timeout_s=PROVISIONED_S,
        what=lambda: f"only {len(ground.ready_teams(prefix))} teams came",
    )
    before = {
        name: found["metadata"]["uid"]
        for (_, name), found in ground.objects(NAMESPACE).items()
        if name.startswith(f"team-{prefix}-")
    }
    with Probe(visitor) as probe:
        ground.kill(part)
        assert len(before) < TEAMS, "all was over before the kill"
        finish_apply(ground, manifest, applying)
        wait_until(ground.is_back, timeout_s=BACK_S, what=lambda: f"{part} did not come back")
        wait_until(
            lambda: len(ground.ready_teams(prefix)) == TEAMS,
            timeout_s=PROVISIONED_S,
            what=lambda: f"only {len(ground.ready_teams(prefix))} of {TEAMS} teams are ready",
        )
    assert probe.failed == 0, f"{probe.failed} of {probe.asked} requests to the server failed"
    assert server_pod(ground) == pod
    check_tenancies(ground, manifest, before)
