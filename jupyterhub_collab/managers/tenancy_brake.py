"""Keeps a fight with another controller from running hot.

Another program that changes an object of ours each time it is put right (a policy engine, another
deployment tool) would be answered within milliseconds, for ever. A team whose objects had to be
written in very many passes within a minute is left alone for a while instead. It does no I/O.
"""

from __future__ import annotations

from collections import deque

from ..reconcile.issues import Issue, IssueType


class FightBrake:
    """Remembers when passes over a team had to write.

    Parameters
    ----------
    limit, window_s
        More writing passes than this in so many seconds are a fight. Changes of groups and healing
        after an outage take two or three.
    """

    def __init__(self, *, limit: int = 20, window_s: float = 60.0) -> None:
        self._limit, self._window_s = limit, window_s
        self._wrote_at: dict[str, deque[float]] = {}

    def wrote(self, team: str, now: float) -> Issue | None:
        """A pass wrote. Issue when that is a fight."""
        times = self._wrote_at.setdefault(team, deque(maxlen=self._limit + 1))
        times.append(now)
        if len(times) <= self._limit or now - times[0] > self._window_s:
            return None
        message = (
            f"The objects of team {team} had to be put right {len(times)} times within "
            f"{self._window_s:g} s: another program changes them each time. They are looked at "
            "less often now, so the team's walls may be down in between. Find that program "
            "(managedFields name who wrote last) and have it leave these namespaces alone."
        )
        return Issue(IssueType.CONTESTED, "ChangedAgain", message)

    def forget(self, team: str) -> None:
        """This team is known no more."""
        self._wrote_at.pop(team, None)
