"""The libraries and programs that people use: each works against both."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import kubernetes
import kubernetes.aio
import kubernetes.aio.dynamic
import kubernetes.dynamic
import kubernetes_asyncio
import pytest

from .client import Api, path_of
from .clusters import ContractCluster

KUBECTL = Path(sys.executable).with_name("kubectl")


def _kubectl(cluster: ContractCluster, *arguments: str) -> str:
    argv = [str(KUBECTL), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_kubernetes_asyncio(cluster: ContractCluster, namespace: str) -> None:
    """KubeSpawner's client creates, lists, watches and deletes pods through its typed calls."""
    configuration = kubernetes_asyncio.client.Configuration()
    await kubernetes_asyncio.config.load_kube_config(
        str(cluster.kubeconfig), client_configuration=configuration
    )
    async with kubernetes_asyncio.client.ApiClient(configuration) as connection:
        core = kubernetes_asyncio.client.CoreV1Api(connection)
        container = kubernetes_asyncio.client.V1Container(name="main", image="none")
        pod = kubernetes_asyncio.client.V1Pod(
            metadata=kubernetes_asyncio.client.V1ObjectMeta(name="p"),
            spec=kubernetes_asyncio.client.V1PodSpec(containers=[container]),
        )
        made = await core.create_namespaced_pod(namespace, pod)
        assert made.metadata.uid
        with pytest.raises(kubernetes_asyncio.client.ApiException) as refused:
            await core.create_namespaced_pod(namespace, pod)
        assert refused.value.status == 409
        listed = await core.list_namespaced_pod(namespace, label_selector="!none")
        assert [p.metadata.name for p in listed.items] == ["p"]
        async with kubernetes_asyncio.watch.Watch().stream(
            core.list_namespaced_pod, namespace, timeout_seconds=30
        ) as stream:
            async for event in stream:
                assert (event["type"], event["object"].metadata.name) == ("ADDED", "p")
                break
        options = kubernetes_asyncio.client.V1DeleteOptions(grace_period_seconds=0)
        await core.delete_namespaced_pod("p", namespace, body=options)
        with pytest.raises(kubernetes_asyncio.client.ApiException) as gone:
            await core.read_namespaced_pod("p", namespace)
        assert gone.value.status == 404


def test_dynamic_client(cluster: ContractCluster, namespace: str, tmp_path: Path) -> None:
    """The official dynamic client discovers kinds and applies server-side."""
    configuration = kubernetes.client.Configuration()
    path = str(cluster.kubeconfig)
    kubernetes.config.load_kube_config(path, client_configuration=configuration)
    with kubernetes.client.ApiClient(configuration) as connection:
        dynamic = kubernetes.dynamic.DynamicClient(connection, cache_file=str(tmp_path / "cache"))
        policies = dynamic.resources.get(api_version="networking.k8s.io/v1", kind="NetworkPolicy")
        head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        body = {**head, "metadata": {"name": "deny"}, "spec": {"podSelector": {}}}
        for _ in range(2):
            made = dynamic.server_side_apply(
                policies, body=body, name="deny", namespace=namespace, field_manager="suite"
            )
        assert made.metadata.name == "deny"
        found = policies.get(namespace=namespace)
        assert [p.metadata.name for p in found.items] == ["deny"]


async def test_async_dynamic_client(cluster: ContractCluster, namespace: str) -> None:
    """The official asynchronous dynamic client does, too."""
    configuration = kubernetes.aio.client.Configuration()
    await kubernetes.aio.config.load_kube_config(
        str(cluster.kubeconfig), client_configuration=configuration
    )
    async with kubernetes.aio.client.ApiClient(configuration) as connection:
        dynamic = await kubernetes.aio.dynamic.DynamicClient(connection)
        secrets = await dynamic.resources.get(api_version="v1", kind="Secret")
        head = {"apiVersion": "v1", "kind": "Secret"}
        body = {**head, "metadata": {"name": "s"}, "stringData": {"a": "b"}}
        made = await dynamic.server_side_apply(
            secrets, body=body, name="s", namespace=namespace, field_manager="suite"
        )
        assert made.metadata.name == "s"
        found = await secrets.get(namespace=namespace, label_selector="!none")
        assert "s" in [i.metadata.name for i in found.items]


@pytest.fixture
def pod(cluster: ContractCluster, namespace: str) -> str:
    """A pod made by kubectl."""
    container = {"name": "main", "image": "none"}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"containers": [container]},
    }
    argv = [str(KUBECTL), f"--kubeconfig={cluster.kubeconfig}", "apply", "--server-side"]
    argv += ["--validate=false", "-f", "-"]
    done = subprocess.run(argv, input=json.dumps(body), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return "web"


def test_kubectl_get(cluster: ContractCluster, namespace: str, pod: str) -> None:
    """`kubectl get pods` prints a table with readiness and state."""
    header, line = _kubectl(cluster, "get", "pods", "-n", namespace).splitlines()
    assert header.split()[:3] == ["NAME", "READY", "STATUS"]
    assert line.split()[:3] == ["web", "0/1", "Pending"]
    assert "web" in _kubectl(cluster, "get", "po", "-A", "-o", "name")


def test_kubectl_describe(cluster: ContractCluster, namespace: str, pod: str) -> None:
    """`kubectl describe pod` tells image, state and events."""
    _kubectl(cluster, "wait", "pod/web", "-n", namespace, "--for=jsonpath={.status.conditions}",
             "--timeout=30s")  # fmt: skip
    text = _kubectl(cluster, "describe", "pod", "web", "-n", namespace)
    words = text.split()
    assert words[words.index("Image:") + 1] == "none"
    assert words[words.index("Status:") + 1] == "Pending"
    assert "FailedScheduling" in words


def test_kubectl_delete(cluster: ContractCluster, namespace: str, pod: str) -> None:
    """`kubectl delete` waits until the object is gone."""
    assert "deleted" in _kubectl(cluster, "delete", "pod", "web", "-n", namespace)
    assert _kubectl(cluster, "get", "pods", "-n", namespace, "-o", "name") == ""


async def test_kubectl_watch(cluster: ContractCluster, api: Api, namespace: str, pod: str) -> None:
    """`kubectl get --watch` prints a line for each change."""
    argv = [f"--kubeconfig={cluster.kubeconfig}", "get", "pods", "-n", namespace, "--watch"]
    process = await asyncio.create_subprocess_exec(
        str(KUBECTL), *argv, "--output=name", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        first = await asyncio.wait_for(process.stdout.readline(), 30)
        labels = {"metadata": {"labels": {"a": "b"}}}
        (await api.patch(path_of("pods", namespace, "web"), labels)).expect()
        second = await asyncio.wait_for(process.stdout.readline(), 30)
    finally:
        process.kill()
        await process.communicate()
    assert first == second == b"pod/web\n"


async def test_the_version_is_told(api: Api) -> None:
    """`/version` tells major and minor of the Kubernetes version, as text."""
    found = (await api.get("/version")).expect()
    assert found["major"] == "1"
    assert int(found["minor"].rstrip("+")) >= 34
