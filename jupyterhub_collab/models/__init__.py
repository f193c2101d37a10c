"""What travels between the floors: frozen, validated, without behaviour.

Whatever comes from outside (a contest manifest, group properties, a namespace's annotations) is a
`Document`: unknown fields are errors and every error names its field. Field names in Python carry
the unit, names on the wire are Kubernetes' (``cpu``, ``memory``).
"""

from .contest import Contest, ContestManifest, TeamEntry
from .dataset import CsiSource, Dataset, NfsSource
from .document import Document
from .egress import EgressRule, PortRange, Protocol
from .entitlement import (
    HUB_ADMIN,
    ClaimMatch,
    Entitlement,
    EntitlementRules,
    Entitlements,
    Gives,
    Granted,
    Pattern,
    Role,
    Rule,
)
from .facts import Facts, Identity
from .hub_group import HubGroup
from .image import AddedToleration, Image, NodePool, Profile, Toleration
from .platform import CidrPeer, Endpoint, Platform, PodPeer
from .roster import HubDecider, Invitation, Member, NamedIdentity, RosterEntry
from .team import (
    ContestProperties,
    Gate,
    Retention,
    RoundProperties,
    TeamProperties,
    TeamSpec,
)
from .tier import Tier, TierOverrides
from .volume import Volumes

__all__ = [
    "HUB_ADMIN",
    "AddedToleration",
    "CidrPeer",
    "ClaimMatch",
    "Contest",
    "ContestManifest",
    "ContestProperties",
    "CsiSource",
    "Dataset",
    "Document",
    "EgressRule",
    "Endpoint",
    "Entitlement",
    "EntitlementRules",
    "Entitlements",
    "Facts",
    "Gate",
    "Gives",
    "Granted",
    "HubDecider",
    "HubGroup",
    "Identity",
    "Image",
    "Invitation",
    "Member",
    "NamedIdentity",
    "NfsSource",
    "NodePool",
    "Pattern",
    "Platform",
    "PodPeer",
    "PortRange",
    "Profile",
    "Protocol",
    "Retention",
    "Role",
    "RosterEntry",
    "RoundProperties",
    "Rule",
    "TeamEntry",
    "TeamProperties",
    "TeamSpec",
    "Tier",
    "TierOverrides",
    "Toleration",
    "Volumes",
]
