"""The way down: what to delete of a team that is to be destroyed. Pure: it reads and decides.

Laws
----
- Only what bears all three of our labels goes, and only what was made for the contest that the
  team's group names: an id that came again decides nothing about the former team's work.
- Nothing goes before an administrator of the cluster has released it (`Release`).
- A namespace of the team's name that is not ours stands in the way: then nothing was destroyed.
- The namespace goes first, as a whole: the cluster ends its pods before it takes the policies away
  (Kubernetes 1.34 or newer). What stands outside, the volumes of data sets, goes when the namespace
  is gone and their claims with it: the reverse of how they were made. Data stay where they lie.
- What is being deleted gives no step, so a second plan is empty.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..constants import (
    LABEL_CONTEST,
    RETENTION_CONFIG_MAP,
    RETENTION_DESTROY,
    RETENTION_UID,
)
from .contest import contest_of
from .issues import Issue, IssueType
from .objects import Manifest, ObjectKey, Owner, is_terminating, uid_of, version_of
from .plan import Action, Plan, Step, not_ours, terminating

_NAMESPACE: Final = "Namespace"
_VOLUME: Final = "PersistentVolume"
_BOUND: Final = "Bound"
_REASON: Final = "the team is to be destroyed"


@dataclass(frozen=True)
class Release:
    """The second key: what the cluster's administrator wrote into the ConfigMap.

    Attributes
    ----------
    hub_namespace
        Where that ConfigMap is.
    decisions
        Its data; empty when there is none.
    is_known
        It could be read.
    """

    hub_namespace: str
    decisions: Mapping[str, str] = field(default_factory=dict)
    is_known: bool = True

    def covers(self, found: Manifest, *, team: str, contest: str) -> bool:
        """Whether this object of the team, or of its whole contest, may be deleted.

        A team's key with a uid is for that namespace alone, and for what such a namespace leaves
        behind: volumes that no claim is bound to.
        """
        said = self.decisions.get(f"team.{team}", "")
        if RETENTION_DESTROY in (said, self.decisions.get(f"contest.{contest}")):
            return True
        if found["kind"] == _NAMESPACE:
            return said != "" and said == uid_of(found)
        return re.fullmatch(RETENTION_UID, said) is not None and not _is_bound(found)


@dataclass(frozen=True)
class Doomed:
    """Which team is to be destroyed, as its group says."""

    owner: Owner
    namespace: str
    contest: str


def plan_removal(
    doomed: Doomed, observed: Mapping[ObjectKey, Manifest], *, release: Release
) -> Plan:
    """Steps that delete what is there. Neither steps nor issues: nothing is left."""
    namespace = observed.get(ObjectKey(_NAMESPACE, "", doomed.namespace))
    if namespace is not None:
        return _plan_object(doomed, namespace, release)
    plans = [
        _plan_object(doomed, found, release)
        for key, found in sorted(observed.items(), reverse=True)
        if key.kind == _VOLUME and doomed.owner.owns(found)
    ]
    return Plan(
        tuple(step for plan in plans for step in plan.steps),
        tuple(issue for plan in plans for issue in plan.issues),
    )


def _plan_object(doomed: Doomed, found: Manifest, release: Release) -> Plan:
    key = ObjectKey(found["kind"], "", found["metadata"]["name"])
    if not doomed.owner.owns(found):
        return Plan(issues=(not_ours(key, found, doomed.owner),))
    contest = str((found["metadata"].get("labels") or {}).get(LABEL_CONTEST) or "")
    if key.kind == _NAMESPACE and contest == doomed.contest:
        contest = contest_of(found)  # what it was made for stands there as well
    if contest != doomed.contest:
        message = (
            f"{key} was made for a team of the contest {contest!r}; the hub's group names the "
            f"contest {doomed.contest!r}. It may be another team's work, so it is not destroyed."
        )
        return Plan(issues=(Issue(IssueType.OTHER_CONTEST, "MadeForAnother", message),))
    if is_terminating(found):
        return Plan(issues=(terminating(found, then="Then the team's is done."),))
    if key.kind == _VOLUME and _is_bound(found):
        message = f"{key} is bound to its claim yet. It is deleted when that claim is gone."
        return Plan(issues=(Issue(IssueType.TERMINATING, "StillBound", message),))
    if not release.covers(found, team=doomed.owner.team, contest=contest):
        return Plan(issues=(not_released(doomed, release, key, uid=uid_of(found)),))
    # The resourceVersion as well: labels, and so owner and contest, are as they were read.
    step = Step(Action.DELETE, key, _REASON, uid=uid_of(found), resource_version=version_of(found))
    return Plan((step,))


def _is_bound(volume: Manifest) -> bool:
    return (volume.get("status") or {}).get("phase") == _BOUND


def not_released(
    doomed: Doomed, release: Release, left: ObjectKey, *, uid: str | None, said: str = ""
) -> Issue:
    """Issue of what is `left` and not let go by the cluster. `said`: the API server's own words."""
    team, hub_namespace = doomed.owner.team, release.hub_namespace
    if not release.is_known:
        said = (
            "(That ConfigMap cannot be read at the moment; if this stays so, the roles are not "
            "those that are shipped: jupyterhub-collab rbac.)"
        )
    word = uid if left.kind == _NAMESPACE and uid else RETENTION_DESTROY
    patch = f'{{"data":{{"team.{team}":"{word}"}}}}'
    so_far = "it. Nothing was deleted"
    if left.kind == _VOLUME:
        so_far = f"{left}, of a data set. The namespace is gone and is not made anew"
    message = (
        f"The hub's group says that team {team} is to be destroyed; the cluster does not release "
        f"{so_far}, and no server starts. An administrator of the cluster must say "
        f"so too: kubectl patch configmap {RETENTION_CONFIG_MAP} -n {hub_namespace} --type=merge "
        f"-p '{patch}' (or "
        f'"contest.{doomed.contest}":"{RETENTION_DESTROY}" for all teams of the contest).'
    )
    return Issue(IssueType.NOT_RELEASED, "NoDecision", f"{message} {said}".strip())
