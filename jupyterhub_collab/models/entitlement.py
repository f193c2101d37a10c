"""Rules by which facts about a person give teams, roles and data sets; and what is given."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from .document import Document

Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1024)]


class Role(str, Enum):
    """What somebody is: of a team, of a contest, of a data set, or of the hub."""

    MEMBER = "member"
    CAPTAIN = "captain"
    JUDGE = "judge"
    HOST = "host"
    DATA_STEWARD = "data-steward"
    ADMIN = "admin"


class Pattern(Document):
    """Texts with ``*`` for any run of characters and ``{name}`` for an id."""

    like: Text


class ClaimMatch(Document):
    """One claim or attribute, and what must stand in it."""

    name: Text | tuple[Text, ...] = Field(
        description="Its name; a list of names leads into nested claims."
    )
    is_: str | int | bool | None = Field(None, alias="is")
    like: Text | None = None


class Gives(Document):
    """What a rule gives. Texts may repeat the names in braces of what the rule matches."""

    team: Text | None = None
    contest: Text | None = None
    dataset: Text | None = None
    role: Role | None = None


class Rule(Document):
    """Whoever all of these hold of is given this."""

    issuer: Text = Field(description="The source that must say so.")
    subject: Text | None = Field(None, description="One person, for good.")
    group: Text | Pattern | None = None
    claim: ClaimMatch | None = None
    gives: Gives


class EntitlementRules(Document):
    """The whole file."""

    api_version: Literal["jupyterhub-collab.org/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Entitlements"]
    rules: tuple[Rule, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """Tells these rules from all others."""
        return self.hash()


@dataclass(frozen=True, order=True)
class Entitlement:
    """One thing that somebody may be or have; what does not apply is empty.

    A team and no role but captain's or member's; a contest and judge or host; a data set, granted
    (no role) or kept (data steward); or the hub's admin.
    """

    team: str = ""
    contest: str = ""
    dataset: str = ""
    role: Role | None = None

    def __str__(self) -> str:
        if self.team:
            return f"{(self.role or Role.MEMBER).value} of team {self.team}"
        if self.dataset:
            what = f"data set {self.dataset} of contest {self.contest}"
            return f"data steward of {what}" if self.role else what
        if self.contest:
            return f"{self.role.value if self.role else 'in'} of contest {self.contest}"
        return "admin of the hub"


HUB_ADMIN: Final = Entitlement(role=Role.ADMIN)


@dataclass(frozen=True)
class Granted:
    """An entitlement, and why: in words for the person and the admin."""

    what: Entitlement
    because: str

    def __str__(self) -> str:
        return f"{self.what} because {self.because}"


@dataclass(frozen=True)
class Entitlements:
    """All that one person may be and have, and what a rule could not give.

    Attributes
    ----------
    notes
        Sentences for the admin: a rule that names a team that there is not, a claim that holds
        nothing to compare.
    """

    granted: tuple[Granted, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def teams(self) -> frozenset[str]:
        """Teams that the person is in, as whatever."""
        return frozenset(g.what.team for g in self.granted if g.what.team)

    @property
    def is_admin(self) -> bool:
        """Whether the person is the hub's admin."""
        return any(g.what == HUB_ADMIN for g in self.granted)

    def has(self, what: Entitlement) -> bool:
        """Whether this is given. A captain is a member too."""
        given = {g.what for g in self.granted}
        if what.team and what.role is Role.MEMBER:
            return what.team in self.teams
        return what in given
