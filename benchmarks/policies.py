"""What the admission policies cost a start: making a server's pod with them and without.

On the real API server (level `api`), as the hub's service account. The same pod is made in a team's
namespace and in a twin of it that lacks our labels, so that no policy of ours looks at it; quota,
limits and Pod Security are in force in both. Pairs alternate.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from jupyterhub_collab import constants
from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.policy.pod import PodRules, ServerIdentity, enforce_pod
from jupyterhub_collab.policy.spawning import ServerChoice
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.cluster import lifecycle, programs_build
from tests.cluster.cluster import open_cluster
from tests.cluster.record import Level
from tests.manifests.acting import Actor, until
from tests.services.running import CONTEST, make_platform, team

from .measure import Result, finish

PAIRS = int(os.environ.get("BENCH_PAIRS", "200"))
PLATFORM = make_platform("bench-policies")
SPEC = merge_team_spec("reef", team(), {"collab": CONTEST})
TEAM, TWIN = f"{PLATFORM.namespace_prefix}reef", "bench-policies-twin"
OURS = (constants.LABEL_MANAGED_BY, constants.LABEL_HUB, constants.LABEL_TEAM)


def make_pod(namespace: str) -> dict[str, Any]:
    """A server's pod; in the twin without the labels by which policies know ours."""
    secret = frozenset({"nothing"})
    env = {"JUPYTERHUB_API_TOKEN": "api-token"}
    server = ServerIdentity(
        "ada", "", "1", "server-ada-1", namespace, "server-ada-1-1", env, secret
    )
    rules = PodRules(SPEC, ServerChoice("reef", "basic", "s"), PLATFORM)
    pod = enforce_pod({"spec": {"containers": [{"name": "notebook"}]}}, server, rules)
    if namespace == TWIN:
        for key in OURS:
            del pod["metadata"]["labels"][key]
    return {**pod, "apiVersion": "v1", "kind": "Pod"}


def as_twin(manifest: dict[str, Any]) -> dict[str, Any]:
    meta = {**manifest["metadata"]}
    meta["labels"] = {k: v for k, v in meta["labels"].items() if k not in OURS}
    if manifest["kind"] == "Namespace":
        meta["name"] = TWIN
    else:
        meta["namespace"] = TWIN
    return {**manifest, "metadata": meta}


def time_create_ms(http: httpx.Client, pod: dict[str, Any]) -> float:
    path = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods"
    began = time.perf_counter()
    answer = http.post(path, json=pod)
    spent = time.perf_counter() - began
    answer.raise_for_status()
    gone = http.request(
        "DELETE", f"{path}/{pod['metadata']['name']}", json={"gracePeriodSeconds": 0}
    )
    if gone.status_code != 404:
        gone.raise_for_status()
    return spent * 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        keeper = lifecycle.start(Level.API, Path(folder) / "cluster", is_detached=False)
        try:
            cluster = open_cluster(keeper.directory, programs_build.find_programs(Level.API))
            home = PLATFORM.hub_namespace
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}})
            cluster.apply(*make_rbac(PLATFORM), *make_guard(PLATFORM))
            tenancy = make_tenancy(SPEC, PLATFORM)
            cluster.apply(*tenancy, *map(as_twin, tenancy))
            kubeconfig = Path(folder) / "hub"
            cluster.service_account_kubeconfig(home, PLATFORM.hub_service_account, kubeconfig)
            actor = Actor(cluster, kubeconfig)
            pods = {namespace: make_pod(namespace) for namespace in (TEAM, TWIN)}
            bad = make_pod(TEAM)
            bad["spec"]["containers"][0]["image"] = "registry.example.org/other:1"
            until(lambda: not any(actor.create(pod) for pod in pods.values()))
            until(lambda: "ValidatingAdmissionPolicy" in actor.create(bad))
            figures: dict[str, list[float]] = {TEAM: [], TWIN: []}
            for i in range(PAIRS + 10):
                for namespace in sorted(pods, reverse=bool(i % 2)):
                    spent = time_create_ms(actor.http, pods[namespace])
                    if i >= 10:  # the first ones warm both sides up
                        figures[namespace].append(spent)
            actor.http.close()
            version = subprocess.run(
                [str(cluster.kubectl_program), "version", "--client"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[2]
        finally:
            keeper.end()
    extra = statistics.median(figures[TEAM]) - statistics.median(figures[TWIN])
    print(f"policies cost {extra:.2f} ms a pod", file=sys.stderr)
    finish(
        Result(
            "policies",
            "ms to make a server's pod",
            figures[TEAM],
            figures[TWIN],
            "the same without policies",
            1.5,
            True,
            {"extra_ms": round(extra, 3), "kubernetes": version},
        )
    )


if __name__ == "__main__":
    main()
