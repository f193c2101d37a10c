"""When teams come together: who may register, join and merge just now, and how many. Pure.

The registry asks these in the transaction that writes, of rows that it has locked: what was true a
moment before does not count.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from ..constants import ROSTER_MAX_ENTRIES
from ..models.contest_life import ContestRecord, ContestState, TeamRecord, TeamState
from .contest_calendar import is_registration_open, may_merge

_ASSEMBLING: Final = frozenset({TeamState.INVITED, TeamState.PROVISIONING, TeamState.ACTIVE})
_JOINING: Final = frozenset({ContestState.DRAFT, ContestState.REGISTRATION, ContestState.RUNNING})


def team_size_max(contest: ContestRecord) -> int:
    """So many people are in a team at most."""
    rules = contest.manifest.registration
    return rules.team_size_max if rules is not None else ROSTER_MAX_ENTRIES


def why_not_register(contest: ContestRecord, now: datetime) -> str:
    """Why no team can register; empty: one can."""
    rules = contest.manifest.registration
    if rules is None:
        return "Teams do not register for this contest: its host lists them."
    if contest.is_frozen:
        # Also while it is being destroyed: it would wait for a team that nobody takes along.
        return f"The contest {contest.id} is frozen: nobody can register for it now."
    if contest.state is not ContestState.REGISTRATION:
        return f"Registration is not open: the contest is in state {contest.state.value}."
    if not is_registration_open(contest, now):
        zone = contest.manifest.contest.time_zone
        return f"Registration closed {rules.closes} ({zone})."
    return ""


def why_not_join(contest: ContestRecord, team: TeamRecord) -> str:
    """Why nobody can join this team; empty: somebody can, where there is room."""
    if contest.state not in _JOINING or contest.is_frozen:
        state = "frozen" if contest.is_frozen else contest.state.value
        return f"Nobody can join a team now: the contest is {state}."
    if team.state not in _ASSEMBLING:
        return f"Nobody can join the team {team.id}: it is {team.state.value}."
    return ""


def why_not_merge(contest: ContestRecord, now: datetime) -> str:
    """Why no teams can become one; empty: two that were not admitted yet can."""
    rules = contest.manifest.registration
    if rules is None or contest.state is not ContestState.REGISTRATION:
        return "Teams can be merged only while registration is open."
    if contest.is_frozen:
        return f"The contest {contest.id} is frozen: no teams can be merged now."
    if not may_merge(contest, now):
        zone = contest.manifest.contest.time_zone
        return f"Teams could be merged until {rules.merge_until} ({zone}). That is over."
    return ""
