"""Figures for Prometheus. No person, team or data set is named in a label."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from ...managers.audit import AuditKeeper


class _KeeperState:
    """How the log is kept, looked at when asked."""

    def __init__(self, keeper: AuditKeeper, monotonic: Callable[[], float]) -> None:
        self._keeper, self._monotonic = keeper, monotonic

    def collect(self) -> Iterable[GaugeMetricFamily]:
        keeper = self._keeper
        events, age_s = keeper.anchoring.window
        if not keeper.anchoring.names:
            events = keeper.log.size
        single = {
            "collab_audit_events": ("Events in the log", keeper.log.size),
            "collab_audit_unanchored_events": ("Events that no anchor holds", events),
            "collab_audit_unanchored_seconds": (
                "Seconds that the oldest event which no anchor holds has waited",
                age_s,
            ),
            "collab_audit_refusing": (
                "1 while nothing protected is stored",
                int(keeper.refusing is not None),
            ),
            "collab_audit_forks": (
                "Anchors that hold what is not in this log's past",
                len(keeper.forks),
            ),
        }
        for name, (said, value) in single.items():
            yield GaugeMetricFamily(name, said, value=value)
        yield from self._collect_anchors()
        seen = GaugeMetricFamily(
            "collab_audit_emitter_silent_seconds",
            "Seconds since an emitter last told something",
            labels=["emitter"],
        )
        for emitter, at_s in keeper.last_seen.items():
            seen.add_metric([emitter], self._monotonic() - at_s)
        yield seen

    def _collect_anchors(self) -> Iterable[GaugeMetricFamily]:
        words = {
            "events": "Events that this anchor does not hold",
            "age_s": "Seconds that the oldest event which this anchor does not hold has waited",
            "failures": "Tries that failed, in a row",
        }
        for field, said in words.items():
            name = f"collab_audit_anchor_{field.replace('age_s', 'seconds')}"
            family = GaugeMetricFamily(name, said, labels=["anchor"])
            for status in self._keeper.status():
                family.add_metric([status.name], getattr(status, field))
            yield family


class Metrics:
    """All of them, in a registry of their own; other modules may register theirs with it."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.timer = monotonic
        self._stored = Counter(
            "collab_audit_stored",
            "Events that were acknowledged, repeated ones too",
            ["emitter"],
            registry=self.registry,
        )
        self._rejected = Counter(
            "collab_audit_rejected",
            "Events in whose place audit.reject stands",
            ["reason"],
            registry=self.registry,
        )
        self._refused = Counter(
            "collab_audit_refused",
            "Batches that were not stored",
            ["reason"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "collab_audit_store_seconds",
            "Seconds until a batch was on disk",
            registry=self.registry,
        )
        self._tries = Counter(
            "collab_audit_anchor_tries",
            "Checkpoints brought to an anchor",
            ["anchor", "result"],
            registry=self.registry,
        )
        self.streamed = Gauge(
            "collab_audit_streamed_sequence",
            "Last event that the stream was given",
            registry=self.registry,
        )

    def observe(self, keeper: AuditKeeper) -> None:
        """Where to look when asked."""
        state = _KeeperState(keeper, self.timer)
        self.registry.register(state)

    def on_stored(self, emitter: str, events: int, began_s: float) -> None:
        """A batch is on disk."""
        self._stored.labels(emitter).inc(events)
        self._seconds.observe(self.timer() - began_s)

    def on_rejected(self, reason: str) -> None:
        """What was sent is no event of this emitter."""
        self._rejected.labels(reason).inc()

    def on_refused(self, reason: str) -> None:
        """A batch was not stored."""
        self._refused.labels(reason).inc()

    def on_anchor(self, name: str, is_taken: bool) -> None:
        """An anchor was tried."""
        self._tries.labels(name, "taken" if is_taken else "failed").inc()

    def to_text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
