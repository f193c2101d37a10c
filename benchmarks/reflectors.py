"""The hub's view of 5,000 pods, beside KubeSpawner's reflectors: memory, and the longest stall.

Pods lie in a real API server. Each run is a process of its own that lists and then watches for
`WINDOW_S`: long enough for KubeSpawner to list anew once, as its reflectors do every ten
seconds when nothing happens.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kubernetes_asyncio import client, config

from benchmarks.measure import Result, finish
from jupyterhub_collab import constants
from tests.cluster import lifecycle
from tests.cluster.pins import kubernetes_version
from tests.cluster.record import Level

PODS = int(os.environ.get("BENCH_PODS", "5000"))
PAIRS = int(os.environ.get("BENCH_PAIRS", "20"))
PODS_PER_NAMESPACE = 50
WINDOW_S = 13.0
CONCURRENCY = 16


def make_pod(number: int) -> dict[str, Any]:
    """A server's pod as KubeSpawner makes it, about 6 KB in the API's answer; labelled for both."""
    namespace = f"team-{number // PODS_PER_NAMESPACE}"
    name = f"server-{number}"
    environment = [
        {"name": f"JUPYTERHUB_SETTING_{n}", "value": f"value-{n}-of-{name}"} for n in range(25)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                "app": "jupyterhub",
                "component": "singleuser-server",
                "hub.jupyter.org/username": name,
                constants.LABEL_MANAGED_BY: constants.MANAGED_BY,
                constants.LABEL_HUB: "bench",
                constants.LABEL_TEAM: namespace,
                constants.LABEL_COMPONENT: constants.COMPONENT_SERVER,
            },
            "annotations": {
                constants.ANNOTATION_USERNAME: name,
                constants.ANNOTATION_SERVERNAME: "",
                constants.ANNOTATION_SERVER_ID: f"{number:032x}",
            },
        },
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "notebook",
                    "image": "registry.example.org/singleuser-basic:1",
                    "args": ["jupyterhub-singleuser"],
                    "env": environment,
                    "ports": [{"containerPort": 8888, "name": "notebook-port"}],
                    "resources": {
                        "limits": {"cpu": "1", "memory": "1Gi"},
                        "requests": {"cpu": "1", "memory": "1Gi"},
                    },
                    "volumeMounts": [{"name": "home", "mountPath": "/home/jovyan"}],
                }
            ],
            "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": f"home-{number}"}}],
        },
    }


def make_status(number: int) -> dict[str, Any]:
    """What kubelet says of a pod that runs."""
    since = "2026-01-01T00:00:00Z"
    conditions = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
    return {
        "phase": "Running",
        "podIP": f"10.{number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
        "startTime": since,
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": since} for kind in conditions
        ],
        "containerStatuses": [
            {
                "name": "notebook",
                "image": "registry.example.org/singleuser-basic:1",
                "imageID": "registry.example.org/singleuser-basic@sha256:" + "0" * 64,
                "containerID": f"containerd://{number:064x}",
                "ready": True,
                "restartCount": 0,
                "started": True,
                "state": {"running": {"startedAt": since}},
            }
        ],
    }


async def fill(kubeconfig: Path) -> int:
    """Create the pods; returns the size of one in the API's answer, in bytes."""
    await config.load_kube_config(config_file=str(kubeconfig))
    async with client.ApiClient() as session:
        api = client.CoreV1Api(session)
        spaces = [f"team-{number}" for number in range((PODS - 1) // PODS_PER_NAMESPACE + 1)]
        for name in spaces:
            await api.create_namespace({"metadata": {"name": name}})
        while not (await api.list_namespaced_service_account(spaces[-1])).items:
            await asyncio.sleep(0.2)  # the cluster makes one in each
        gate = asyncio.Semaphore(CONCURRENCY)

        async def put(number: int) -> None:
            pod = make_pod(number)
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            async with gate:
                await api.create_namespaced_pod(namespace, pod)
                await api.patch_namespaced_pod_status(
                    name, namespace, {"status": make_status(number)}
                )

        await asyncio.gather(*(put(number) for number in range(PODS)))
        one = await api.read_namespaced_pod("server-0", "team-0", _preload_content=False)
        return len(await one.read())


def run(which: str, kubeconfig: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks._watch_pods", which]
    done = subprocess.run(
        [*command, str(kubeconfig), str(PODS), str(WINDOW_S)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "cluster"
        keeper = lifecycle.start(Level.API, directory, is_detached=False)
        try:
            kubeconfig = directory / "kubeconfig"
            size = asyncio.run(fill(kubeconfig))
            print(f"{PODS} pods of {size} bytes are there", file=sys.stderr, flush=True)
            ours, theirs = [], []
            for number in range(PAIRS):
                order = ("ours", "kubespawner") if number % 2 else ("kubespawner", "ours")
                for which in order:
                    (ours if which == "ours" else theirs).append(run(which, kubeconfig))
                print(f"pair {number + 1}: {ours[-1]} {theirs[-1]}", file=sys.stderr, flush=True)
        finally:
            keeper.end()
    notes: dict[str, object] = {
        "pods": PODS,
        "pod_bytes": size,
        "kubernetes": kubernetes_version(),
        "window_s": WINDOW_S,
    }
    finish(
        *(
            Result(
                name=f"reflectors: {title}",
                unit=unit,
                figures=[one[key] for one in ours],
                peers=[one[key] for one in theirs],
                peer_name="KubeSpawner's pod and event reflectors",
                target=0.5,
                at_most=True,
                notes=notes,
            )
            for key, title, unit in (
                ("resident_mb", "memory", "MB"),
                ("stall_ms", "longest loop stall", "ms"),
            )
        )
    )


if __name__ == "__main__":
    main()
