"""Figures for Prometheus. No team is named in a label: their number has no bound."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ...managers.tenancy_status import TeamStatus
from ...reconcile.conditions import State
from ...reconcile.engine import Outcome


class _TeamStates:
    """Teams by state, counted when asked."""

    def __init__(self, statuses: Callable[[], list[TeamStatus]]) -> None:
        self._statuses = statuses

    def collect(self) -> Iterable[GaugeMetricFamily]:
        tally = Tally(status.state for status in self._statuses())
        family = GaugeMetricFamily("collab_provisioner_teams", "Teams by state", labels=["state"])
        for state in State:
            family.add_metric([state.value], tally[state])
        yield family


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "collab_provisioner_passes",
            "Passes over a team, by result",
            ["result"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "collab_provisioner_pass_seconds", "Seconds a pass took", registry=self.registry
        )
        self._writes = Counter(
            "collab_provisioner_writes", "Objects changed in the cluster", registry=self.registry
        )
        self._requests = Counter(
            "collab_provisioner_kubernetes_requests",
            "Requests to the Kubernetes API (status 0: no answer)",
            ["verb", "kind", "status"],
            registry=self.registry,
        )
        self._webhooks = Counter(
            "collab_provisioner_webhook_tries",
            "Tries to tell the portal",
            ["result"],
            registry=self.registry,
        )
        self.leader = Gauge(
            "collab_provisioner_leader", "1 while this process works", registry=self.registry
        )

    def observe_teams(
        self, statuses: Callable[[], list[TeamStatus]], queue_length: Callable[[], int]
    ) -> None:
        """Where to count teams from."""
        self.registry.register(_TeamStates(statuses))
        Gauge(
            "collab_provisioner_queue_length", "Teams that wait for work", registry=self.registry
        ).set_function(queue_length)

    def on_pass(self, _team: str, seconds: float, outcome: Outcome | None) -> None:
        """A pass ended."""
        self._seconds.observe(seconds)
        if outcome is None:
            result = "nothing"
        elif outcome.error is not None:
            result = "error"
        else:
            result = "ready" if outcome.is_ready else "blocked"
        self._passes.labels(result).inc()
        if outcome is not None:
            self._writes.inc(outcome.writes)

    def on_request(self, verb: str, kind: str, status: int) -> None:
        """The Kubernetes API was asked."""
        self._requests.labels(verb, kind, str(status)).inc()

    def on_webhook(self, is_delivered: bool) -> None:
        """The portal was told, or not."""
        self._webhooks.labels("delivered" if is_delivered else "failed").inc()

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
