"""A contest with two teams, and the platform below it."""

from __future__ import annotations

import secrets
from typing import Any

from tests.real_hub import find_free_port

CONTEST: dict[str, Any] = {
    "schema": 1,
    "generation": 1,
    "title": "Sea",
    "tiers": {
        "small": {
            "cpu": "1",
            "memory": "2Gi",
            "storage": "40Gi",
            "ephemeralStorage": "4Gi",
            "pods": 4,
            "serversPerMember": 2,
        }
    },
    "images": {
        "basic": {"title": "Basic", "image": "registry.example.org/basic:1.0"},
        "extra": {"title": "Extra", "image": "registry.example.org/extra:2.0"},
    },
    "profiles": {
        "small": {"title": "Small", "cpu": "500m", "memory": "512Mi"},
        "large": {"title": "Large", "cpu": "1", "memory": "1Gi", "images": ["basic"]},
        "huge": {"title": "Huge", "cpu": "16", "memory": "1Gi"},
    },
    "volumes": {"team": "1Gi", "personal": "1Gi"},
}
TEAM: dict[str, Any] = {"schema": 1, "generation": 1, "contest": "sea", "tier": "small"}


def platform(**more: Any) -> dict[str, Any]:
    endpoint = {"host": "127.0.0.1", "address": "127.0.0.1", "port": 8081}
    peer = {"cidr": "127.0.0.1/32"}
    return {
        "hub_api": {**endpoint, "peer": peer},
        "proxy": {**endpoint, "peer": peer},
        "team_access_mode": "ReadWriteOnce",
        **more,
    }


def own_platform(letter: str) -> dict[str, Any]:
    """Settings of a hub with a namespace and teams of its own on a cluster that others use too."""
    mark = secrets.token_hex(3)
    home = f"hub-{mark}"
    return platform(
        hub_id=home,
        hub_namespace=home,
        namespace_prefix=f"{letter}{mark}-",
        server_port=find_free_port(),
    )
