"""Users and servers as the hub's API shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class HubUser:
    """A user.

    Attributes
    ----------
    has_servers
        Something of theirs starts, runs or stops.
    """

    name: str
    is_admin: bool
    groups: frozenset[str]
    has_servers: bool


@dataclass(frozen=True)
class TeamServer:
    """A server that starts, runs or stops.

    Attributes
    ----------
    server
        Empty for the default one.
    contest
        Empty while the start has not read the team's settings yet.
    gate
        As it was when its pod was made; empty before that.
    """

    user: str
    server: str
    team: str
    contest: str
    started: datetime | None
    is_ready: bool
    gate: str
