"""What stands in the way of a tenancy, or is worth telling. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class IssueType(str, Enum):
    """Kind of an issue; also the type of the condition that tells it."""

    NOT_OURS = "NotOurs"  # an object stands where ours should
    OTHER_CONTEST = "OtherContest"  # the namespace holds the work of a team of another contest
    TERMINATING = "Terminating"  # something is still being deleted; we wait
    QUOTA_PENDING = "QuotaPending"  # the quota is written and not in force yet; we wait
    REFUSED = "Refused"  # the Kubernetes API says no
    UNREACHABLE = "Unreachable"  # it does not answer, or asks to be left alone
    VOLUME_FIXED = "VolumeFixed"  # a volume cannot become what it should be
    RETAINED = "Retained"  # ours, no longer wanted, but never deleted without a decision
    FOREIGN_NETWORK_POLICY = "ForeignNetworkPolicy"  # somebody else's policy in our namespace
    CONTESTED = "Contested"  # another program changes our objects each time we put them right
    SPEC_INVALID = "SpecInvalid"
    RESERVED_NAMESPACE = "ReservedNamespace"
    ORPHANED = "Orphaned"  # the team's group is gone; nothing is deleted
    NOT_RELEASED = "NotReleased"  # to be destroyed, but the cluster's administrator has not said so
    CLUSTER_TOO_OLD = "ClusterTooOld"  # it would take a team's walls away before its pods


_PASSING = frozenset({IssueType.TERMINATING, IssueType.QUOTA_PENDING})
_HARMLESS = frozenset(
    {
        IssueType.VOLUME_FIXED,
        IssueType.RETAINED,
        IssueType.FOREIGN_NETWORK_POLICY,
        IssueType.CONTESTED,
        IssueType.ORPHANED,
    }
)


@dataclass(frozen=True)
class Issue:
    """One of them, with a word for programs and a sentence for people."""

    type: IssueType
    reason: str
    message: str

    @property
    def is_blocking(self) -> bool:
        """Whether the tenancy does not stand because of it."""
        return self.type not in _HARMLESS

    @property
    def is_passing(self) -> bool:
        """Whether the cluster itself ends it: nobody has to do anything."""
        return self.type in _PASSING
