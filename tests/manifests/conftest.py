"""Specs and platforms that manifest tests render, and the golden files' flag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from jupyterhub_collab.manifests.guard import make_guard
from jupyterhub_collab.manifests.home import make_home_priority
from jupyterhub_collab.manifests.rbac import make_rbac
from jupyterhub_collab.manifests.tenancy import make_tenancy
from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.spec import merge_team_spec
from tests.cluster.cluster import Cluster

from .acting import HOME, Actor, Ground, delete

CONTEST: dict[str, Any] = {
    "generation": 7,
    "title": "Seasonal forecasts",
    "ends": "2027-06-30T22:00:00Z",
    "tiers": {
        "large": {
            "cpu": "8",
            "memory": "32Gi",
            "gpu": 1,
            "storage": "200Gi",
            "ephemeralStorage": "40Gi",
            "pods": 12,
            "serversPerMember": 2,
        },
        "small": {
            "cpu": "50m",
            "memory": "64Mi",
            "storage": "60Gi",
            "ephemeralStorage": "100Mi",
            "pods": 1,
        },
    },
    "images": {"basic": {"title": "Python", "image": "registry.example.org/basic:1.0"}},
    "profiles": {"medium": {"title": "Medium", "cpu": "2", "memory": "8Gi"}},
    "volumes": {"team": "50Gi", "personal": "10Gi", "storageClass": "fast"},
    "egress": [
        {"name": "web", "cidr": "0.0.0.0/0", "ports": [{"port": 443}]},
        {"name": "web-v6", "cidr": "::/0", "ports": [{"port": 443}]},
        {
            "name": "mirror",
            "cidr": "151.101.0.0/16",
            "ports": [{"port": 443}, {"port": 8000, "endPort": 8010, "protocol": "UDP"}],
        },
        {"name": "archive", "cidr": "10.20.0.0/16", "ports": [{"port": 873}]},
    ],
    "datasets": {
        "sst": {
            "title": "Sea surface temperatures",
            "everyTeam": True,
            "size": "120Gi",
            "csi": {
                "driver": "files.csi.example.org",
                "volumeHandle": "sst-2027",
                "fsType": "ext4",
                "volumeAttributes": {"share": "sst"},
            },
        },
        "patients": {
            "title": "Patients",
            "size": "5Gi",
            "nfs": {"server": "nfs.example.org", "path": "/exports/patients"},
        },
    },
}
HUB_PEER = {"namespace": "jupyterhub", "podLabels": {"component": "hub"}}
IN_CLUSTER: dict[str, Any] = {
    "hub_id": "forecasts",
    "hub_namespace": "jupyterhub",
    "hub_api": {
        "host": "hub",
        "address": "10.96.0.10",
        "port": 80,
        "targetPort": 8081,
        "peer": HUB_PEER,
    },
    "proxy": {
        "host": "proxy",
        "address": "10.96.0.11",
        "port": 8000,
        "peer": {"namespace": "jupyterhub", "podLabels": {"component": "proxy"}},
    },
    "egress_proxy": {
        "host": "egress",
        "address": "10.96.0.12",
        "port": 3128,
        "peer": {"namespace": "jupyterhub", "podLabels": {"component": "egress-proxy"}},
    },
    "data_gateway": {
        "host": "data",
        "address": "10.96.0.13",
        "port": 8443,
        "peer": {"namespace": "jupyterhub", "podLabels": {"component": "data-gateway"}},
    },
    "contests": {
        "host": "contests",
        "address": "10.96.0.14",
        "port": 8087,
        "peer": {
            "namespace": "jupyterhub",
            "podLabels": {"app.kubernetes.io/component": "contests"},
        },
    },
    "archive_image": "registry.example.org/basic:1.0",
    "dataset_csi_drivers": ["files.csi.example.org"],
    "dataset_nfs": True,
    "private_ranges_allowed": ["10.20.0.0/16"],
}
OUTSIDE: dict[str, Any] = {
    "namespace_prefix": "collab-",
    "hub_api": {
        "host": "hub",
        "address": "192.0.2.1",
        "port": 8081,
        "peer": {"cidr": "192.0.2.1/32"},
    },
    "proxy": {
        "host": "hub",
        "address": "192.0.2.1",
        "port": 8000,
        "peer": {"cidr": "192.0.2.1/32"},
    },
}


NGINX: dict[str, Any] = {
    "suffixes": ["contests.example.org"],
    "hubUrl": "https://hub.example.com",
    "ingressClass": "nginx",
    "annotations": {"nginx.ingress.kubernetes.io/temporal-redirect": "{url}"},
}
POOL: dict[str, Any] = {
    "nodeSelector": {"contest": "forecast"},
    "tolerations": [{"key": "contest", "value": "forecast", "effect": "NoSchedule"}],
}
DOMAIN = "forecast.contests.example.org"


def make_case(case: str) -> tuple[TeamSpec, Platform]:
    """One of `CASES`: ``full`` uses all there is, ``least`` as little as can be.

    ``round`` is ``full`` in a contest's second round, while the judges judge.
    """
    if case == "round":
        team = {"generation": 3, "contest": "forecast", "tier": "small", "round": 2}
        images = {**CONTEST["images"], "deep": {"title": "Deep", "image": "deep:2"}}
        rounds = [
            {"tier": "small"},
            {"tier": "large", "images": ["deep"], "datasets": ["patients"]},
        ]
        contest = {**CONTEST, "images": images, "gate": "frozen", "rounds": rounds}
        spec = merge_team_spec("ocean", {"collab": team}, {"collab": contest})
        return spec, Platform.model_validate(IN_CLUSTER)
    if case == "full":
        team = {
            "generation": 3,
            "contest": "forecast",
            "tier": "large",
            "overrides": {"cpu": "9500m", "gpu": 4},
            "datasets": ["patients"],
        }
        contest = {**CONTEST, "domain": DOMAIN, "nodePool": POOL}
        spec = merge_team_spec("ocean", {"collab": team}, {"collab": contest})
        return spec, Platform.model_validate({**IN_CLUSTER, "names": NGINX})
    contest = {key: CONTEST[key] for key in ("generation", "title", "tiers", "images", "profiles")}
    team = {"generation": 1, "contest": "forecast", "tier": "small"}
    spec = merge_team_spec("ice-2", {"collab": team}, {"collab": contest})
    return spec, Platform.model_validate(OUTSIDE)


CASES = ("full", "least")
# Addresses that no rule of a team may open.
SECRET_PLACES = [
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.1.1"),
    *("100.64.0.1", "127.0.0.1", "169.254.169.254", "168.63.129.16", "100.100.100.200"),
    *("192.0.0.192", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "fe80::1"),
    *("fd00:ec2::254", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"),
    *("2002:a00:1::1", "2001:0:1::1", "::10.0.0.1"),
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that writes golden files anew: `pytest tests/manifests --update-golden`."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, TeamSpec, Platform]:
    """Name, spec and platform of each case in turn."""
    return (request.param, *make_case(request.param))


# What the platform of the tests on a real API server says besides.
STRICT: dict[str, Any] = {
    "hub_namespace": HOME,
    "names": NGINX,
    "namespace_prefix": "manifests-team-",
    "image_prefixes": ["registry.example.org/"],
    "extra_images": ["registry.example.org/sidecar:1"],
    "priority_classes": ["contest"],
    "toleration_keys": ["gpu", "contest"],
    "added_tolerations": [{"key": "sandbox", "operator": "Exists"}],
    "pod_secrets": ["shared"],
    "runtime_class": "sandboxed",
    "host_users": False,
}
CLASSES: tuple[dict[str, Any], ...] = (
    make_home_priority(),
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "contest"},
        "value": 1000,
    },
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": "urgent"},
        "value": 2000,
    },
    {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "sandboxed"},
        "handler": "runc",
        "scheduling": {"tolerations": [{"key": "sandbox", "operator": "Exists"}]},
    },
)


@pytest.fixture(scope="package")
def ground(api_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """Accounts, roles and policies as an admin installs them."""
    folder = tmp_path_factory.mktemp("accounts")
    platform = Platform.model_validate({**IN_CLUSTER, **STRICT})
    installed = (*make_rbac(platform), *make_guard(platform), *CLASSES)
    api_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    api_cluster.apply(*installed)
    hub, provisioner = (
        Actor(api_cluster, api_cluster.service_account_kubeconfig(HOME, name, folder / name))
        for name in ("hub", "provisioner")
    )
    yield Ground(platform, hub, provisioner, api_cluster)
    for actor in (hub, provisioner):
        actor.http.close()
    # Policies before what they read.
    delete(api_cluster, *(m for m in reversed(installed) if "Policy" in m["kind"]))
    delete(api_cluster, *(m for m in installed if "Policy" not in m["kind"]))
    api_cluster.kubectl("delete", "namespace", HOME, "--wait=false")


def to_team(ground: Ground, team: str, case: str = "full") -> tuple[TeamSpec, str]:
    """The case's spec under another team's name, and its namespace."""
    return make_case(case)[0].model_copy(
        update={"team": team, "host": f"{team}.{DOMAIN}"}
    ), ground.space(team)


@pytest.fixture(scope="package")
def ocean(ground: Ground) -> Iterator[tuple[TeamSpec, str]]:
    """A tenancy that stands, made by the provisioner."""
    spec, namespace = to_team(ground, "ocean")
    ground.provisioner.apply(*make_tenancy(spec, ground.platform))
    yield spec, namespace
    ground.forget(spec)
