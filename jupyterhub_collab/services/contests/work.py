"""What the contests service's handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...managers.contest_registry import ContestRegistry
from ...managers.team_assembly import TeamAssembly
from ...models.standing import PersonStanding
from ...storage.contests import ContestStore
from .metrics import Metrics


@dataclass
class Work:
    """One of these for all handlers.

    Attributes
    ----------
    ask_standing
        The hub's word on where somebody stands; None: it knows nobody of that name.
    now
        The clock.
    prefix
        Path below the hub's proxy, with a slash at both ends.
    more
        What a module of handlers needs besides, by its name.
    """

    store: ContestStore
    registry: ContestRegistry
    assembly: TeamAssembly
    metrics: Metrics
    ask_standing: Callable[[str], Awaitable[PersonStanding | None]]
    now: Callable[[], datetime]
    prefix: str
    more: dict[str, Any] = field(default_factory=dict)
