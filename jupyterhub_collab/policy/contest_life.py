"""The state machine of contests and teams: what may follow what, and why something may not.

Pure; the docs' drawing is made from these tables, and every pair that is not in them is refused
with a reason that names what would be possible.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from ..models.contest_life import Action, ContestState, TeamState
from ..models.team import Gate

_C = ContestState
_T = TeamState

CONTEST_TRANSITIONS: Final[Mapping[tuple[ContestState, Action], ContestState]] = MappingProxyType(
    {
        (_C.DRAFT, Action.OPEN): _C.REGISTRATION,
        (_C.DRAFT, Action.START): _C.RUNNING,
        (_C.REGISTRATION, Action.START): _C.RUNNING,
        (_C.RUNNING, Action.CLOSE_ROUND): _C.JUDGING,
        (_C.JUDGING, Action.REOPEN_ROUND): _C.RUNNING,
        (_C.JUDGING, Action.ADVANCE): _C.RUNNING,
        (_C.JUDGING, Action.FINISH): _C.FINISHED,
        (_C.RUNNING, Action.FINISH): _C.FINISHED,
        (_C.FINISHED, Action.ARCHIVE): _C.ARCHIVED,
        (_C.FINISHED, Action.DESTROY): _C.DESTROYED,
        (_C.ARCHIVED, Action.DESTROY): _C.DESTROYED,
        (_C.DRAFT, Action.DESTROY): _C.DESTROYED,
        (_C.REGISTRATION, Action.DESTROY): _C.DESTROYED,
    }
)
"""Where an action leads a contest. Archived and destroyed are reached when all teams are."""

TEAM_TRANSITIONS: Final[Mapping[tuple[TeamState, Action], TeamState]] = MappingProxyType(
    {
        (_T.INVITED, Action.ADMIT): _T.PROVISIONING,
        (_T.INVITED, Action.REJECT): _T.DESTROYED,
        (_T.PROVISIONING, Action.FREEZE): _T.FROZEN,
        (_T.ACTIVE, Action.FREEZE): _T.FROZEN,
        (_T.FROZEN, Action.LIFT): _T.ACTIVE,
        **{
            (state, Action.ELIMINATE): _T.ELIMINATED
            for state in (_T.PROVISIONING, _T.ACTIVE, _T.FROZEN)
        },
        (_T.ELIMINATED, Action.RESTORE): _T.ACTIVE,
        (_T.ARCHIVED, Action.RESTORE): _T.ACTIVE,
        **{
            (state, Action.ARCHIVE): _T.ARCHIVED
            for state in (_T.PROVISIONING, _T.ACTIVE, _T.FROZEN, _T.ELIMINATED)
        },
        **{
            (state, Action.DESTROY): _T.DESTROYED
            for state in _T
            if state not in (_T.DESTROYED, _T.INVITED)
        },
        (_T.INVITED, Action.DESTROY): _T.DESTROYED,
    }
)
"""Where an action leads a team. Active, archived and destroyed are reached at a course's end."""

CONTEST_GATES: Final[Mapping[ContestState, Gate]] = MappingProxyType(
    {
        _C.DRAFT: Gate.CLOSED,
        _C.REGISTRATION: Gate.CLOSED,
        _C.RUNNING: Gate.OPEN,
        _C.JUDGING: Gate.FROZEN,
        _C.FINISHED: Gate.FROZEN,
        _C.ARCHIVED: Gate.CLOSED,
        _C.DESTROYED: Gate.CLOSED,
    }
)
"""The widest that a team's gate may be, by its contest's state."""

_STRICTNESS: Final = {Gate.OPEN: 0, Gate.FROZEN: 1, Gate.CLOSED: 2}


@dataclass(frozen=True)
class Refusal:
    """Why not, and what would be possible, in words for a person."""

    message: str


def after_contest(state: ContestState, action: Action) -> ContestState | Refusal:
    """Where this action leads a contest, or why it does not."""
    found = CONTEST_TRANSITIONS.get((state, action))
    if found is not None:
        return found
    return _refuse(
        "contest", state.value, action, [a for s, a in CONTEST_TRANSITIONS if s is state]
    )


def after_team(state: TeamState, action: Action) -> TeamState | Refusal:
    """Where this action leads a team, or why it does not."""
    found = TEAM_TRANSITIONS.get((state, action))
    if found is not None:
        return found
    possible = [a for s, a in TEAM_TRANSITIONS if s is state]
    return _refuse("team", state.value, action, possible)


def strictest(*gates: Gate) -> Gate:
    """The one that lets through least."""
    return max(gates, key=_STRICTNESS.__getitem__, default=Gate.OPEN)


def _refuse(what: str, state: str, action: Action, possible: list[Action]) -> Refusal:
    could = ", ".join(sorted(a.value for a in possible)) or "nothing any more"
    return Refusal(
        f"A {what} that is {state} cannot {action.value}. What is possible now: {could}."
    )
