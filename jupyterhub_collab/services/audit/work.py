"""What the audit service's handlers work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from .metrics import Metrics


@dataclass
class Work:
    """One of these for all handlers.

    Attributes
    ----------
    log
        The `AuditLog`.
    now
        The clock.
    prefix
        Path below the hub's proxy, with a slash at both ends.
    """

    log: Any
    now: Callable[[], datetime]
    prefix: str
    metrics: Metrics
