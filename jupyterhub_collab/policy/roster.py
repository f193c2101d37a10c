"""Who is in a team because its contest's manifest names them. Pure.

An entry is a hub user name, or an identity. A name counts for whoever the hub calls so: the hub
gives each name to one person for good (`storage.identities`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..models import Identity, NamedIdentity, RosterEntry
from ..models.entitlement import Entitlement, Granted, Role


def find_by_roster(
    rosters: Mapping[str, Iterable[RosterEntry]], *, identity: Identity, name: str
) -> tuple[Granted, ...]:
    """Memberships that rosters give a person, sorted by team.

    Parameters
    ----------
    rosters
        Entries of each team's roster, by team.
    name
        What the hub calls the person.
    """
    found = []
    for team, entries in sorted(rosters.items()):
        because = next((w for e in entries if (w := _reason(e, identity, name))), "")
        if because:
            found.append(Granted(Entitlement(team=team, role=Role.MEMBER), because))
    return tuple(found)


def _reason(entry: RosterEntry, identity: Identity, name: str) -> str:
    """Why an entry is this person; empty: it is not."""
    if isinstance(entry, NamedIdentity):
        return "the team's roster names this identity" if entry.to_identity() == identity else ""
    return f"the team's roster names {name}" if entry == name else ""
