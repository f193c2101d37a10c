"""A team as the hub's groups hold it, and the merged spec that the cluster gets."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import Field

from .dataset import Dataset
from .document import Count, Document, Id, Moment, Title
from .egress import EgressRule
from .image import Image, Profile
from .roster import RosterEntry
from .tier import Tier, TierOverrides
from .volume import Volumes


class Gate(str, Enum):
    """May this team start servers."""

    OPEN = "open"
    FROZEN = "frozen"  # may start, every volume read-only
    CLOSED = "closed"


class Retention(str, Enum):
    """What becomes of all that a team has in the cluster."""

    KEEP = "keep"
    DESTROY = "destroy"  # its namespace and all volumes in it are deleted, for good


class TeamProperties(Document):
    """Our corner of a team group's properties; at most 4 KiB besides the roster."""

    schema_version: Literal[1] = Field(1, alias="schema")
    generation: Count = Field(description="Raised by one at each change.")
    contest: Id
    tier: Id
    title: Title | None = None
    overrides: TierOverrides = TierOverrides()
    datasets: tuple[Id, ...] = ()
    gate: Gate = Gate.OPEN
    retention: Retention = Field(
        Retention.KEEP,
        description="destroy: closes the gate, and deletes all that the team has in the cluster.",
    )
    members: tuple[RosterEntry, ...] = Field(
        (),
        description="The roster, where the hub makes members of it. No part of the spec: who is in"
        " the team is nothing to the cluster.",
    )

    def to_wire(self) -> dict[str, Any]:
        """As of any document; without a roster where it names nobody."""
        wire = super().to_wire()
        if not self.members:
            del wire["members"]
        return wire


class ContestProperties(Document):
    """Our corner of a contest group's properties: what all its teams share, once."""

    schema_version: Literal[1] = Field(1, alias="schema")
    generation: Count
    title: Title
    ends: Moment | None = None
    tiers: dict[Id, Tier]
    images: dict[Id, Image]
    profiles: dict[Id, Profile]
    volumes: Volumes = Volumes()
    egress: tuple[EgressRule, ...] = ()
    datasets: dict[Id, Dataset] = Field({})


class TeamSpec(Document):
    """All that the cluster has to know of a team: a pure merge of the two groups.

    Goes, with its hash, into the namespace's annotations. Says nothing of who is in the team.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    team: Id
    contest: Id
    gate: Gate = Gate.OPEN
    tier_name: Id = Field(alias="tierName")
    tier: Tier
    images: dict[Id, Image]
    profiles: dict[Id, Profile]
    volumes: Volumes
    egress: tuple[EgressRule, ...] = ()
    datasets: dict[Id, Dataset] = Field({})
