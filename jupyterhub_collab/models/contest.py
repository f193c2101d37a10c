"""The contest manifest: one YAML file that says what a host wants."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .dataset import Dataset
from .document import Document, Id, Moment, Title
from .egress import EgressRule
from .image import Image, Profile
from .roster import RosterEntry
from .team import Gate, Retention
from .tier import Tier, TierOverrides
from .volume import Volumes


class Contest(Document):
    """A contest, or a lasting collaboration: a contest without an end."""

    id: Id
    title: Title
    ends: Moment | None = Field(None, description="With time zone; absent: it lasts.")
    retention: Retention = Field(
        Retention.KEEP, description="Of all listed teams that do not say it themselves."
    )


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
    teams: dict[Id, TeamEntry] = Field({})
