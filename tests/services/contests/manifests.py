"""Contests of these tests."""

from __future__ import annotations

from typing import Any


def manifest(contest: str, **more: Any) -> dict[str, Any]:
    """A contest with two rounds, as `apply` sends it."""
    tier = {"cpu": 2, "memory": "8Gi", "storage": "20Gi", "ephemeralStorage": "10Gi", "pods": 2}
    found = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": contest, "title": f"The {contest}"},
        "tiers": {"small": tier},
        "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
        "profiles": {"s": {"title": "Small", "cpu": 1, "memory": "2Gi"}},
        "rounds": [{"title": "One"}, {"title": "Two"}],
        "endings": {"noticeSeconds": 0},
        **more,
    }
    return {key: value for key, value in found.items() if value is not None}


def open_manifest(contest: str, **rules: Any) -> dict[str, Any]:
    """One that teams register for."""
    return manifest(contest, registration={"tier": "small", **rules})


AGREEMENT = {"version": "1", "text": "Be nice."}
