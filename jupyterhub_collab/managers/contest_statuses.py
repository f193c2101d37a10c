"""How teams' namespaces are, as the provisioner says, for thousands of courses that wait for it.

Each course asks for its team alone. As long as few do, the provisioner is asked about each; once
many do, one list of the whole contest answers them all for a while, so that 5,000 waiting teams
cost it a list every few seconds and not 5,000 questions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

FEW: Final = 20  # teams of a contest that are asked about one by one in a window
WINDOW_S: Final = 5.0
SHARE: Final = 10.0  # a list is good for so many times as long as it took

Status = Mapping[str, Any]


class StatusReader(Protocol):
    """The provisioner's client, as far as it is needed here."""

    async def read_team(self, team: str) -> Status | None:
        """One team's; None: no group of that name was seen."""

    async def list_teams(self, contest: str) -> Mapping[str, Status]:
        """All of a contest, by team."""


@dataclass
class _Contest:
    window_began: float
    asked: int = 0
    listed: Mapping[str, Status] = field(default_factory=dict)
    listed_at: float = float("-inf")
    good_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class TeamStatuses:
    """Answers from the provisioner, or from what it said a moment ago.

    Parameters
    ----------
    clock
        Seconds that only go forward.
    """

    def __init__(
        self, provisioner: StatusReader, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._provisioner, self._clock = provisioner, clock
        self._contests: dict[str, _Contest] = {}

    async def of(self, contest: str, team: str) -> Status | None:
        """A team's status, at most some seconds old. Raises as the provisioner's client."""
        found = self._contests.setdefault(contest, _Contest(self._clock()))
        if self._clock() - found.window_began > WINDOW_S:
            found.window_began, found.asked = self._clock(), 0
        found.asked += 1
        if found.asked <= FEW:
            return await self._provisioner.read_team(team)
        async with found.lock:  # whoever comes meanwhile waits for the same list
            began = self._clock()
            if began - found.listed_at > found.good_s:
                found.listed = await self._provisioner.list_teams(contest)
                found.listed_at = self._clock()
                found.good_s = max(WINDOW_S, SHARE * (found.listed_at - began))
        return found.listed.get(team)

    def forget(self, contest: str) -> None:
        """The contest is over."""
        self._contests.pop(contest, None)
