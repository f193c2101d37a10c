"""Who may do what with contests and teams: one table, and nothing else decides.

Roles are relative: host and judge of a contest, captain and member of a team. What somebody may not
even see is not there for them; what they see and may not do is refused with what it would take.

It must not: know where a standing comes from, or be asked about a standing of before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from ..models import RosterEntry


class Role(str, Enum):
    """What somebody is, to the contest or team in question."""

    ADMIN = "admin of the hub"
    MANAGER = "program with the scope custom:collab:contests:manage"
    HOST = "host of the contest"
    JUDGE = "judge of the contest"
    PORTAL = "program with the scope custom:collab:contests:register"
    CAPTAIN = "captain of the team"
    MEMBER = "member"  # of the team, or of some team where only a contest is in question
    STRANGER = "anybody who is logged in"
    SERVICE = "any program of the hub"


class Right(str, Enum):
    """What may be asked for."""

    SEE_CONTEST = "see the contest"
    SEE_TEAMS = "see all teams of the contest"
    RANK = "rank the teams"
    HOST = "run the contest"
    APPROVE = "approve what another host proposed"
    CREATE = "make a contest"
    REGISTER = "register a team"
    ENTER = "accept agreement or invitation"
    ENTER_OTHERS = "register or accept for others"
    SEE_TEAM = "see the team"
    LEAD = "lead the team"
    ADD = "put somebody into the team"
    LEAVE = "leave the team"
    REBUILD = "bring all groups after the registry"
    MEASURE = "read the metrics"


_R = Role
_RUNS: Final = frozenset({_R.ADMIN, _R.MANAGER, _R.HOST})
_SEES: Final = _RUNS | {_R.JUDGE, _R.PORTAL}

RIGHTS: Final[Mapping[Right, frozenset[Role]]] = MappingProxyType(
    {
        Right.SEE_CONTEST: _SEES | {_R.CAPTAIN, _R.MEMBER},
        Right.SEE_TEAMS: _SEES,
        Right.RANK: _RUNS | {_R.JUDGE},
        Right.HOST: _RUNS,
        # A second pair of eyes: somebody who holds a program's token may be the first person.
        Right.APPROVE: frozenset({_R.ADMIN, _R.HOST}),
        Right.CREATE: _RUNS,
        Right.REGISTER: _RUNS | {_R.PORTAL, _R.MEMBER},
        Right.ENTER: frozenset({_R.MEMBER, _R.CAPTAIN, _R.PORTAL, _R.MANAGER}),
        Right.ENTER_OTHERS: frozenset({_R.PORTAL, _R.MANAGER}),
        Right.SEE_TEAM: _SEES | {_R.CAPTAIN, _R.MEMBER},
        Right.LEAD: _RUNS | {_R.PORTAL, _R.CAPTAIN},
        # A captain invites: nobody is put into a team unasked but by who answers for it.
        Right.ADD: _RUNS | {_R.PORTAL},
        Right.LEAVE: frozenset({_R.CAPTAIN, _R.MEMBER}),
        Right.REBUILD: frozenset({_R.ADMIN, _R.MANAGER}),
        Right.MEASURE: frozenset({_R.ADMIN}),
    }
)
"""Who has which right."""

WHILE_OPEN: Final = frozenset({Right.SEE_CONTEST, Right.REGISTER, Right.ENTER})
"""What anybody who is logged in may besides, while a contest's registration is open."""


@dataclass(frozen=True)
class Asker:
    """Who asks, as they stand at this moment.

    Attributes
    ----------
    name
        Hub user; of a program ``service:`` and its name, which no user has.
    is_person
        A hub user; otherwise a program of the hub.
    hosts, judges
        Contests.
    teams
        Teams that they are in, with the contest of each.
    leads
        Those whose captain they are.
    entries
        By team, how its roster names them where it is not by their name: as the hub says that only
        they are named.
    """

    name: str
    is_person: bool = True
    is_admin: bool = False
    may_manage: bool = False
    may_register: bool = False
    hosts: frozenset[str] = frozenset()
    judges: frozenset[str] = frozenset()
    teams: Mapping[str, str] = field(default_factory=dict)
    leads: frozenset[str] = frozenset()
    entries: Mapping[str, tuple[RosterEntry, ...]] = field(default_factory=dict)


def roles_of(asker: Asker, *, contest: str = "", team: str = "") -> frozenset[Role]:
    """What somebody is to a contest, or to a team of it.

    Parameters
    ----------
    contest
        The team's, where a team is asked for; empty: to the hub alone.
    """
    if not asker.is_person:
        # The hub's admin as a program runs contests as any program may: it approves nothing.
        held = {
            Role.MANAGER: asker.may_manage or asker.is_admin,
            Role.PORTAL: asker.may_register,
        }
        return frozenset({Role.SERVICE, *(role for role, has in held.items() if has)})
    found = {Role.STRANGER}
    if asker.is_admin:
        found.add(Role.ADMIN)
    if contest and contest in asker.hosts:
        found.add(Role.HOST)
    if contest and contest in asker.judges:
        found.add(Role.JUDGE)
    if team:
        if asker.teams.get(team) == contest:
            found.add(Role.MEMBER)
            if team in asker.leads:
                found.add(Role.CAPTAIN)
    elif contest and contest in asker.teams.values():
        found.add(Role.MEMBER)
    return frozenset(found)


def may(
    asker: Asker, right: Right, *, contest: str = "", team: str = "", is_open: bool = False
) -> bool:
    """Whether somebody has a right.

    Parameters
    ----------
    is_open
        The contest's registration is open.
    """
    allowed = RIGHTS[right]
    if is_open and right in WHILE_OPEN:
        allowed = allowed | {Role.STRANGER}
    return not allowed.isdisjoint(roles_of(asker, contest=contest, team=team))


def what_it_takes(right: Right) -> str:
    """A sentence on who may do this."""
    who = [role.value for role in Role if role in RIGHTS[right]]
    return f"To {right.value} takes: {', or '.join(who)}."
