"""Carries out plans, one step after the other, and learns from the answers.

Every write says which object it means (by uid or by version, or that there must be none), so that a
write based on old knowledge is refused by the API server instead of hitting another's object. A
refusal of that sort is answered by reading the object and planning anew. Whatever else fails ends
the pass: who called decides when to try again. A pass may be cut off at any point; the next one
takes up what it finds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..constants import ANNOTATION_OBJECT_HASH, ANNOTATION_READY_HASH
from ..errors import PermanentError, RetryableError
from ..kube.errors import ConflictError, NotFoundError, PermanentKubeError, is_policy_refusal
from ..kube.informer import Change
from ..kube.kinds import NAMESPACE, ROLE_BINDING, Kind, kind_named, kind_of
from .compare import Deviation, find_deviations
from .issues import Issue, IssueType
from .objects import Manifest, ObjectKey, Owner, is_terminating, key_of, uid_of, version_of
from .plan import Action, Memory, Plan, Step, bearer_of, is_settled, not_ours, plan_objects
from .quota import QUOTA_KIND, is_quota_refusal
from .removal import Doomed, not_released, plan_removal
from .volumes import VOLUME_KINDS

log = logging.getLogger(__name__)

_ROUNDS: Final = 6  # plans in one pass; each but the first follows a surprise, or the quota's step
# Of these kinds more counts than whether they are as wanted: whose work it is, what limits are in
# force, the ready mark.
_DECISIVE_KINDS: Final = frozenset({NAMESPACE.name, QUOTA_KIND, ROLE_BINDING.name})
_REFUSED_FOR_S: Final = 600.0  # a storage class may allow growing by then
_CLEAN: Final = 4000  # objects of the teams that are worked on; older ones are compared again
# From here on namespaces are always emptied of pods first (KEP-5080, OrderedNamespaceDeletion).
_ORDERED_SINCE: Final = (1, 34)


class ObjectClient(Protocol):
    """What the engine asks of the Kubernetes API. `kube.KubeClient` is one."""

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Manifest: ...

    async def apply(
        self,
        manifest: Mapping[str, Any],
        *,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Manifest: ...

    async def apply_new(self, manifest: Mapping[str, Any]) -> Manifest: ...

    async def patch(
        self, kind: Kind, name: str, patch: Any, *, namespace: str | None = None
    ) -> Manifest: ...

    async def delete(
        self,
        kind: Kind,
        name: str,
        *,
        namespace: str | None = None,
        uid: str | None = None,
        resource_version: str | None = None,
    ) -> Manifest: ...

    async def version(self) -> tuple[int, int]: ...


class Observed(Protocol):
    """What is known of the cluster, and how to correct it."""

    def objects_of(self, team: str) -> Mapping[ObjectKey, Manifest]:
        """All that is there of a team, others' objects in its way among them."""

    def find(self, key: ObjectKey) -> Manifest | None:
        """One of these objects."""

    def note(self, obj: Manifest) -> Manifest | None:
        """This is how an object was a moment ago. Returns how it is now, as far as is known."""

    def forget(self, key: ObjectKey, uid: str) -> None:
        """This object is gone."""


@dataclass(frozen=True)
class Outcome:
    """What a pass came to.

    Attributes
    ----------
    is_ready
        The whole tenancy stands; of a team to be destroyed: nothing of it is left.
    error
        What ended the pass early; it should be tried again.
    writes
        Changes made.
    """

    is_ready: bool
    issues: tuple[Issue, ...] = ()
    error: RetryableError | PermanentError | None = None
    writes: int = 0


class _PlanAnew(Exception):
    """The cluster is not as we thought; now we know better."""


class _CannotBecome(Exception):
    """A volume cannot become what it should; that is remembered for a while."""


class _QuotaFull(Exception):
    """Now the quota does not let a volume grow; that is remembered in this pass alone."""


class QuotaRefusedError(RetryableError):
    """Quota admission refused what fits the quota as written, or what will once others end."""


class ClusterTooOldError(PermanentError):
    """The cluster does not do what the way down relies on."""


class _Foreign(Exception):
    """Somebody else's object stands in the way."""

    def __init__(self, issue: Issue) -> None:
        super().__init__(issue.message)
        self.issue = issue


class Engine:
    """Plans and executes. One for all teams; never called twice at a time for one team."""

    def __init__(
        self,
        client: ObjectClient,
        observed: Observed,
        *,
        on_step: Callable[[Owner, Step], None] = lambda _owner, _step: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._observed = observed
        self._on_step, self._clock = on_step, clock
        self._settled: dict[ObjectKey, frozenset[Deviation]] = {}
        self._refused: dict[ObjectKey, tuple[str, float]] = {}  # wish, until when
        self._clean: OrderedDict[ObjectKey, tuple[Manifest, Manifest]] = OrderedDict()
        self._under_way: set[ObjectKey] = set()  # what is being written
        self._is_ordered = False  # the cluster takes pods before policies, as far as we know
        self._asking = asyncio.Lock()

    def plan(
        self,
        desired: Sequence[Manifest],
        *,
        owner: Owner,
        ready_hash: str,
        foreign: Mapping[ObjectKey, Issue] | None = None,
        full: Mapping[ObjectKey, str] | None = None,
    ) -> Plan:
        """What a pass would do now, with what it has learnt already."""
        now = self._clock()
        refused = {key: wish for key, (wish, until) in self._refused.items() if now < until}
        observed = self._observed.objects_of(owner.team)
        plan = plan_objects(
            desired,
            observed,
            owner=owner,
            ready_hash=ready_hash,
            memory=Memory(self._settled, {**refused, **(full or {})}, foreign or {}, self._clean),
        )
        for wish in plan.alike:
            self._remember(wish, observed[key_of(wish)])
        return plan

    def is_news(self, change: Change, owner: Owner) -> bool:
        """Whether a change that a watch tells calls for a pass over the owner's objects.

        It does not while that object is being written: most likely it tells of that very write, and
        who writes looks at what is known when the answer is there. Nor does it when the object is
        as it was wanted when it was last looked at, for that is all that a pass would find; whoever
        comes to want something else has a pass made anyway.
        """
        old, new = change.old, change.new
        if new is None:
            return True
        key = key_of(new)
        if key in self._under_way:
            return False
        wish, known = self._clean.get(key, (None, None))
        if wish is None or known is None or known is not old or key.kind in _DECISIVE_KINDS:
            return True
        if uid_of(known) != uid_of(new):
            return True
        observed = self._observed.objects_of(owner.team)
        if not is_settled(wish, observed, owner=owner):
            return True
        self._remember(wish, new)
        return False

    async def reconcile(
        self, desired: Sequence[Manifest], *, owner: Owner, ready_hash: str
    ) -> Outcome:
        """Make it so, as far as it can be had now."""
        writes = 0
        foreign: dict[ObjectKey, Issue] = {}
        full: dict[ObjectKey, str] = {}
        for _ in range(_ROUNDS):
            plan = self.plan(
                desired, owner=owner, ready_hash=ready_hash, foreign=foreign, full=full
            )
            is_as_planned = True
            for step in plan.steps:
                if not is_as_planned and step.action is Action.MARK_READY:
                    break
                try:
                    is_kept = await self._execute(step, owner)
                    writes += 1
                    # What comes after a quota depends on its being in force.
                    if not is_kept or step.key.kind == QUOTA_KIND:
                        is_as_planned = False
                        break
                except _QuotaFull as refusal:
                    if step.key in full:  # not its growth is refused: nothing can be left out
                        error = QuotaRefusedError(str(refusal))
                        return Outcome(False, (*plan.issues, _issue_of(error)), error, writes)
                    full[step.key] = _wish(step.manifest)
                    is_as_planned = False
                except _Foreign as found:
                    foreign[step.key] = found.issue
                    is_as_planned = False
                    if step.key == key_of(desired[0]):
                        break
                except _CannotBecome:
                    is_as_planned = False
                except _PlanAnew:
                    is_as_planned = False
                    break
                except (RetryableError, PermanentError) as failure:
                    if isinstance(failure, PermanentError):
                        writes += await self._unmark(bearer_of(desired), owner)
                    return Outcome(False, (*plan.issues, _issue_of(failure)), failure, writes)
            if not is_as_planned:
                continue
            return Outcome(not plan.is_blocked, plan.issues, None, writes)
        return self._give_up(owner, writes)

    def plan_removal(self, doomed: Doomed) -> Plan:
        """What `remove` would do now."""
        return plan_removal(doomed, self._observed.objects_of(doomed.owner.team))

    async def remove(self, doomed: Doomed) -> Outcome:
        """Delete what a team has, as far as it goes now. `is_ready`: nothing is left."""
        writes = 0
        for _ in range(_ROUNDS):
            plan = self.plan_removal(doomed)
            try:
                if any(step.key.kind == NAMESPACE.name for step in plan.steps):
                    await self._require_order()
                for step in plan.steps:
                    await self._execute(step, doomed.owner)
                    writes += 1
            except _PlanAnew:
                continue
            except (RetryableError, PermanentError) as failure:
                issue = _issue_of(failure)
                # What other policies ask of a deletion was planned for, so it is the one that asks
                # for a release; its own words are told in any case.
                if isinstance(failure, PermanentKubeError) and is_policy_refusal(failure):
                    issue = not_released(doomed, step.key, said=failure.message)
                return Outcome(False, (*plan.issues, issue), failure, writes)
            if not plan.steps:
                return Outcome(not plan.issues, plan.issues, None, writes)
        return self._give_up(doomed.owner, writes)

    async def _require_order(self) -> None:
        """See that the cluster ends a namespace's pods before it takes their walls away."""
        async with self._asking:  # many teams come at once, and one answer is for all of them
            found = _ORDERED_SINCE if self._is_ordered else await self._client.version()
        if found < _ORDERED_SINCE:
            least, is_ = (".".join(map(str, version)) for version in (_ORDERED_SINCE, found))
            raise ClusterTooOldError(
                f"This cluster is Kubernetes {is_}. Teams are destroyed from {least} on: an older "
                "one may take a namespace's network policies away before its pods end. Nothing "
                "was deleted. Upgrade the cluster, or have an administrator of the cluster delete "
                "the namespace by hand once no pod is left in it."
            )
        self._is_ordered = True

    @staticmethod
    def _give_up(owner: Owner, writes: int) -> Outcome:
        late = RetryableError(
            f"The objects of team {owner.team} changed while they were worked on. Trying again."
        )
        return Outcome(False, (_issue_of(late),), late, writes)

    async def _execute(self, step: Step, owner: Owner) -> bool:
        """Whether the object is still as the step left it."""
        self._on_step(owner, step)
        log.debug("%s %s of team %s: %s", step.action.value, step.key, owner.team, step.reason)
        if step.action is Action.DELETE:
            await self._delete(step)
            return True
        self._under_way.add(step.key)
        try:
            if step.action is Action.CREATE or step.uid is None:
                return await self._create(step, owner)
            return await self._apply(step, owner)
        finally:
            self._under_way.discard(step.key)

    async def _create(self, step: Step, owner: Owner) -> bool:
        is_mark = step.action is Action.MARK_READY
        if is_mark and self._observed.find(step.key) is not None:  # made a moment ago
            return await self._write(step, owner)
        try:
            answer = await self._client.apply_new(step.manifest)
        except ConflictError as error:
            found = await self._read(step)
            if found is None:
                raise _PlanAnew from error
            if not owner.owns(found):
                raise _Foreign(not_ours(step.key, found, owner)) from error
            self._observed.note(found)
            raise _PlanAnew from error
        except PermanentKubeError as error:
            if is_quota_refusal(error.message):
                raise QuotaRefusedError(f"{error}. Trying again.") from error
            raise
        return self._learn(step, answer)

    async def _apply(self, step: Step, owner: Owner) -> bool:
        if step.remove:
            meta: Manifest = {"uid": step.uid}
            if step.resource_version is not None:
                meta["resourceVersion"] = step.resource_version
            patch = _make_removal(step.remove)
            patch["metadata"] = {**patch.get("metadata", {}), **meta}
            try:
                answer = await self._client.patch(
                    kind_of(step.manifest), step.key.name, patch, namespace=_space(step.key)
                )
            except (ConflictError, NotFoundError) as error:
                await self._look_again(step)
                raise _PlanAnew from error
            self._observed.note(answer)
        return await self._write(step, owner)

    async def _write(self, step: Step, owner: Owner) -> bool:
        """Apply to the object as it is known now, if it is still the one, and still ours."""
        known = self._observed.find(step.key)
        if known is None or not owner.owns(known) or step.uid not in (None, uid_of(known)):
            raise _PlanAnew
        try:
            answer = await self._client.apply(
                step.manifest, uid=uid_of(known), resource_version=version_of(known)
            )
        except (ConflictError, NotFoundError) as error:
            await self._look_again(step)
            raise _PlanAnew from error
        except PermanentKubeError as error:
            wish, now = _wish(step.manifest), self._clock()
            known_wish, until = self._refused.get(step.key, ("", 0.0))
            if step.key.kind not in VOLUME_KINDS or (known_wish == wish and now < until):
                raise
            log.warning("%s stays as it is: %s", step.key, error)
            if is_quota_refusal(error.message):
                raise _QuotaFull(f"{error}. Trying again.") from error
            self._refused[step.key] = (wish, now + _REFUSED_FOR_S)
            raise _CannotBecome from error
        return self._learn(step, answer)

    async def _delete(self, step: Step) -> None:
        kind = kind_named(step.key.kind)
        try:
            answer = await self._client.delete(
                kind,
                step.key.name,
                namespace=_space(step.key),
                uid=step.uid,
                resource_version=step.resource_version,
            )
        except NotFoundError:
            answer = {}
        except ConflictError as error:
            await self._look_again(step)
            raise _PlanAnew from error
        # Some kinds answer with what is gone now, some with what lingers for its finalizers.
        if answer.get("kind") == step.key.kind and is_terminating(answer):
            self._observed.note(answer)
        else:
            self._observed.forget(step.key, step.uid or "")

    async def _look_again(self, step: Step) -> None:
        if await self._read(step, is_noted=True) is None:
            self._observed.forget(step.key, step.uid or "")

    async def _read(self, step: Step, *, is_noted: bool = False) -> Manifest | None:
        try:
            found = await self._client.get(
                kind_named(step.key.kind), step.key.name, _space(step.key)
            )
        except NotFoundError:
            return None
        if is_noted:
            self._observed.note(found)
        return found

    async def _unmark(self, bearer: Manifest, owner: Owner) -> int:
        """Take the ready mark away, as well as can be: the tenancy does not stand."""
        known = self._observed.find(key_of(bearer))
        if known is None or not owner.owns(known) or is_terminating(known):
            return 0
        if ANNOTATION_READY_HASH not in (known["metadata"].get("annotations") or {}):
            return 0
        try:
            answer = await self._client.apply(
                bearer, uid=uid_of(known), resource_version=version_of(known)
            )
        except (RetryableError, PermanentError) as error:
            log.warning("The ready mark of team %s stays for now: %s", owner.team, error)
            return 0
        self._observed.note(answer)
        return 1

    def _learn(self, step: Step, answer: Manifest) -> bool:
        """Take in the answer; whether what is known by now is still what was written."""
        known = self._observed.note(answer)
        left = frozenset(find_deviations(step.manifest, answer))
        if left:
            log.info(
                "%s keeps what the API server made of it: %s", step.key, sorted(map(str, left))
            )
            self._settled[step.key] = left
        else:
            self._settled.pop(step.key, None)
        if known is None:  # it is gone already, and whoever told so was believed
            return True
        if version_of(known) != version_of(answer):
            now = frozenset(find_deviations(step.manifest, known))
            if now != left or is_terminating(known):
                return False
        if not left:  # the view keeps this one, so the next plan can tell that it is the same
            self._remember(step.manifest, known)
        return True

    def _remember(self, wish: Manifest, found: Manifest) -> None:
        """These two are alike."""
        self._clean[key_of(wish)] = (wish, found)
        if len(self._clean) > _CLEAN:
            self._clean.popitem(last=False)


def _wish(manifest: Manifest) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_OBJECT_HASH, ""))


def _issue_of(error: RetryableError | PermanentError) -> Issue:
    if isinstance(error, QuotaRefusedError):
        return Issue(IssueType.QUOTA_PENDING, "Refused", str(error))
    if isinstance(error, ClusterTooOldError):
        return Issue(IssueType.CLUSTER_TOO_OLD, "NotOrdered", str(error))
    is_refusal = isinstance(error, PermanentError)
    kind = IssueType.REFUSED if is_refusal else IssueType.UNREACHABLE
    reason = str(getattr(error, "reason", "")) or type(error).__name__
    return Issue(kind, reason, str(error))


def _make_removal(paths: Sequence[tuple[str, ...]]) -> Manifest:
    """Merge patch that takes these fields away."""
    root: Manifest = {}
    for path in paths:
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = None
    return root


def _space(key: ObjectKey) -> str | None:
    return key.namespace or None
