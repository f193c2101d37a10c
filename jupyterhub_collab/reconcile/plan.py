"""What to do so that the cluster holds what it should. Pure: it reads and decides, no more.

Laws
----
- Only objects that bear all three of our labels are changed; only those are pruned; namespaces and
  volumes are never pruned.
- A namespace that is not ours, is being deleted, or was another contest's means: no step at all.
- Steps come in the order of the manifests: the namespace, then the policy that denies all. The
  ready mark comes last, and goes first when something stands in the way.
- The hub's rights bear the mark. In a namespace without volumes nothing ever ran, so there they are
  made last, with the mark, in one request; anywhere else they come back in their place, for the hub
  may need them to end what runs.
- The ready mark also goes first, and comes back last, when a wall is touched: a policy, the quota.
- No claim is made or changed while the quota that counts it is not in force.
- What stands as it should gives no step, so a second plan is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from ..constants import (
    ANNOTATION_OBJECT_HASH,
    ANNOTATION_READY_HASH,
    COMPONENT_PERSONAL_VOLUME,
    LABEL_COMPONENT,
)
from .compare import Deviation, Path, find_deviations
from .contest import other_contest
from .issues import Issue, IssueType
from .objects import Manifest, ObjectKey, Owner, is_terminating, key_of, uid_of, version_of
from .quota import QUOTA_KIND, quota_pending
from .volumes import VOLUME_KINDS, adapt_volume

PRUNED_KINDS: Final = frozenset(
    {
        *("NetworkPolicy", "ResourceQuota", "LimitRange", "ServiceAccount", "RoleBinding"),
        *("Ingress", "HTTPRoute"),
    }
)
_WALLS: Final = frozenset({"NetworkPolicy", QUOTA_KIND})
_STALE_CLAIM: Final[tuple[Path, ...]] = (
    ("spec", "claimRef", "uid"),
    ("spec", "claimRef", "resourceVersion"),
)


class Action(str, Enum):
    """What a step does."""

    CREATE = "create"
    APPLY = "apply"
    DELETE = "delete"
    MARK_READY = "mark-ready"
    UNMARK_READY = "unmark-ready"


@dataclass(frozen=True)
class Step:
    """One change of one object.

    Attributes
    ----------
    manifest
        What to apply; empty for a deletion.
    uid, resource_version
        Of the object as it was observed: the step is for that one only.
    remove
        Fields to take away first: an apply cannot, for they are not ours.
    """

    action: Action
    key: ObjectKey
    reason: str
    manifest: Manifest = field(default_factory=dict, hash=False)
    uid: str | None = None
    resource_version: str | None = None
    remove: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Steps in order, and what stands in the way.

    Attributes
    ----------
    alike
        Wishes that were compared with what is there, and stand (`Memory.clean` of the next plan).
    """

    steps: tuple[Step, ...] = ()
    issues: tuple[Issue, ...] = ()
    alike: tuple[Manifest, ...] = field(default=(), compare=False)

    @property
    def is_blocked(self) -> bool:
        """Whether the tenancy cannot stand after these steps."""
        return any(issue.is_blocking for issue in self.issues)


@dataclass(frozen=True)
class Memory:
    """What earlier writes taught; without it a plan is only less frugal, never wrong.

    Attributes
    ----------
    settled
        Deviations that were left right after an apply of ours: the API server's own doing.
    refused
        Object hash of the wish that the API server refused, for volumes.
    foreign
        Objects of others that no watch shows, found when ours were to be made.
    clean
        Wish and object that were compared and found alike. The very same two need no second look;
        neither is ever changed.
    """

    settled: Mapping[ObjectKey, frozenset[Deviation]] = field(default_factory=dict)
    refused: Mapping[ObjectKey, str] = field(default_factory=dict)
    foreign: Mapping[ObjectKey, Issue] = field(default_factory=dict)
    clean: Mapping[ObjectKey, tuple[Manifest, Manifest]] = field(default_factory=dict)


def plan_objects(
    desired: Sequence[Manifest],
    observed: Mapping[ObjectKey, Manifest],
    *,
    owner: Owner,
    ready_hash: str,
    memory: Memory | None = None,
) -> Plan:
    """Steps from ``observed`` to ``desired``.

    Parameters
    ----------
    desired
        Manifests in apply order; the first is the namespace.
    observed
        What is there of them, others' objects among them.
    ready_hash
        The mark that the hub's rights shall bear once all stands.
    """
    memory = memory or Memory()
    namespace = observed.get(key_of(desired[0]))
    if namespace is not None:
        if not owner.owns(namespace):
            return Plan(issues=(not_ours(key_of(desired[0]), namespace, owner),))
        if is_terminating(namespace):
            return Plan(issues=(terminating(namespace),))
        if (other := other_contest(desired[0], namespace)) is not None:
            return Plan(issues=(other,))
    elif (issue := memory.foreign.get(key_of(desired[0]))) is not None:
        return Plan(issues=(issue,))
    steps: list[Step] = []
    issues: list[Issue] = []
    alike: list[Manifest] = []
    for manifest in desired:
        if _plan_object(manifest, observed, owner, memory, steps, issues):
            alike.append(manifest)
    if (pending := _pending_quota(observed, owner, steps)) is not None:
        issues.append(pending)
        steps = [step for step in steps if step.key.kind != "PersistentVolumeClaim"]
    _plan_rest(desired, observed, owner, steps, issues)
    plan = Plan(tuple(steps), tuple(issues), tuple(alike))
    return replace(plan, steps=_with_mark(plan, bearer_of(desired), observed, owner, ready_hash))


def is_settled(wish: Manifest, observed: Mapping[ObjectKey, Manifest], *, owner: Owner) -> bool:
    """Whether nothing is to be done about this one object, nor to be told of it."""
    steps: list[Step] = []
    issues: list[Issue] = []
    _plan_object(wish, observed, owner, Memory(), steps, issues)
    return not steps and not issues


def not_ours(key: ObjectKey, found: Manifest, owner: Owner) -> Issue:
    """Issue of an object of this name that is somebody else's."""
    return Issue(
        IssueType.NOT_OURS,
        "Exists",
        f"{key} exists and is not this team's: {owner.describe_other(found)}. Nothing was changed. "
        "Rename or remove it, or give the team another id.",
    )


def terminating(obj: Manifest, *, then: str = "It is made anew when it is gone.") -> Issue:
    """Issue of an object that is being deleted, with what holds it, as far as the cluster says."""
    conditions = (obj.get("status") or {}).get("conditions") or ()
    said = [str(c.get("message") or c.get("type")) for c in conditions if c.get("status") == "True"]
    held = ", ".join(obj["metadata"].get("finalizers") or ()) or "what is in it"
    message = f"{key_of(obj)} is being deleted and waits for {held}. {then}"
    if said:
        message += f" The cluster says: {'; '.join(said)}"
    return Issue(IssueType.TERMINATING, "BeingDeleted", message)


def _plan_object(
    manifest: Manifest,
    observed: Mapping[ObjectKey, Manifest],
    owner: Owner,
    memory: Memory,
    steps: list[Step],
    issues: list[Issue],
) -> bool:
    """Add what is to be done about one object; whether it stands, and will while it is this one."""
    key = key_of(manifest)
    found = observed.get(key)
    if found is None:
        if key in memory.foreign:
            issues.append(memory.foreign[key])
        else:
            steps.append(Step(Action.CREATE, key, "it is missing", manifest))
        return False
    if not owner.owns(found):
        issues.append(not_ours(key, found, owner))
        return False
    if is_terminating(found):
        issues.append(terminating(found))
        return False
    wish, clean = memory.clean.get(key, (None, None))
    # A volume's claim may go while the volume stays.
    if wish is manifest and clean is found and key.kind != "PersistentVolume":
        return False
    uid, version = uid_of(found), version_of(found)
    if key.kind == "RoleBinding" and found.get("roleRef") != manifest.get("roleRef"):
        # The API server lets nobody change it; a binding holds nothing that could be lost.
        reason = "it binds another role"
        steps.append(Step(Action.DELETE, key, reason, uid=uid, resource_version=version))
        steps.append(Step(Action.CREATE, key, reason, manifest))
        return False
    remove: tuple[Path, ...] = ()
    told: tuple[Issue, ...] = ()
    if key.kind in VOLUME_KINDS:
        wish = manifest["metadata"].get("annotations", {}).get(ANNOTATION_OBJECT_HASH)
        is_refused = wish is not None and memory.refused.get(key) == wish
        manifest, told = adapt_volume(manifest, found, is_refused=is_refused)
        issues.extend(told)
        if key.kind == "PersistentVolume" and _is_claim_stale(found, observed):
            remove = _STALE_CLAIM
    deviations = find_deviations(manifest, found)
    deviations = [d for d in deviations if d not in memory.settled.get(key, ())]
    remove += tuple(d.path for d in deviations if d.is_extra)
    if deviations or remove:
        fields = ", ".join(sorted({str(d) for d in deviations} | {".".join(p) for p in remove}))
        reason = f"it differs in {fields}"
        steps.append(Step(Action.APPLY, key, reason, manifest, uid, version, remove))
    # What is told of an object is told each time.
    return not (deviations or remove or told or key.kind == "PersistentVolume")


def _pending_quota(
    observed: Mapping[ObjectKey, Manifest], owner: Owner, steps: Sequence[Step]
) -> Issue | None:
    """Issue of our quota that is not in force. One that has a step yet is judged after it."""
    touched = {step.key for step in steps}
    for key, found in observed.items():
        if key.kind != QUOTA_KIND or key in touched or not owner.owns(found):
            continue
        issue = None if is_terminating(found) else quota_pending(found)
        if issue is not None:
            return issue
    return None


def _is_claim_stale(volume: Manifest, observed: Mapping[ObjectKey, Manifest]) -> bool:
    """Whether a data set's volume is bound to a claim that is gone: no new one could bind to it."""
    reference: Mapping[str, Any] = (volume.get("spec") or {}).get("claimRef") or {}
    if not reference.get("uid"):
        return False
    key = ObjectKey(
        "PersistentVolumeClaim", reference.get("namespace", ""), reference.get("name", "")
    )
    claim = observed.get(key)
    return claim is None or uid_of(claim) != reference["uid"]


def _plan_rest(
    desired: Sequence[Manifest],
    observed: Mapping[ObjectKey, Manifest],
    owner: Owner,
    steps: list[Step],
    issues: list[Issue],
) -> None:
    """What is there and not wanted."""
    wanted = {key_of(manifest) for manifest in desired}
    for key in sorted(observed.keys() - wanted, reverse=True):
        found = observed[key]
        if is_terminating(found):
            continue
        labels = found["metadata"].get("labels") or {}
        if not owner.owns(found):
            if key.kind == "NetworkPolicy":
                message = (
                    f"{key} is not ours ({owner.describe_other(found)}). Policies add up, so it "
                    "may let through what the team's rules do not. It is left alone."
                )
                issues.append(Issue(IssueType.FOREIGN_NETWORK_POLICY, "Exists", message))
        elif key.kind in PRUNED_KINDS:
            reason, version = "it is no longer wanted", version_of(found)
            steps.append(
                Step(Action.DELETE, key, reason, uid=uid_of(found), resource_version=version)
            )
        elif labels.get(LABEL_COMPONENT) != COMPONENT_PERSONAL_VOLUME:
            message = (
                f"{key} is no longer wanted. It is kept: volumes and namespaces are deleted only "
                "by a decision of their owner."
            )
            issues.append(Issue(IssueType.RETAINED, "NotWanted", message))


def _with_mark(
    plan: Plan,
    manifest: Manifest,
    observed: Mapping[ObjectKey, Manifest],
    owner: Owner,
    ready_hash: str,
) -> tuple[Step, ...]:
    """The steps, with the ready mark at the end or its removal at the beginning."""
    key, steps = key_of(manifest), plan.steps
    found = observed.get(key)
    if found is not None and not owner.owns(found):
        found = None
    annotations = (found or {}).get("metadata", {}).get("annotations") or {}
    mark = annotations.get(ANNOTATION_READY_HASH)
    # An apply of the manifest without the mark takes the mark away.
    is_lost = any(step.key == key for step in steps)
    is_unused = not any(there.kind == "PersistentVolumeClaim" for there in observed)
    is_alone = len(steps) == 1 and not plan.is_blocked
    if is_unused or is_alone:
        steps = tuple(s for s in steps if s.key != key or s.action is not Action.CREATE)
    # One that is made by these steps is not the one that was found.
    is_another = any(step.key == key and step.action is Action.DELETE for step in steps)
    uid = uid_of(found) if found is not None and not is_another else None
    if plan.is_blocked:
        if mark is None or is_lost:
            return steps
        reason = "something stands in the way"
        return (Step(Action.UNMARK_READY, key, reason, manifest, uid), *steps)
    # The spec's hash does not tell how it is rendered: while a wall changes there is no mark.
    is_open = mark is not None and any(step.key.kind in _WALLS for step in steps)
    if mark == ready_hash and not is_lost and not is_open:
        return steps
    if is_open and not is_lost:
        steps = (
            Step(Action.UNMARK_READY, key, "a wall is not as it should be", manifest, uid),
            *steps,
        )
    reason = "all stands"
    return (*steps, Step(Action.MARK_READY, key, reason, marked(manifest, ready_hash), uid))


def bearer_of(desired: Sequence[Manifest]) -> Manifest:
    """The manifest that bears the ready mark: the hub's rights in the namespace."""
    return next(manifest for manifest in desired if manifest["kind"] == "RoleBinding")


def marked(manifest: Manifest, ready_hash: str) -> Manifest:
    """The manifest with the ready mark."""
    meta = manifest["metadata"]
    annotations = {**(meta.get("annotations") or {}), ANNOTATION_READY_HASH: ready_hash}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}
