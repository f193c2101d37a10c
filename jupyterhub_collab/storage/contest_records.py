"""What the registry keeps and nobody else thinks about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

from ..models.contest_life import Transition


@dataclass(frozen=True)
class TeamInvitation:
    """A captain's word that somebody may join; the token itself is not kept.

    Attributes
    ----------
    token_sha256
        64 hex digits.
    """

    id: str
    team: str
    token_sha256: str
    made_by: str
    expires_at: datetime
    used_by: str = ""
    used_at: datetime | None = None


@dataclass(frozen=True)
class Merger:
    """What a merger makes, or would make.

    Attributes
    ----------
    moving
        Members that come from the one that is no more.
    together
        Members of the other one then; who was in both is one.
    size_max
        So many are in a team at most.
    """

    source: str
    into: str
    moving: int
    together: int
    size_max: int


@dataclass(frozen=True)
class UnreadableContest:
    """A contest that stands still because its row cannot be read.

    Attributes
    ----------
    why
        In words for an admin.
    """

    id: str
    why: str


@dataclass(frozen=True)
class UnreadableTeam:
    """A team that stands still because its row, or that of what is under way with it, cannot be
    read. An empty id: what is under way with the contest itself.

    Attributes
    ----------
    why
        In words for an admin.
    """

    contest: str
    id: str
    why: str


@dataclass(frozen=True)
class PastTransition:
    """A transition that happened; numbers grow over all contests, not always by one."""

    number: int
    at: datetime
    by: str
    operation: int
    transition: Transition


EVERYBODY: Final = "*"


class DeliveryState(str, Enum):
    """What became of a notice to somebody."""

    WAITING = "waiting"  # tried in vain, and tried again
    DONE = "done"
    GIVEN_UP = "given-up"


@dataclass(frozen=True)
class Delivery:
    """How far a notice has come to somebody on one way on which it leaves the hub.

    Attributes
    ----------
    recipient
        `EVERYBODY`: where the way takes a notice once, the way; otherwise, once done, that each
        team was tried. A team's id: its people. A team's id, a slash and a hash: one address.
    due_at
        Not tried again before.
    why
        What was wrong at the last try, for hosts; no address is in it.
    """

    notice: int
    channel: str
    recipient: str
    due_at: datetime
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    why: str = ""
