"""Tells a service where a hub user stands now: what the audit service decides by.

``GET /hub/api/collab/standing/NAME`` takes a token with `STANDING_SCOPE`. Nothing is kept and
nothing is guessed: where the decider or the database does not answer, neither does this (503), and
a team that is closed to somebody is not in the answer. Where the hub's authenticator is not ours,
teams are the user's groups and there is no role but the hub's admin. With ``?entries=yes`` it also
tells how rosters may name this person; who does not need it does not ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from jupyterhub import orm
from jupyterhub.apihandlers.base import APIHandler
from sqlalchemy import String as SqlString
from sqlalchemy import Text, column, select, table
from tornado import web

from .. import names
from ..constants import CONTEST_GROUP_PREFIX, PROPERTIES_KEY
from ..errors import RetryableError, SpecError, UserError
from ..models import Entitlement, Role, RosterEntry
from ..models.standing import ContestStanding, PersonStanding, TeamStanding
from ..policy.spec import to_contest_properties
from . import STANDING_SCOPE
from .database import refused_without_database
from .teams import closed_because, team_spec, teams_of

# JupyterHub's own type for the properties makes SQLAlchemy compile each statement anew, and say so.
_groups = table("groups", column("name", SqlString), column("properties", Text))
UNKNOWN: Final = "Nobody can say just now where this person stands. Ask again in a minute."


class ServiceStandingHandler(APIHandler):  # type: ignore[misc]
    """Where one hub user stands."""

    async def get(self, name: str) -> None:
        """``{"standing": ...}``, a `PersonStanding`; null: no such user. 503: nobody can say.

        Not 404, which is what a hub says that does not know this address.
        """
        if STANDING_SCOPE not in self.expanded_scopes or self.get_token() is None:
            raise web.HTTPError(403, f"This needs a token with the scope {STANDING_SCOPE}.")
        self.set_header("Cache-Control", "no-store")
        with refused_without_database(self.db):
            asks_entries = self.get_query_argument("entries", "") == "yes"
            entries = await self._entries_of(name) if asks_entries else ()
            standing = await self._find(name)
            if standing is not None:
                standing = standing.model_copy(update={"entries": entries})
        self.finish(json.dumps({"standing": None if standing is None else standing.to_wire()}))

    async def _find(self, name: str) -> PersonStanding | None:
        given = await self._roles_of(name)
        # Nothing is awaited from here on: one moment for all of it.
        user = self.find_user(name)
        if user is None:
            return None
        is_admin = bool(user.admin)
        hosted = {what.contest for what in given if what.role is Role.HOST}
        catalogue = self._catalogue(None if is_admin else hosted)
        return PersonStanding(
            name=user.name,
            is_admin=is_admin,
            teams=tuple(self._teams(user, given)),
            contests=tuple(_contests(given, catalogue)),
        )

    async def _roles_of(self, name: str) -> frozenset[Entitlement]:
        """What rules give. Raises HTTPError."""
        admission = getattr(self.authenticator, "admission", None)
        if admission is None:  # another's authenticator: groups are all there is
            return frozenset()
        try:
            membership = await admission.memberships.read(name)
            if membership is None:
                return frozenset()
            given = (await admission.manager.project(membership)).entitlements
        except RetryableError as e:
            raise web.HTTPError(503, UNKNOWN) from e
        if given is None:
            raise web.HTTPError(503, UNKNOWN)
        return frozenset(granted.what for granted in given.granted)

    async def _entries_of(self, name: str) -> tuple[RosterEntry, ...]:
        """How rosters may name this person besides. Raises HTTPError."""
        admission = getattr(self.authenticator, "admission", None)
        if admission is None:
            return ()
        try:
            membership = await admission.memberships.read(name)
            if membership is None:
                return ()
            found: tuple[RosterEntry, ...] = await admission.manager.entries_of(membership)
        except RetryableError as e:
            raise web.HTTPError(503, UNKNOWN) from e
        return found

    def _teams(self, user: Any, given: frozenset[Entitlement]) -> Iterator[TeamStanding]:
        """Teams of the hub's groups: what somebody has lost there counts no more."""
        for team in teams_of(user):
            if closed_because(self.authenticator, user, team):
                continue
            is_captain = Entitlement(team=team, role=Role.CAPTAIN) in given
            contest: str | None = None
            datasets: tuple[str, ...] = ()
            try:
                spec = team_spec(user, team)
                contest, datasets = spec.contest, tuple(sorted(spec.datasets))
            except (SpecError, UserError):  # what it may mount is not known; who is in it is
                contest = _contest_named(user, team)
            yield TeamStanding(team=team, contest=contest, is_captain=is_captain, datasets=datasets)

    def _catalogue(self, wanted: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
        """Data sets of these contests; None: of all."""
        query = select(_groups.c.name, _groups.c.properties)
        if wanted is None:
            query = query.where(_groups.c.name.startswith(CONTEST_GROUP_PREFIX))
        else:
            query = query.where(_groups.c.name.in_([names.contest_group(c) for c in wanted]))
        found = {}
        for group, text in self.db.execute(query.order_by(_groups.c.name)).all():
            contest = group.removeprefix(CONTEST_GROUP_PREFIX)
            properties = json.loads(text) if text else {}
            if names.is_team_id(contest) and PROPERTIES_KEY in properties:
                found[contest] = _datasets_of(contest, properties)
        return found


def _datasets_of(contest: str, properties: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(sorted(to_contest_properties(contest, properties).datasets))
    except SpecError:
        return ()


def _contest_named(user: Any, team: str) -> str | None:
    group: orm.Group = next(g for g in user.groups if g.name == team)
    corner = group.properties[PROPERTIES_KEY]
    contest = corner.get("contest") if isinstance(corner, dict) else None
    return contest if names.is_team_id(contest) else None


def _contests(
    given: frozenset[Entitlement], catalogue: dict[str, tuple[str, ...]]
) -> Iterator[ContestStanding]:
    """Contests in which there is a role, and those of the catalogue."""
    roles = {what for what in given if what.contest}
    for contest in sorted({what.contest for what in roles} | set(catalogue)):
        mine = {what for what in roles if what.contest == contest}
        keeps = {what.dataset for what in mine if what.role is Role.DATA_STEWARD}
        standing = ContestStanding(
            contest=contest,
            is_host=any(what.role is Role.HOST for what in mine),
            is_judge=any(what.role is Role.JUDGE for what in mine),
            datasets=catalogue.get(contest, ()),
            keeps=tuple(sorted(keeps)),
        )
        if contest in catalogue or standing.is_host or standing.is_judge or keeps:
            yield standing


HANDLERS: list[tuple[str, type[APIHandler]]] = [
    (r"/api/collab/standing/([^/]+)", ServiceStandingHandler),
]
