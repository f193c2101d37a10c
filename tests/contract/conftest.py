"""Clusters, clients and namespaces of the contract suite."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest

from .client import Api, connect, path_of
from .clusters import ContractCluster, embedded_cluster

_NUMBERS = itertools.count()
_NODE_DRIVER = "folder.collab.test"
_NODE_IMAGE = "collab.test/base:1"


@pytest.fixture(scope="session")
def embedded_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractCluster]:
    """An embedded API server, no node."""
    with embedded_cluster(tmp_path_factory.mktemp("embedded-api"), with_node=False) as found:
        yield found


@pytest.fixture(scope="session")
def embedded_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContractCluster]:
    """An embedded API server with its node."""
    with embedded_cluster(tmp_path_factory.mktemp("embedded-node"), with_node=True) as found:
        yield found


@pytest.fixture(
    params=[pytest.param("real", marks=pytest.mark.api), pytest.param("embedded")], scope="session"
)
def cluster(request: pytest.FixtureRequest) -> ContractCluster:
    """An API server with its controllers and no node: pods are stored and never run."""
    if request.param == "real":
        return ContractCluster(request.getfixturevalue("api_cluster").kubeconfig, "none")
    found: ContractCluster = request.getfixturevalue("embedded_api")
    return found


@pytest.fixture(
    params=[pytest.param("real", marks=pytest.mark.node), pytest.param("embedded")], scope="session"
)
def node(request: pytest.FixtureRequest) -> ContractCluster:
    """A cluster with a node: pods run."""
    if request.param == "real":
        kubeconfig = request.getfixturevalue("node_cluster").kubeconfig
        return ContractCluster(kubeconfig, _NODE_IMAGE, _NODE_DRIVER)
    found: ContractCluster = request.getfixturevalue("embedded_node")
    return found


@pytest.fixture
async def api(cluster: ContractCluster) -> AsyncIterator[Api]:
    async with connect(cluster.kubeconfig) as found:
        yield found


@pytest.fixture
async def node_api(node: ContractCluster) -> AsyncIterator[Api]:
    async with connect(node.kubeconfig) as found:
        yield found


async def _namespace(api: Api) -> str:
    name = f"contract-{os.getpid()}-{next(_NUMBERS)}"
    await api.post(path_of("namespaces"), {"metadata": {"name": name}})
    await api.until(path_of("serviceaccounts", name, "default"), lambda a: a.code == 200)
    return name


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    """A fresh namespace with its default service account."""
    name = await _namespace(api)
    yield name
    await api.delete(path_of("namespaces", name=name))


@pytest.fixture
async def node_namespace(node_api: Api) -> AsyncIterator[str]:
    """A fresh namespace on the cluster with a node."""
    name = await _namespace(node_api)
    yield name
    await node_api.delete(path_of("namespaces", name=name))
