"""Whom a contest's manifest names as members of a team, and who makes members of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag

from .document import Document
from .facts import Identity

Member = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/]+$")
]
"""A hub user name, as the hub normalises it."""

Key = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=512, pattern=r"^[^\x00-\x1f]+$")
]
"""Name of a source, or its key of a person; no longer than `storage.identities` keeps."""

Email = Annotated[
    str,
    StringConstraints(
        strict=True, min_length=3, max_length=254, pattern=r"^[^\s\x00-\x1f@]+@[^\s\x00-\x1f@]+$"
    ),
]
"""One address, without a display name. RFC 5321 has no longer ones."""

ENTRY_TAGS: Final = ("(name)", "(identity)", "(invitation)")
"""What pydantic puts into the place of an error for the kind of entry; no field is called so."""


class NamedIdentity(Document):
    """A person, for good, by the key that a source has for them."""

    issuer: Key = Field(description="The source, as the hub's configuration names it.")
    subject: Key = Field(description="That source's own key of the person.")

    def to_identity(self) -> Identity:
        """The same, as the sources name people."""
        return Identity(self.issuer, self.subject)


class Invitation(Document):
    """Whoever comes first of those of whom the source says that this address is theirs."""

    issuer: Key = Field(description="The source, as the hub's configuration names it.")
    email: Email = Field(description="An address of which the source vouches that it is theirs.")


def _tag_of(entry: object) -> str:
    if isinstance(entry, Invitation) or (isinstance(entry, Mapping) and "email" in entry):
        return "(invitation)"
    return "(identity)" if isinstance(entry, (NamedIdentity, Mapping)) else "(name)"


RosterEntry: TypeAlias = Annotated[
    Annotated[Member, Tag("(name)")]
    | Annotated[NamedIdentity, Tag("(identity)")]
    | Annotated[Invitation, Tag("(invitation)")],
    Discriminator(_tag_of),
]


@dataclass(frozen=True)
class HubDecider:
    """A hub whose authenticator makes members of rosters and rules; nobody else does there.

    Attributes
    ----------
    sources
        Names of all sources that let people in.
    """

    sources: frozenset[str]
