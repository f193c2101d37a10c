"""Whom a contest's manifest names as members of a team."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field, StringConstraints

from .document import Document
from .entitlement import Text
from .facts import Identity

Member = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=255, pattern=r"^[^\x00-\x1f/]+$")
]
"""A hub user name, as the hub normalises it."""


class NamedIdentity(Document):
    """A person, for good, by the key that a source has for them."""

    issuer: Text = Field(description="The source, as the hub's configuration names it.")
    subject: Text = Field(description="That source's own key of the person.")

    def to_identity(self) -> Identity:
        """The same, as the sources name people."""
        return Identity(self.issuer, self.subject)


RosterEntry: TypeAlias = Member | NamedIdentity
