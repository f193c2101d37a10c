"""Where a hub user stands at this moment, as the hub tells services that decide by it.

It holds no name but the one that was asked for, and nothing about why: whoever may ask learns what
somebody is, not what a source says of them. Only who asks for it (the team registry, whose rosters
name people so) is told by which entries of rosters somebody may be named.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from .document import Document, Id
from .roster import RosterEntry

UserName = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/\x7f]+$"),
]
"""A hub user's name."""


class TeamStanding(Document):
    """A team that somebody is in and that is not closed to them.

    Attributes
    ----------
    contest
        None: the team's properties name none.
    datasets
        What the team may mount, of its contest.
    """

    team: Id
    contest: Id | None = None
    is_captain: bool = Field(False, alias="captain")
    datasets: tuple[Id, ...] = ()


class ContestStanding(Document):
    """A contest in which somebody has a role. Of an admin: every contest, with no role in it.

    Attributes
    ----------
    datasets
        All of the contest's, if somebody is its host or the hub's admin.
    keeps
        Data sets whose steward somebody is.
    """

    contest: Id
    is_host: bool = Field(False, alias="host")
    is_judge: bool = Field(False, alias="judge")
    datasets: tuple[Id, ...] = ()
    keeps: tuple[Id, ...] = ()


class PersonStanding(Document):
    """Teams, roles and data sets of a hub user, as they are now.

    Attributes
    ----------
    entries
        What in a roster is this person and nobody else, besides the hub user name: their identity,
        and addresses whose invitations are theirs. Empty: not asked for, or nobody can say.
    """

    name: UserName
    is_admin: bool = Field(False, alias="admin")
    teams: tuple[TeamStanding, ...] = ()
    contests: tuple[ContestStanding, ...] = ()
    entries: tuple[RosterEntry, ...] = ()

    def to_wire(self) -> dict[str, Any]:
        """As of any document; without `entries` where there are none: not everybody knows them."""
        wire = super().to_wire()
        if not self.entries:
            del wire["entries"]
        return wire
