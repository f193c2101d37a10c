"""A hub group as the hub's REST API and its database give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class HubGroup:
    """One group. `properties` is raw: ``{"collab": {...}}`` and whatever others keep there."""

    name: str
    properties: Mapping[str, Any]
    users: tuple[str, ...]
