"""The way down: what to delete of a team that is to be destroyed. Pure: it reads and decides.

Laws
----
- Only what bears all three of our labels goes, and only what was made for the contest that the
  team's group names: an id that came again decides nothing about the former team's work.
- Nothing goes before an administrator of the cluster has released it, by an annotation on it.
- A namespace of the team's name that is not ours stands in the way: then nothing was destroyed.
- The namespace goes first, as a whole: the cluster ends its pods before it takes the policies away
  (Kubernetes 1.34 or newer). What stands outside, the volumes of data sets, goes when the namespace
  is gone and their claims with it: the reverse of how they were made. Data stay where they lie.
- What is being deleted gives no step, so a second plan is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..constants import ANNOTATION_DESTROY, LABEL_CONTEST
from .contest import administrators_word, contest_of
from .issues import Issue, IssueType
from .objects import Manifest, ObjectKey, Owner, is_terminating, uid_of, version_of
from .plan import Action, Plan, Step, not_ours, terminating

_NAMESPACE: Final = "Namespace"
_VOLUME: Final = "PersistentVolume"
_BOUND: Final = "Bound"
_REASON: Final = "the team is to be destroyed"


@dataclass(frozen=True)
class Doomed:
    """Which team is to be destroyed, as its group says."""

    owner: Owner
    namespace: str
    contest: str


def plan_removal(doomed: Doomed, observed: Mapping[ObjectKey, Manifest]) -> Plan:
    """Steps that delete what is there. Neither steps nor issues: nothing is left."""
    namespace = observed.get(ObjectKey(_NAMESPACE, "", doomed.namespace))
    if namespace is not None:
        return _plan_object(doomed, namespace)
    plans = [
        _plan_object(doomed, found)
        for key, found in sorted(observed.items(), reverse=True)
        if key.kind == _VOLUME and doomed.owner.owns(found)
    ]
    return Plan(
        tuple(step for plan in plans for step in plan.steps),
        tuple(issue for plan in plans for issue in plan.issues),
    )


def _plan_object(doomed: Doomed, found: Manifest) -> Plan:
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
    if not _is_released(found, contest):
        return Plan(issues=(not_released(doomed, key),))
    # The resourceVersion as well: labels, and so owner and contest, are as they were read.
    step = Step(Action.DELETE, key, _REASON, uid=uid_of(found), resource_version=version_of(found))
    return Plan((step,))


def _is_bound(volume: Manifest) -> bool:
    return (volume.get("status") or {}).get("phase") == _BOUND


def _is_released(found: Manifest, contest: str) -> bool:
    """Whether an administrator lets it go, and with this contest."""
    return (found["metadata"].get("annotations") or {}).get(ANNOTATION_DESTROY) == contest


def not_released(doomed: Doomed, left: ObjectKey, *, said: str = "") -> Issue:
    """Issue of what is `left` and not let go by the cluster. `said`: the API server's own words."""
    so_far = "it. Nothing was deleted"
    if left.kind == _VOLUME:
        so_far = f"{left}, of a data set. The namespace is gone and is not made anew"
    command = administrators_word(doomed.owner, ANNOTATION_DESTROY, doomed.contest)
    message = (
        f"The hub's group says that team {doomed.owner.team} is to be destroyed; the cluster does "
        f"not release {so_far}, and no server starts. An administrator of the cluster must say so "
        f"too: {command} (or {LABEL_CONTEST}={doomed.contest} in place of the team, for all that "
        "the contest's teams have now)."
    )
    return Issue(IssueType.NOT_RELEASED, "NoDecision", f"{message} {said}".strip())
