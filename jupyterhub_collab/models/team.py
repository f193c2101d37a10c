"""A team as the hub's groups hold it, and the merged spec that the cluster gets."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import Field

from .dataset import Dataset
from .document import Count, Document, DomainName, Id, Moment, Title
from .egress import EgressRule
from .image import Image, NodePool, Profile
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
    servers_until: Moment | None = Field(
        None,
        alias="serversUntil",
        description="What ran before this gate closed or froze may run on until then; absent: it"
        " ends at once.",
    )
    round: Count = Field(
        0, description="The contest's round whose tier, images and data sets it has; 0: none."
    )
    members: tuple[RosterEntry, ...] = Field(
        (),
        description="The roster, where the hub makes members of it. No part of the spec: who is in"
        " the team is nothing to the cluster.",
    )

    def to_wire(self) -> dict[str, Any]:
        """As of any document; without a roster where it names nobody, and without round 0."""
        wire = super().to_wire()
        if not self.members:
            del wire["members"]
        if not self.round:
            del wire["round"]
        return wire


class RoundProperties(Document):
    """What teams have in one round."""

    tier: Id | None = Field(None, description="Absent: each its own.")
    images: tuple[Id, ...] | None = Field(
        None, min_length=1, description="The first is the default; absent: all of the contest's."
    )
    datasets: tuple[Id, ...] = Field((), description="Besides those that teams have anyway.")


class ContestProperties(Document):
    """Our corner of a contest group's properties: what all its teams share, once."""

    schema_version: Literal[1] = Field(1, alias="schema")
    generation: Count
    title: Title
    ends: Moment | None = None
    domain: DomainName | None = None
    node_pool: NodePool | None = Field(None, alias="nodePool")
    tiers: dict[Id, Tier]
    images: dict[Id, Image]
    profiles: dict[Id, Profile]
    volumes: Volumes = Volumes()
    egress: tuple[EgressRule, ...] = ()
    datasets: dict[Id, Dataset] = Field({})
    gate: Gate = Field(Gate.OPEN, description="Of all its teams; a team's own may be stricter.")
    servers_until: Moment | None = Field(
        None, alias="serversUntil", description="As a team's, of the contest's gate."
    )
    rounds: tuple[RoundProperties, ...] = Field((), max_length=50)

    def to_wire(self) -> dict[str, Any]:
        """As of any document; without an open gate, and without rounds where there are none."""
        wire = super().to_wire()
        if self.gate is Gate.OPEN:
            del wire["gate"]
        if not self.rounds:
            del wire["rounds"]
        return wire


class TeamSpec(Document):
    """All that the cluster has to know of a team: a pure merge of the two groups.

    Goes, with its hash, into the namespace's annotations. Says nothing of who is in the team.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    team: Id
    contest: Id
    gate: Gate = Gate.OPEN
    host: DomainName | None = Field(None, description="The name that leads to the team's page.")
    tier_name: Id = Field(alias="tierName")
    tier: Tier
    images: dict[Id, Image]
    profiles: dict[Id, Profile]
    volumes: Volumes
    egress: tuple[EgressRule, ...] = ()
    datasets: dict[Id, Dataset] = Field({})
