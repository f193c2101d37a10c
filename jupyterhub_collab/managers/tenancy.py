"""Keeps every team's namespace as the hub's groups say.

Wanted: the hub's groups, read every few seconds and at once when somebody nudges. There: the
cluster's watches. A team whose two sides differ is queued; workers take teams from the queue, a
few of them kept free for what is urgent. While nothing differs, nothing is asked of Kubernetes.

Where a team's spec cannot be had any more (its group is gone, its properties are not valid), what
it has is kept as its namespace's annotation says, so that its walls still stand. Nothing is ever
deleted because a group is gone: only a group that says so has its team destroyed, and only when the
cluster releases it. Until then its walls stand and are healed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Final

from pydantic import ValidationError

from .. import names
from ..constants import ANNOTATION_SPEC, ANNOTATION_SPEC_HASH
from ..errors import PermanentError, RetryableError, SpecError
from ..kube.informer import Change
from ..models import HubGroup, Platform, TeamSpec
from ..reconcile.backoff import Backoff
from ..reconcile.conditions import State
from ..reconcile.engine import Engine, Outcome
from ..reconcile.issues import Issue, IssueType
from ..reconcile.objects import Manifest, Owner, is_terminating
from ..reconcile.observed import ClusterView
from ..reconcile.plan import Plan
from ..reconcile.queue import Lane, WorkQueue
from ..reconcile.volumes import GROWTH_REFUSED
from ..timeouts import TIMED_OUT, timeout
from .group_reader import GroupReader, Groups
from .tenancy_brake import FightBrake
from .tenancy_desired import DesiredTeams, Properties, contest_of, says_destroy
from .tenancy_removal import TeamRemoval
from .tenancy_rendered import RenderedTeams
from .tenancy_status import TeamStatus, next_status

log = logging.getLogger(__name__)

_REFUSED_DELAY_S: Final = 5.0  # shortest wait where time alone heals nothing
_FIGHT_DELAY_S: Final = 10.0  # nothing, not even drift, is answered before


@dataclass(frozen=True)
class TenancySettings:
    """How eager to be.

    Attributes
    ----------
    poll_s
        Seconds between two reads of all groups.
    concurrency, urgent_concurrency
        Teams worked on at once, and how many of these places only urgent work may take.
    """

    poll_s: float = 10.0
    concurrency: int = 16
    urgent_concurrency: int = 4
    backoff: Backoff = field(default_factory=Backoff)


@dataclass(frozen=True)
class Desired:
    """What a team should have now.

    Attributes
    ----------
    manifests, target_hash
        The tenancy and its spec's hash; empty when nobody knows: nothing can be done.
    issues
        Why that is not what the groups say, if it is not.
    spec_hash
        Of what the groups say; None when they say nothing valid.
    """

    manifests: tuple[Manifest, ...] = ()
    target_hash: str = ""
    issues: tuple[Issue, ...] = ()
    spec_hash: str | None = None
    state: State = State.READY  # once all stands


class TenancyManager:
    """The use case. `run` it as a task; everything else is called from the same event loop.

    Parameters
    ----------
    on_ready
        Told of a team that stands, with its namespace, at each pass that finds it so.
    on_pass
        Told of each pass: team, seconds, outcome (None: it had nothing to do with the cluster).
    """

    def __init__(
        self,
        engine: Engine,
        view: ClusterView,
        groups: Groups,
        platform: Platform,
        *,
        settings: TenancySettings | None = None,
        on_ready: Callable[[TeamStatus, Mapping[str, Any]], None] = lambda _status, _ns: None,
        on_pass: Callable[[str, float, Outcome | None], None] = lambda _team, _s, _outcome: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._engine, self._view, self._groups = engine, view, groups
        self._reader = GroupReader(groups, clock=clock)
        self._platform = platform
        self._settings = settings or TenancySettings()
        self._on_ready, self._on_pass = on_ready, on_pass
        self._clock, self._now, self._sleep = clock, now, sleep
        self._desired = DesiredTeams()
        self._rendered = RenderedTeams(self._desired, platform)
        self._brake = FightBrake()
        self._removal = TeamRemoval(engine, view, platform, uphold=self._uphold)
        self._queue = WorkQueue(self._settings.backoff)
        self._statuses: dict[str, TeamStatus] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._has_groups = False
        self._started = False
        self.hub_error: str | None = None

    # ---- what can be asked

    @property
    def is_ready(self) -> bool:
        """Whether both sides are known: answers before that would be guesses."""
        return self._view.is_synced and self._has_groups

    @property
    def queue_length(self) -> int:
        """Teams that wait for work."""
        return len(self._queue)

    def watches_down(self) -> list[str]:
        """Kinds of objects whose changes are not seen at the moment."""
        return self._view.lagging()

    def status(self, team: str) -> TeamStatus | None:
        """State of one team, None when neither the hub nor the cluster knows it."""
        return self._statuses.get(team)

    def statuses(self) -> list[TeamStatus]:
        """State of all teams, by id."""
        return [self._statuses[team] for team in sorted(self._statuses)]

    def plan(
        self,
        team: str,
        properties: Properties | None = None,
        contest_properties: Properties | None = None,
    ) -> Plan:
        """What a pass would change now, or would if the groups said so.

        Raises
        ------
        SpecError
            The properties are not valid.
        KeyError
            No such team, and no properties given.
        """
        said = properties if properties is not None else self._desired.source_of(team)[0]
        if said is not None and says_destroy(team, said):
            return self._removal.plan(team, contest_of(said))
        if properties is None:
            rendered = self._rendered.of_team(team)
        else:
            spec = self._desired.merge(team, properties, contest_properties)
            rendered = self._rendered.of_spec(spec)
        return self._engine.plan(
            rendered.manifests, owner=self._owner(team), ready_hash=rendered.hash
        )

    async def refresh(self, team: str) -> TeamStatus | None:
        """Read one team's groups now and have it worked on at once. None: there is no such group.

        Raises
        ------
        SpecError
            What the groups say is not valid.
        RetryableError, PermanentError
            The hub did not answer as it should.
        """
        await self._reread(team)
        contest = self._desired.contest_of(team)
        if contest:
            await self._reread(names.contest_group(contest))
        if team not in self._desired:
            return None
        if self._desired.is_doomed(team):
            self._enqueue(team, Lane.URGENT)
            status = self._statuses.get(team)
            is_known = status is not None and status.is_doomed
            return status if is_known else self._set(team, State.DESTROYING)
        rendered = self._rendered.of_team(team)
        plan = self._engine.plan(
            rendered.manifests, owner=self._owner(team), ready_hash=rendered.hash
        )
        status = self._statuses.get(team)
        is_old = status is None or status.spec_hash != rendered.hash
        if is_old or plan.steps or plan.is_blocked:
            self._enqueue(team, Lane.URGENT)
        if is_old or plan.steps:  # what was said of it is no longer true
            self._set(team, State.PROVISIONING, spec_hash=rendered.hash)
        return self._statuses.get(team)

    async def refresh_groups(self, group_names: list[str]) -> set[str]:
        """Read these groups now. Returns the teams that changed, all of which are queued."""
        look = self._reader.look(group_names)
        changed: set[str] = set()
        for name in self._reader.in_order(group_names):  # those of a page right after it was read
            changed |= self._take(name, *await look.ask(name))
        return changed

    async def _reread(self, name: str) -> None:
        asked_at = self._clock()
        self._take(name, asked_at, await self._groups.read_group(name), is_urgent=True)

    def _take(
        self, name: str, asked_at: float, group: HubGroup | None, *, is_urgent: bool = False
    ) -> set[str]:
        properties = group.properties if group is not None else None
        changed = self._desired.replace_one(name, properties, asked_at=asked_at)
        for team in changed:
            self._enqueue(team, Lane.URGENT if is_urgent and team == name else Lane.BULK)
        return changed

    # ---- the loops

    async def run(self) -> None:
        """Work until cancelled. A pass that is cut off is taken up by the next run."""
        self._queue = WorkQueue(self._settings.backoff)
        self._started = False
        # Another provisioner may have worked meanwhile: what was known is no answer any more.
        self._has_groups = False
        self._view.invalidate()
        try:
            await _run_together(self._view.run(), self._work())
        finally:
            passes = list(self._running.values())
            for task in passes:
                task.cancel()
            await asyncio.gather(*passes, return_exceptions=True)
            self._running.clear()  # one cancelled before it began does not take itself out

    async def _work(self) -> None:
        await self._view.wait_synced()
        while not await self._poll():
            pass
        self._started = True
        for team in self._view.teams() | set(self._desired):
            self._enqueue(team)
        await _run_together(self._poll_forever(), self._dispatch())

    async def _poll_forever(self) -> None:
        while True:
            await self._sleep(self._settings.poll_s)
            await self._poll()

    async def _poll(self) -> bool:
        """Read all groups; whether the hub answered. Waits before it says no."""
        asked_at = self._clock()
        try:
            groups = await self._groups.list_groups()
        except (RetryableError, PermanentError) as error:
            self.hub_error = str(error)
            log.warning("Cannot read the hub's groups: %s", error)
            asked_s = error.retry_after_s if isinstance(error, RetryableError) else None
            await self._sleep(max(asked_s or 0.0, min(2.0, self._settings.poll_s)))
            return False
        self.hub_error = None
        self._reader.learn(groups)
        changed, gone = self._desired.replace_all(groups.values(), asked_at=asked_at)
        self._has_groups = True
        for team in changed | gone:
            self._enqueue(team)
        return True

    def on_drift(self, team: str, change: Change) -> None:
        """One of a team's objects changed, by our own hand perhaps."""
        if not self._started:
            return
        # The way down waits for more than what was wanted once. It is bulk work all the same: the
        # end of a contest of 5,000 teams must not go before another contest's one new team.
        if self._desired.is_doomed(team):
            self._enqueue(team)
        elif self._engine.is_news(change, self._owner(team)):
            self._enqueue(team, Lane.URGENT)

    def _enqueue(self, team: str, lane: Lane = Lane.BULK) -> None:
        group = self._desired.contest_of(team)
        self._queue.add(team, group=group, lane=lane, now=self._clock())
        if team not in self._statuses and team in self._desired:
            self._set(team, State.PENDING)
        self._wake.set()

    async def _dispatch(self) -> None:
        """Start passes as places come free. One team is never worked on twice at a time."""
        places, kept = self._settings.concurrency, self._settings.urgent_concurrency
        while True:
            self._wake.clear()
            while len(self._running) < places:
                only = len(self._running) >= places - kept
                team = self._queue.take(self._clock(), urgent_only=only)
                if team is None:
                    break
                self._running[team] = asyncio.create_task(self._pass(team))
            due = self._queue.next_due()
            try:
                async with timeout(None if due is None else due - self._clock()):
                    await self._wake.wait()
            except TIMED_OUT:
                continue

    async def _pass(self, team: str) -> None:
        began = self._clock()
        outcome: Outcome | None = None
        try:
            outcome = await self._reconcile(team)
        except Exception as error:  # a bug must cost one team one pass, not all teams everything
            log.exception("A pass over team %s broke", team)
            self._fail(team, error)
            outcome = Outcome(False, error=RetryableError(str(error)))
        finally:
            del self._running[team]
            self._wake.set()
        self._on_pass(team, self._clock() - began, outcome)
        now = self._clock()
        if outcome is None or (outcome.error is None and not _is_stuck(outcome)):
            self._queue.done(team, now)
            return
        error_ = outcome.error
        asked_s = error_.retry_after_s if isinstance(error_, RetryableError) else None
        if _is_contested(outcome):
            log.warning("Team %s: another program changes its objects again and again", team)
            asked_s = max(asked_s or 0.0, _FIGHT_DELAY_S)
        at_least_s = 0.0 if isinstance(error_, RetryableError) else _REFUSED_DELAY_S
        self._queue.failed(team, now, asked_s=asked_s, at_least_s=at_least_s)
        self._wake.set()

    # ---- one team

    def _owner(self, team: str) -> Owner:
        return Owner(self._platform.hub_id, team)

    async def _remove(self, team: str) -> Outcome:
        removal = await self._removal.run(team, self._desired.contest_of(team))
        issues = removal.outcome.issues
        last_error = _message(i for i in issues if i.is_blocking and not i.is_passing)
        self._set(team, removal.state, issues=issues, last_error=last_error)
        return removal.outcome

    async def _uphold(self, team: str) -> Outcome | None:
        """Keep up what a team has that may not be deleted yet; None when nobody knows what."""
        kept = self._as_asked(team)
        if not kept.manifests:
            return None
        outcome = await self._engine.reconcile(
            kept.manifests, owner=self._owner(team), ready_hash=kept.target_hash
        )
        return replace(outcome, issues=(*kept.issues, *outcome.issues))

    def _is_retry(self, team: str, spec_hash: str | None) -> bool:
        """Whether a pass over this spec failed. Why stays told until the next one is over."""
        status = self._statuses.get(team)
        return status is not None and bool(status.last_error) and status.spec_hash == spec_hash

    async def _reconcile(self, team: str) -> Outcome | None:
        if self._desired.is_doomed(team) and not self._is_reserved(team):
            return await self._remove(team)
        desired = self._desire(team)
        if desired is None:
            self._statuses.pop(team, None)
            self._brake.forget(team)
            return None
        if not desired.manifests:
            self._set(
                team,
                desired.state,
                issues=desired.issues,
                spec_hash=desired.spec_hash,
                last_error=_message(desired.issues),
            )
            return None
        is_new = self._ready_hash(team) != desired.target_hash
        if desired.state is State.READY and is_new and not self._is_retry(team, desired.spec_hash):
            self._set(team, State.PROVISIONING, spec_hash=desired.spec_hash)
        outcome = await self._engine.reconcile(
            desired.manifests, owner=self._owner(team), ready_hash=desired.target_hash
        )
        fight = self._brake.wrote(team, self._clock()) if outcome.writes else None
        if fight is not None:
            outcome = replace(outcome, issues=(*outcome.issues, fight))
        self._tell(team, desired, outcome)
        return outcome

    def _desire(self, team: str) -> Desired | None:
        """What a team should have; None when it is known neither here nor there."""
        if team not in self._desired:
            if self._view.namespace_of(team) is None:
                return None
            message = (
                f"The hub has no group {team!r} any more. What the team has in the cluster is kept "
                "as it is; it is deleted only by a decision of its owner."
            )
            issue = Issue(IssueType.ORPHANED, "GroupGone", message)
            return self._as_written(team, issue, State.ORPHANED)
        if self._is_reserved(team):
            namespace = names.namespace_of(team, prefix=self._platform.namespace_prefix)
            message = (
                f"The namespace of team {team!r} would be {namespace}, which no team may have. "
                "Give the team another id."
            )
            issue = Issue(IssueType.RESERVED_NAMESPACE, "Reserved", message)
            return Desired(issues=(issue,), state=State.FAILED)
        return self._as_asked(team)

    def _is_reserved(self, team: str) -> bool:
        namespace = names.namespace_of(team, prefix=self._platform.namespace_prefix)
        home = self._platform.hub_namespace
        return names.is_reserved_namespace(namespace, hub_namespace=home)

    def _as_asked(self, team: str) -> Desired:
        """As the groups say; as it was given last, where what they say is not valid."""
        try:
            rendered = self._rendered.of_team(team)
        except SpecError as error:
            issue = Issue(IssueType.SPEC_INVALID, "Invalid", str(error))
            return self._as_written(team, issue, State.FAILED)
        return Desired(rendered.manifests, rendered.hash, spec_hash=rendered.hash)

    def _as_written(self, team: str, issue: Issue, state: State) -> Desired:
        """Keep up what the team's namespace says it was given last."""
        spec = self._written_spec(team)
        if spec is not None:
            try:
                rendered = self._rendered.of_spec(spec)
            except SpecError:  # written for a platform that allowed more
                return Desired((), spec.hash(), (issue,), state=state)
            return Desired(rendered.manifests, rendered.hash, (issue,), state=state)
        return Desired(issues=(issue,), state=state)

    def _written_spec(self, team: str) -> TeamSpec | None:
        """The spec on the team's namespace, if it is ours and says what its hash says."""
        namespace = self._view.namespace_of(team)
        if namespace is None or not self._owner(team).owns(namespace):
            return None
        annotations = namespace["metadata"].get("annotations") or {}
        try:
            spec = TeamSpec.model_validate_json(annotations.get(ANNOTATION_SPEC, ""))
        except ValidationError:
            return None
        if spec.team != team or spec.hash() != annotations.get(ANNOTATION_SPEC_HASH):
            return None
        return spec

    def _ready_hash(self, team: str) -> str | None:
        namespace = self._view.namespace_of(team)
        if namespace is None or is_terminating(namespace):
            return None
        return self._view.ready_hash_of(team)

    def _tell(self, team: str, desired: Desired, outcome: Outcome) -> None:
        issues = (*desired.issues, *outcome.issues)
        state: State
        if desired.state is not State.READY or outcome.is_ready:
            state = desired.state
        elif isinstance(outcome.error, RetryableError) or all(
            issue.is_passing for issue in issues if issue.is_blocking
        ):
            state = State.PROVISIONING
        else:
            state = State.FAILED
        last_error = _message(i for i in issues if i.is_blocking)
        status = self._set(
            team, state, issues=issues, spec_hash=desired.spec_hash, last_error=last_error
        )
        namespace = self._view.namespace_of(team)
        if status.is_ready and namespace is not None:
            self._on_ready(status, namespace)

    def _fail(self, team: str, error: Exception) -> None:
        issue = Issue(
            IssueType.UNREACHABLE,
            type(error).__name__,
            "The provisioner failed in a way nobody foresaw; its log says more. Trying again.",
        )
        before = self._statuses.get(team)
        self._set(
            team,
            State.PROVISIONING,
            issues=(issue,),
            spec_hash=before.spec_hash if before else None,
            last_error=issue.message,
        )

    def _set(
        self,
        team: str,
        state: State,
        *,
        issues: tuple[Issue, ...] = (),
        spec_hash: str | None = None,
        last_error: str | None = None,
    ) -> TeamStatus:
        before = self._statuses.get(team)
        status = next_status(
            before,
            team=team,
            contest=self._desired.contest_of(team) or (before.contest if before else ""),
            namespace=self._platform.namespace_prefix + team,
            state=state,
            now=self._now(),
            issues=issues,
            spec_hash=spec_hash,
            ready_hash=self._ready_hash(team),
            last_error=last_error,
        )
        if before is not None and replace(before, updated=status.updated) == status:
            return before
        self._statuses[team] = status
        if before is None or before.state is not status.state:
            is_news = status.state not in (State.PENDING, State.PROVISIONING)
            level = logging.INFO if is_news else logging.DEBUG
            log.log(level, "Team %s is %s", team, status.state.value)
        return status


async def _run_together(*loops: Coroutine[Any, Any, None]) -> None:
    """Run loops that should never end; the first exception ends them all, and comes out."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_stuck(outcome: Outcome) -> bool:
    """Whether something no watch tells of is in the way, so that only looking again helps."""
    return any(
        issue.type in (IssueType.NOT_OURS, IssueType.CONTESTED) or issue.reason == GROWTH_REFUSED
        for issue in outcome.issues
    )


def _is_contested(outcome: Outcome) -> bool:
    return any(issue.type is IssueType.CONTESTED for issue in outcome.issues)


def _message(issues: Iterable[Issue]) -> str | None:
    return "\n".join(issue.message for issue in issues) or None
