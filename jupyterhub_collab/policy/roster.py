"""Who is in a team because its contest's manifest names them. Pure.

An entry is a hub user name, an identity, or an invitation: an address of which a source vouches. A
name counts for whoever the hub calls so, for it gives each name to one person for good
(`storage.identities`). An invitation counts for whoever took it, and nobody takes one twice
(`storage.invitations`).
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from ..constants import PROPERTIES_KEY, ROSTER_KEY, ROSTER_MAX_BYTES, ROSTER_MAX_ENTRIES
from ..models import HubDecider, Identity, Invitation, NamedIdentity, RosterEntry
from ..models.entitlement import Entitlement, Granted, Role
from .problems import FieldProblem, Path, one_of, to_found

_ENTRIES: Final[TypeAdapter[tuple[RosterEntry, ...]]] = TypeAdapter(tuple[RosterEntry, ...])
_ENTRY: Final[TypeAdapter[RosterEntry]] = TypeAdapter(RosterEntry)
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold_email(email: str) -> str:
    """An address as it is compared: without regard to case, but for letters outside ASCII.

    Other foldings take letters for one another that different people's addresses may have: the
    Kelvin sign for k.
    """
    return email.translate(_ASCII_LOWER)


def read_roster(properties: Mapping[str, Any]) -> tuple[RosterEntry, ...]:
    """The roster in a team group's properties.

    An entry that cannot be read names nobody, and the others go on to count: a newer `apply` may
    know kinds of entries that this hub does not.
    """
    found = _raw_roster(properties)
    try:
        return _ENTRIES.validate_python(found)
    except ValidationError:
        return tuple(entry for raw in found for entry in _read_entry(raw))


def count_unread(properties: Mapping[str, Any]) -> int:
    """How many entries of a roster cannot be read."""
    return len(_raw_roster(properties)) - len(read_roster(properties))


def _raw_roster(properties: Mapping[str, Any]) -> tuple[object, ...]:
    corner = properties.get(PROPERTIES_KEY)
    found = corner.get(ROSTER_KEY, ()) if isinstance(corner, Mapping) else ()
    return tuple(found) if isinstance(found, (list, tuple)) else (None,)  # which names nobody


def _read_entry(raw: object) -> tuple[RosterEntry, ...]:
    try:
        return (_ENTRY.validate_python(raw),)
    except ValidationError:
        return ()


def to_stored(entries: Iterable[RosterEntry]) -> tuple[RosterEntry, ...]:
    """A roster as it is kept: in one order whatever the file's, addresses folded to be found."""
    folded = [
        Invitation(issuer=entry.issuer, email=fold_email(entry.email))
        if isinstance(entry, Invitation)
        else entry
        for entry in entries
    ]
    return tuple(sorted(folded, key=to_key))


def hash_roster(entries: Iterable[RosterEntry]) -> str:
    """One text for one roster: SHA-256, 64 hex digits."""
    text = json.dumps(sorted(to_key(entry) for entry in entries))
    return hashlib.sha256(text.encode()).hexdigest()


def to_key(entry: RosterEntry) -> tuple[str, ...]:
    """Whom an entry names: two entries of one key name the same person."""
    if isinstance(entry, NamedIdentity):
        return ("identity", entry.issuer, entry.subject)
    if isinstance(entry, Invitation):
        return ("invitation", entry.issuer, fold_email(entry.email))
    return ("name", entry)


def united(*rosters: Iterable[RosterEntry]) -> tuple[RosterEntry, ...]:
    """All entries, each person once, in the order given."""
    found: dict[tuple[str, ...], RosterEntry] = {}
    for entries in rosters:
        for entry in entries:
            found.setdefault(to_key(entry), entry)
    return tuple(found.values())


def to_text(entry: RosterEntry) -> str:
    """An entry as people read it."""
    if isinstance(entry, NamedIdentity):
        return str(entry.to_identity())
    if isinstance(entry, Invitation):
        return f"{entry.email} of {entry.issuer} (invited)"
    return entry


def check_roster(entries: tuple[RosterEntry, ...]) -> list[FieldProblem]:
    """What is wrong with a roster whose entries are each right. Paths begin at the roster."""
    problems: list[FieldProblem] = []
    seen: set[tuple[str, ...]] = set()
    for i, entry in enumerate(entries):
        key = to_key(entry)
        if key in seen:
            found = f"{to_found(to_text(entry))} again"
            problems.append(FieldProblem((i,), found, "each member once"))
        seen.add(key)
        for path, text in _texts_of(entry):
            if text != text.strip():
                what = "a text" if path else "a user name"
                expected = f"{what} without spaces around it"
                problems.append(FieldProblem((i, *path), to_found(text), expected))
    if len(entries) > ROSTER_MAX_ENTRIES:
        found, expected = f"{len(entries)} members", f"at most {ROSTER_MAX_ENTRIES} in one team"
        problems.append(FieldProblem((), found, expected))
    wire = _ENTRIES.dump_python(entries, mode="json")
    size = len(json.dumps(wire, ensure_ascii=False, separators=(",", ":")).encode())
    if size > ROSTER_MAX_BYTES:
        expected = f"at most {ROSTER_MAX_BYTES} for the members of one team"
        problems.append(FieldProblem((), f"{size} bytes", expected))
    return problems


def check_decider(
    entries: tuple[RosterEntry, ...], decider: HubDecider | None
) -> list[FieldProblem]:
    """Entries by which nobody could ever get in on that hub. None: it makes no members itself."""
    problems: list[FieldProblem] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str):
            # The hub's names are in lower case, so nobody ever comes under another.
            if decider is not None and entry != entry.lower():
                expected = f"the name as the hub shows it: {to_found(entry.lower())}"
                problems.append(FieldProblem((i,), to_found(entry), expected))
        elif decider is None:
            kind = "an invitation" if isinstance(entry, Invitation) else "an identity"
            expected = (
                "a user name: this hub's authenticator does not decide who is in which team, so"
                " only names can be put into one (docs: the contest manifest, Members)"
            )
            problems.append(FieldProblem((i,), f"{kind} ({to_found(to_text(entry))})", expected))
        elif entry.issuer not in decider.sources:
            expected = f"{one_of(entry.issuer, decider.sources)} (sources of this hub)"
            problems.append(FieldProblem((i, "issuer"), to_found(entry.issuer), expected))
    return problems


def invitations_to(
    rosters: Mapping[str, Iterable[RosterEntry]], *, issuer: str, emails: Iterable[str]
) -> tuple[str, ...]:
    """Which of these addresses (folded) rosters invite from that source; sorted."""
    invited = {
        fold_email(entry.email)
        for entries in rosters.values()
        for entry in entries
        if isinstance(entry, Invitation) and entry.issuer == issuer
    }
    return tuple(sorted(invited & set(emails)))


def find_by_roster(
    rosters: Mapping[str, Iterable[RosterEntry]],
    *,
    identity: Identity,
    name: str,
    emails: Iterable[str] = (),
) -> tuple[Granted, ...]:
    """Memberships that rosters give a person, sorted by team.

    Parameters
    ----------
    rosters
        Entries of each team's roster, by team.
    name
        What the hub calls the person.
    emails
        Addresses (folded) of invitations from the identity's source that the person took.
    """
    taken = frozenset(emails)
    found = []
    for team, entries in sorted(rosters.items()):
        because = next((w for e in entries if (w := _reason(e, identity, name, taken))), "")
        if because:
            found.append(Granted(Entitlement(team=team, role=Role.MEMBER), because))
    return tuple(found)


def _reason(entry: RosterEntry, identity: Identity, name: str, taken: frozenset[str]) -> str:
    """Why an entry is this person; empty: it is not."""
    if isinstance(entry, NamedIdentity):
        return "the team's roster names this identity" if entry.to_identity() == identity else ""
    if isinstance(entry, Invitation):
        is_theirs = entry.issuer == identity.issuer and fold_email(entry.email) in taken
        return f"the team's roster invites {entry.email}" if is_theirs else ""
    return f"the team's roster names {name}" if entry == name else ""


def _texts_of(entry: RosterEntry) -> list[tuple[Path, str]]:
    if isinstance(entry, str):
        return [((), entry)]
    key = "email" if isinstance(entry, Invitation) else "subject"
    return [(("issuer",), entry.issuer), ((key,), getattr(entry, key))]
