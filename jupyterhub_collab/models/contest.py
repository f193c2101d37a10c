"""The contest manifest: one YAML file that says what a host wants."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .dataset import Dataset
from .document import Count, Document, DomainName, Id, Moment, Title
from .egress import EgressRule
from .image import Image, NodePool, Profile
from .roster import RosterEntry
from .team import Gate, Retention
from .tier import Tier, TierOverrides
from .volume import Volumes


class Contest(Document):
    """A contest, or a lasting collaboration: a contest without an end."""

    id: Id
    title: Title
    ends: Moment | None = Field(None, description="With time zone; absent: it lasts.")
    time_zone: str = Field(
        "UTC", alias="timeZone", max_length=64, description="Of times without an offset."
    )
    domain: DomainName | None = Field(
        None, description="Each team is found under its id in this domain: TEAM.DOMAIN."
    )
    node_pool: NodePool | None = Field(
        None,
        alias="nodePool",
        description="Nodes that all its servers run on; absent: where their profiles say.",
    )
    retention: Retention = Field(
        Retention.KEEP, description="Of all listed teams that do not say it themselves."
    )


WallTime = Annotated[
    str,
    StringConstraints(
        strict=True,
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})?$",
    ),
]
"""A date and time; without an offset in the contest's time zone."""


class Round(Document):
    """A part of a contest, and what its teams have in it."""

    title: Title
    opens: WallTime | None = Field(None, description="Absent: a host opens it.")
    closes: WallTime | None = Field(None, description="Absent: a host closes it.")
    tier: Id | None = Field(None, description="Of all teams in it; absent: each its own.")
    images: tuple[Id, ...] | None = Field(
        None, min_length=1, description="What may be started in it; absent: all."
    )
    datasets: tuple[Id, ...] = Field((), description="Besides those that teams have anyway.")


class Agreement(Document):
    """Rules and terms of data use that each member accepts before any data is mounted."""

    version: Title
    text: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=20_000)]


class Registration(Document):
    """How teams come together."""

    tier: Id = Field(description="Of teams that register themselves.")
    team_size_max: Count = Field(5, alias="teamSizeMax", ge=1, le=1000)
    teams_max: Count = Field(5000, alias="teamsMax", ge=1)
    opens: WallTime | None = None
    closes: WallTime | None = None
    merge_until: WallTime | None = Field(None, alias="mergeUntil")
    needs_approval: bool = Field(True, strict=True, alias="needsApproval")
    agreement: Agreement | None = None


class Endings(Document):
    """How teams and the contest end. Times in seconds."""

    two_persons: bool = Field(
        False, strict=True, alias="twoPersons", description="Another host approves what is final."
    )
    notice_s: Count = Field(3600, alias="noticeSeconds", description="Before servers are stopped.")
    export_window_s: int = Field(
        7 * 86400, strict=True, ge=0, le=366 * 86400, alias="exportWindowSeconds"
    )
    batch_teams: Count = Field(
        50, ge=1, alias="batchTeams", description="Teams that come into the next round at once."
    )
    batch_pause_s: int = Field(
        60, strict=True, ge=0, le=86400, alias="batchPauseSeconds", description="Between batches."
    )
    archive: bool = Field(False, strict=True, description="Copy volumes before they are deleted.")
    keep_archives_days: Count = Field(365, alias="keepArchivesDays")


class TeamEntry(Document):
    """One team."""

    title: Title | None = None
    tier: Id
    overrides: TierOverrides = TierOverrides()
    datasets: tuple[Id, ...] = Field((), description="Besides those that every team gets.")
    gate: Gate = Gate.OPEN
    retention: Retention | None = Field(
        None,
        description="destroy: delete the team's namespace with every volume in it, for good, once "
        "the cluster releases it; keep: whatever the contest says. Absent: as the contest says.",
    )
    members: tuple[RosterEntry, ...] = Field(
        (),
        description="All who are in the team: hub user names, identities, invitations. Left out or"
        " empty: everybody leaves it.",
    )


class ContestManifest(Document):
    """The whole file."""

    api_version: Literal["jupyterhub-collab.org/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Contest"]
    contest: Contest
    tiers: dict[Id, Tier] = Field(min_length=1)
    images: dict[Id, Image] = Field(min_length=1, description="The first is the default.")
    profiles: dict[Id, Profile] = Field(min_length=1, description="The first is the default.")
    volumes: Volumes = Volumes()
    egress: tuple[EgressRule, ...] = ()
    datasets: dict[Id, Dataset] = Field({})
    rounds: tuple[Round, ...] = Field((), max_length=50)
    registration: Registration | None = Field(None, description="Absent: teams stand here only.")
    endings: Endings = Endings()
    teams: dict[Id, TeamEntry] = Field({})
