"""Teams, contests, data sets and rosters as the hub's own groups have them at this moment.

No answer is kept: the hub's database is asked each time, on the hub's own loop and session. All
rosters at once are read in pages, between which the hub serves others.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from jupyterhub import orm
from sqlalchemy import Integer, String, Text, column, false, or_, select, table
from sqlalchemy.exc import SQLAlchemyError

from ... import names
from ...constants import CONTEST_GROUP_PREFIX, PROPERTIES_KEY, ROSTER_KEY
from ...errors import RetryableError, SpecError
from ...models import Entitlement, RosterEntry
from ...policy.roster import count_unread, hash_roster, read_roster
from ...policy.spec import is_team_group, to_contest_properties
from ..database import roll_back

# JupyterHub's own type for the properties makes SQLAlchemy compile each statement anew, and say so.
_groups = table("groups", column("id", Integer), column("name", String), column("properties", Text))
_PAGE: Final = 50  # groups; the hub serves nobody while it reads them, up to 5 ms
log = logging.getLogger(__name__)


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
        self._hashes: dict[str, tuple[int, str]] = {}  # by team: of the text as stored, the roster

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

    def rosters_with(
        self, *, name: str = "", subject: str = "", emails: Iterable[str] = ()
    ) -> Mapping[str, tuple[RosterEntry, ...]]:
        """Rosters, by team, that name this hub user, this subject or one of these addresses.

        The database looks through the properties as they are stored, as text, and only what it
        finds is read: 10 ms for 5,000 teams (`benchmarks/rosters.py`).

        Parameters
        ----------
        emails
            As `policy.roster` folds them.
        """
        quoted = json.dumps(name)
        wanted = [f'"subject": {json.dumps(subject)}'] if subject else []
        wanted += [f'"email": {json.dumps(email)}' for email in emails]
        found = self._find([*wanted, quoted] if name else wanted)
        # Users may be called "issuer" or "portal", and those words stand in all rosters: what is
        # no entry of a list is sorted out before anything is parsed.
        is_entry = re.compile(rf"(?:\[|, ){re.escape(quoted)}[,\]]")
        return {
            team: read_roster(json.loads(text))
            for team, text in found
            if any(part in text for part in wanted) or (name and is_entry.search(text))
        }

    def _find(self, texts: Iterable[str]) -> list[tuple[str, str]]:
        """Teams in whose roster one of these texts stands, with their properties as stored."""
        likes = [_groups.c.properties.like(_like(text), escape="/") for text in texts]
        columns = select(_groups.c.name, _groups.c.properties)
        teams = columns.where(~_groups.c.name.startswith(CONTEST_GROUP_PREFIX))
        with self._translated():
            found = self._db.execute(teams.where(or_(false(), *likes))).all()
        return [(team, text) for team, text in found if names.is_team_id(team)]

    async def list_rosters(self) -> AsyncIterator[tuple[str, str]]:
        """Each team with the hash of its roster. Raises RegistryAwayError.

        What is stored as it was at the last look is not read again.
        """
        last = 0
        known, self._hashes = self._hashes, {}
        while True:
            after = select(_groups).where(_groups.c.id > last).order_by(_groups.c.id)
            with self._translated():
                page = self._db.execute(after.limit(_PAGE)).all()
            for number, name, text in page:
                last = number
                if not text or not names.is_team_id(name):
                    continue
                key = hash(text)
                if known.get(name, (0, ""))[0] != key:
                    known[name] = (key, _hash_of(name, text))
                self._hashes[name] = known[name]
                if known[name][1]:
                    yield name, known[name][1]
            if len(page) < _PAGE:
                return
            await asyncio.sleep(0)

    def roster_of(self, team: str) -> tuple[RosterEntry, ...]:
        """A team's roster; empty if there is no such team."""
        return read_roster(self._properties_of(team))

    def users_of(self, team: str) -> tuple[str, ...]:
        """Hub users in a team's group now, sorted."""
        with self._translated():
            group = orm.Group.find(self._db, team)
            return () if group is None else tuple(sorted(user.name for user in group.users))

    def _properties_of(self, group: str) -> Mapping[str, Any]:
        wanted = select(_groups.c.properties).where(_groups.c.name == group)
        with self._translated():
            text = self._db.execute(wanted).scalar()
            return (json.loads(text) or {}) if text else {}

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, json.JSONDecodeError) as e:
            roll_back(self._db)
            raise RegistryAwayError(f"the hub's database ({type(e).__name__})") from e


def _like(text: str) -> str:
    """LIKE pattern of properties, as the hub stores JSON, in whose roster this text stands.

    With the words before it, users called "open" or "small" do not meet every team.
    """
    parts = [f"{json.dumps(ROSTER_KEY)}: [", text]
    for special in "/%_":
        parts = [part.replace(special, f"/{special}") for part in parts]
    return "".join(f"%{part}" for part in parts) + "%"


def _hash_of(team: str, text: str) -> str:
    """Hash of a team's roster; empty: this is no team."""
    properties = json.loads(text)
    if not is_team_group(team, properties):
        return ""
    if unread := count_unread(properties):
        log.error("%d entries of the roster of %s cannot be read, and name nobody", unread, team)
    return hash_roster(read_roster(properties))
