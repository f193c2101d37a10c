"""Notices that nobody writes: a round closes in a day, and in an hour. Pure.

Each has a key that says of what it tells, so that it is told once; a round that closes at another
moment than was told is told anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..models.contest_life import ContestRecord, ContestState, Notice

BEFORE: Final = (timedelta(hours=24), timedelta(hours=1))
"""How long before a round closes its teams are told, the longest first."""


def closing_notices(
    contest: ContestRecord, closes: datetime | None, *, now: datetime
) -> Iterable[Notice]:
    """What is to be told now of the end of the round that runs; one notice at most.

    Parameters
    ----------
    closes
        When the round closes by the clock; None: a host closes it.
    """
    if closes is None or contest.state is not ContestState.RUNNING or closes <= now:
        return
    told = [time for time in BEFORE if closes - time <= now]
    if not told:
        return
    # Whoever was away when the first was due tells the one that is true now.
    time = told[-1]
    hours = int(time / timedelta(hours=1))
    rounds = contest.manifest.rounds
    title = f", {rounds[contest.round - 1].title}," if 0 < contest.round <= len(rounds) else ""
    at = closes.astimezone(_zone(contest.manifest.contest.time_zone))
    moment = at.strftime("%Y-%m-%d %H:%M %Z")
    yield Notice(
        contest=contest.id,
        team="",
        text=(
            f"Round {contest.round}{title} closes at {moment}, in less than"
            f" {f'{hours} hours' if hours > 1 else 'an hour'}. What is in your volumes then counts:"
            " after that servers read everything and change nothing."
        ),
        at=now,
        until=closes,
        key=f"closes {contest.round} {hours}h {int(closes.timestamp())}",
    )


def notice_id(notice: Notice) -> str:
    """The same for the same notice, wherever it is shown: 20 hex digits."""
    parts = (notice.contest, notice.team, notice.at.isoformat(), notice.text)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")
