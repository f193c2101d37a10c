"""Specs and platforms that manifest tests render, and the golden files' flag."""

from __future__ import annotations

from typing import Any

import pytest

from jupyterhub_collab.models import Platform, TeamSpec
from jupyterhub_collab.policy.spec import merge_team_spec

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


def make_case(case: str) -> tuple[TeamSpec, Platform]:
    """One of `CASES`: ``full`` uses all there is, ``least`` as little as can be."""
    if case == "full":
        team = {
            "generation": 3,
            "contest": "forecast",
            "tier": "large",
            "overrides": {"cpu": "9500m", "gpu": 4},
            "datasets": ["patients"],
        }
        spec = merge_team_spec("ocean", {"collab": team}, {"collab": CONTEST})
        return spec, Platform.model_validate(IN_CLUSTER)
    contest = {key: CONTEST[key] for key in ("generation", "title", "tiers", "images", "profiles")}
    team = {"generation": 1, "contest": "forecast", "tier": "small"}
    spec = merge_team_spec("ice-2", {"collab": team}, {"collab": contest})
    return spec, Platform.model_validate(OUTSIDE)


CASES = ("full", "least")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that writes golden files anew: `pytest tests/manifests --update-golden`."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, TeamSpec, Platform]:
    """Name, spec and platform of each case in turn."""
    return (request.param, *make_case(request.param))
