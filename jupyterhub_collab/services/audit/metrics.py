"""Figures for Prometheus. No person, team or data set is named in a label."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest


class Metrics:
    """All of them, in a registry of their own; other modules may register theirs with it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
