"""Figures of the way to the audit service. A hub shows them at ``/hub/metrics``."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

SPOOLED: Final = Counter("collab_audit_spooled_total", "Audit events told by this program.")
DELIVERED: Final = Counter(
    "collab_audit_delivered_total", "Audit events that the audit service acknowledged."
)
LOST: Final = Counter(
    "collab_audit_lost_total",
    "Audit events lost: the disk took none (disk), the service never would (refused), they could"
    " not be written as an event (form), or the program had ended (ended).",
    ["why"],
)
UNRECORDED: Final = Counter(
    "collab_audit_unrecorded_total", "Protected operations refused, because not recorded in time."
)
UNDELIVERED: Final = Gauge("collab_audit_undelivered", "Audit events that wait for the service.")
OLDEST: Final = Gauge(
    "collab_audit_undelivered_seconds", "Age of the oldest audit event that waits for the service."
)
UP: Final = Gauge("collab_audit_up", "Whether the audit service took events when last asked.")
