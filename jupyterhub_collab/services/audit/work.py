"""What the audit service's handlers work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...managers.audit import AuditKeeper
from ...storage.audit_log import AuditLog
from .emitters_file import EmittersFile
from .metrics import Metrics
from .refusals import Refusals


@dataclass
class Work:
    """One of these for all handlers.

    Attributes
    ----------
    keeper
        Stores and signs; the log is `log`. The service's own events go through
        `keeper.store_own`, so that checkpoints follow.
    now
        The clock.
    prefix
        Path below the hub's proxy, with a slash at both ends.
    more
        What a module of handlers needs besides, by its name.
    """

    keeper: AuditKeeper
    emitters: EmittersFile
    metrics: Metrics
    now: Callable[[], datetime]
    prefix: str
    refusals: Refusals = field(default_factory=Refusals)
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> AuditLog:
        """The log."""
        return self.keeper.log
