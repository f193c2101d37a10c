"""Teams, contests, data sets and rosters as the hub's own groups have them at this moment.

Nothing is kept: the hub's database is asked each time, on the hub's own loop and session.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jupyterhub import orm
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Text, false, or_, type_coerce
from sqlalchemy.exc import SQLAlchemyError

from ... import names
from ...constants import PROPERTIES_KEY
from ...errors import RetryableError, SpecError
from ...models import Entitlement, RosterEntry
from ...policy.spec import is_team_group, to_contest_properties
from ..database import roll_back

_ENTRIES: TypeAdapter[tuple[RosterEntry, ...]] = TypeAdapter(tuple[RosterEntry, ...])


class RegistryAwayError(RetryableError):
    """The hub's database does not answer."""


class HubRegistry:
    """The hub's groups.

    Parameters
    ----------
    db
        JupyterHub's session.
    """

    def __init__(self, db: Any) -> None:
        self._db = db

    def exists(self, what: Entitlement) -> bool:
        """Whether there is that team, contest, or data set of a contest."""
        if what.team:
            return is_team_group(what.team, self._properties_of(what.team))
        properties = self._properties_of(names.contest_group(what.contest))
        if not what.dataset:
            return PROPERTIES_KEY in properties
        try:
            return what.dataset in to_contest_properties(what.contest, properties).datasets
        except SpecError:
            return False

    def rosters_with(self, texts: Iterable[str]) -> Mapping[str, tuple[RosterEntry, ...]]:
        """Rosters in which one of the texts stands, by team.

        The database looks through the properties as they are stored, as text, and only what it
        finds is read: a few milliseconds for 5,000 teams.
        """
        stored = type_coerce(orm.Group.properties, Text)
        # As JSON has it between quotes.
        wanted = [json.dumps(text)[1:-1] for text in texts if text]
        clauses = [stored.contains(text, autoescape=True) for text in wanted]
        with self._translated():
            columns = self._db.query(orm.Group.name, orm.Group.properties)
            found = columns.filter(or_(false(), *clauses)).all()
        return {name: _entries_of(p) for name, p in found if is_team_group(name, p or {})}

    def roster_of(self, team: str) -> tuple[RosterEntry, ...]:
        """A team's roster; empty if there is no such team."""
        return _entries_of(self._properties_of(team))

    def users_of(self, team: str) -> tuple[str, ...]:
        """Hub users in a team's group now, sorted."""
        with self._translated():
            group = orm.Group.find(self._db, team)
            return () if group is None else tuple(sorted(user.name for user in group.users))

    def _properties_of(self, group: str) -> Mapping[str, Any]:
        with self._translated():
            row = self._db.query(orm.Group.properties).filter(orm.Group.name == group).first()
        return (row[0] or {}) if row else {}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, json.JSONDecodeError) as e:
            roll_back(self._db)
            raise RegistryAwayError(f"the hub's database ({type(e).__name__})") from e


def _entries_of(properties: Mapping[str, Any]) -> tuple[RosterEntry, ...]:
    """The roster; empty where it cannot be read: who is named by nonsense is named by nothing."""
    corner = properties.get(PROPERTIES_KEY)
    members = corner.get("members", ()) if isinstance(corner, Mapping) else ()
    try:
        return _ENTRIES.validate_python(tuple(members))
    except (ValidationError, TypeError):
        return ()
