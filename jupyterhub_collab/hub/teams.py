"""Teams as the hub's own database has them at this moment: who is in them, what they may.

Read anew each time it is asked; nothing is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jupyterhub import orm
from sqlalchemy.orm import object_session

from .. import names
from ..constants import PROPERTIES_KEY
from ..errors import UserError
from ..models import Gate, TeamSpec
from ..policy.problems import to_found
from ..policy.spec import (
    gate_of_running,
    is_team_group,
    merge_team_spec,
    to_contest_properties,
    to_team_properties,
)


def teams_of(user: Any) -> tuple[str, ...]:
    """Teams that a user (JupyterHub's wrapper or its row) is in, sorted."""
    groups = user.groups
    return tuple(sorted(g.name for g in groups if is_team_group(g.name, g.properties or {})))


def is_member(user: Any, team: str) -> bool:
    """Whether the user is in the team now."""
    return team in teams_of(user)


def closed_because(authenticator: Any, user: Any, team: str) -> str:
    """Why a team that a user is in is closed to them all the same; empty: it is not.

    So it is where the team has protected data and the source that let the user in has not answered
    for too long (`hub.auth.admission`).
    """
    admission = getattr(authenticator, "admission", None)
    if admission is None or admission.may_use(user, team):
        return ""
    return (
        f"whether {user.name} is still in team {team} could not be asked for too long; it opens"
        " again by itself when the directory or identity provider answers"
    )


def team_spec(user: Any, team: str) -> TeamSpec:
    """Spec of a team that the user is in now.

    Raises
    ------
    UserError
        Not a member (any more).
    SpecError
        The team's or its contest's properties are not valid.
    """
    return merge_team_spec(team, *_properties_of(user, team))


def running_gate(user: Any, team: str, *, now: datetime) -> Gate:
    """The gate for a server that runs already: one that closed or froze may leave it some time.

    Raises as `team_spec` does.
    """
    raw, shared = _properties_of(user, team)
    mine = to_team_properties(team, raw)
    if shared is None:
        return mine.gate
    return gate_of_running(mine, to_contest_properties(mine.contest, shared), now=now)


@dataclass(frozen=True)
class Titles:
    """What people call a team and its contest. Empty: nothing but the id."""

    team: str
    contest: str


def titles_of(user: Any, team: str) -> Titles:
    """Titles of a team that the user is in now. Raises as `team_spec` does."""
    raw, shared = _properties_of(user, team)
    mine = to_team_properties(team, raw)
    title = "" if shared is None else to_contest_properties(mine.contest, shared).title
    return Titles(mine.title or "", title)


def _properties_of(user: Any, team: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Raw properties of a team that the user is in, and of its contest if there is one."""
    for group in user.groups:
        if group.name == team and is_team_group(group.name, group.properties or {}):
            break
    else:
        raise UserError(f"You are not a member of a team {to_found(team)}.")
    contest = _contest_of(group.properties)
    shared = None if contest is None else orm.Group.find(_session(user), contest)
    return group.properties, None if shared is None else shared.properties or {}


def _contest_of(properties: dict[str, Any]) -> str | None:
    """Group of the contest that a team's properties name, if they name one at all."""
    corner = properties[PROPERTIES_KEY]
    contest = corner.get("contest") if isinstance(corner, dict) else None
    return names.contest_group(str(contest)) if names.is_team_id(contest) else None


def _session(user: Any) -> Any:
    return object_session(getattr(user, "orm_user", user))
