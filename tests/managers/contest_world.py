"""A registry (on SQLite), a hub and a provisioner made for faults, a worker that may be killed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event

from jupyterhub_collab.errors import AuditUnavailableError
from jupyterhub_collab.managers.contest_outbox import TransitionOutbox
from jupyterhub_collab.managers.contest_projection import Projection
from jupyterhub_collab.managers.contest_statuses import TeamStatuses
from jupyterhub_collab.managers.contest_steps import (
    StepHandlers,
    StepResult,
    StepSettings,
    StepWork,
)
from jupyterhub_collab.managers.contest_walk import HANDLERS
from jupyterhub_collab.managers.contest_worker import ContestWorker, WorkerSettings
from jupyterhub_collab.models import ContestManifest
from jupyterhub_collab.models.audit import AuditEvent
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionRequest,
    ContestRecord,
    Operation,
    OperationState,
    Step,
    TeamRecord,
)
from jupyterhub_collab.policy.contest_actions import hash_plan, plan_action
from jupyterhub_collab.policy.contest_courses import steps_of
from jupyterhub_collab.policy.problems import to_document
from jupyterhub_collab.reconcile.backoff import Backoff
from jupyterhub_collab.storage.contests import ContestStore
from tests.managers.contest_hub import FakeHub, FakeProvisioner, Killed, Points

BEGIN = datetime(2027, 3, 1, 12, tzinfo=timezone.utc)
NOTICE = timedelta(hours=1)
WINDOW = timedelta(days=2)


def manifest(contest: str = "sea", **endings: Any) -> ContestManifest:
    """Two rounds; the second has a larger tier and another image."""
    size = {"cpu": "2", "memory": "4Gi", "storage": "10Gi", "ephemeralStorage": "5Gi", "pods": 4}
    wire = {
        "apiVersion": "jupyterhub-collab.org/v1alpha1",
        "kind": "Contest",
        "contest": {"id": contest, "title": "The sea", "timeZone": "Europe/Berlin"},
        "tiers": {"small": size, "large": {**size, "cpu": "4"}},
        "images": {
            "basic": {"title": "Basic", "image": "registry.example.org/basic:1"},
            "deep": {"title": "Deep", "image": "registry.example.org/deep:1"},
        },
        "profiles": {"all": {"title": "All", "cpu": "1", "memory": "1Gi"}},
        "rounds": [
            {"title": "First", "images": ["basic"]},
            {"title": "Second", "tier": "large", "images": ["deep"]},
        ],
        "endings": {
            "noticeSeconds": int(NOTICE.total_seconds()),
            "exportWindowSeconds": int(WINDOW.total_seconds()),
            **endings,
        },
    }
    return to_document(ContestManifest, wire)


class FakeRecorder:
    """Keeps what it is told; may be away."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.is_away = False

    def emit(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def record(self, event: AuditEvent) -> None:
        if self.is_away:
            raise AuditUnavailableError
        self.events.append(event)

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        self.events.extend(events)
        return len(events)


class World:
    """Everything that outlives a worker.

    Attributes
    ----------
    points
        Where workers that are made from now on may be killed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "contests.sqlite"
        self.engine, is_new = self.open_database()
        self.store = ContestStore(self.engine)
        if is_new:
            self.store.upgrade()
        self.now = BEGIN
        self.hub = FakeHub(lambda: self.now)
        self.provisioner = FakeProvisioner(self.hub)
        self.recorder = FakeRecorder()
        self.points = Points()
        self.settings = StepSettings()
        self.handlers: dict[Step, Any] = {**HANDLERS, **ENDING}
        self.keys = 0

    def open_database(self) -> tuple[Engine, bool]:
        """The registry's, and whether it is empty."""
        is_new = not self.file.exists()
        engine = create_engine(f"sqlite:///{self.file}")
        # Processes die here, not the machine.
        event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
        return engine, is_new

    def copy_database(self, other: World) -> None:
        """The registry is as that one's is now."""
        for world in (self, other):
            world.engine.dispose()
        for part in self.file.parent.glob(f"{self.file.name}*"):
            part.unlink()
        for part in other.file.parent.glob(f"{other.file.name}*"):
            shutil.copyfile(part, self.file.with_name(part.name))

    def copy(self, folder: Path) -> World:
        """Another that is as this one is now."""
        other = type(self)(folder)
        other.become(self)
        return other

    def become(self, other: World) -> None:
        """Be as that one is now; it does nothing meanwhile."""
        self.copy_database(other)
        self.recorder.events = other.recorder.events.copy()
        self.now, self.keys, self.settings = other.now, other.keys, other.settings
        for name in ("groups", "users", "servers", "slow"):
            setattr(self.hub, name, getattr(other.hub, name).copy())
        self.provisioner.ready = dict(other.provisioner.ready)
        self.provisioner.released = set(other.provisioner.released)

    def close(self) -> None:
        self.store.close()
        self.engine.dispose()

    async def put(
        self,
        contest: ContestRecord,
        teams: Iterable[TeamRecord] = (),
        rosters: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """A new contest."""
        await self.store.put_contest(
            contest, teams, rosters or {}, expected_generation=None, by="hanna", at=self.now
        )

    async def act(self, contest: str, action: Action, **request: Any) -> Operation:
        """As a host does it."""
        self.keys += 1
        asked = ActionRequest(action=action, **request)
        record = await self.store.contest(contest)
        assert record is not None
        teams = await self.store.teams(contest)
        courses = await self.store.courses(contest)
        plan = plan_action(asked, record, teams, courses, now=self.now)
        operation = Operation(
            number=0,
            contest=contest,
            request=asked,
            state=OperationState.RUNNING,
            key=f"key-{self.keys}",
            asked_by="hanna",
            asked_at=self.now,
            plan_hash=hash_plan(plan),
        )
        return await self.store.commit(plan, operation, at=self.now)

    def outbox(self) -> TransitionOutbox:
        """What tells of transitions, in a process that starts."""
        return TransitionOutbox(
            _Killable(self.store, self.points),  # type: ignore[arg-type]
            _KillableRecorder(self.recorder, self.points),
            sleep=no_sleep,
        )

    def parts(self) -> tuple[ContestWorker, Projection]:
        """A worker and a projection, as a process that starts has them."""
        points = self.points
        self.hub.at = points
        projection = Projection(
            self.store,
            self.hub,  # type: ignore[arg-type]
            self.provisioner,  # type: ignore[arg-type]
            clock=lambda: (self.now - BEGIN).total_seconds(),
            sleep=no_sleep,
        )
        worker = ContestWorker(
            _Killable(self.store, points),  # type: ignore[arg-type]
            self.hub,  # type: ignore[arg-type]
            self.provisioner,  # type: ignore[arg-type]
            projection,
            _killable(self.handlers, points),
            recorder=self.recorder,
            now=lambda: self.now,
            statuses=TeamStatuses(
                self.provisioner, clock=lambda: (self.now - BEGIN).total_seconds()
            ),
            settings=WorkerSettings(
                waiting=Backoff(1.0, 3600.0, uniform=lambda low, high: high),
                failing=Backoff(2.0, 300.0, uniform=lambda low, high: high),
            ),
            steps=self.settings,
            sleep=no_sleep,
        )
        return worker, projection

    async def go(self, *, until: datetime | None = None) -> None:
        """Work with one process until nothing is left to do, or until that moment.

        Raises
        ------
        Killed
            As `points` has it; make another process by calling it again.
        """
        worker, projection = self.parts()
        outbox = self.outbox()
        try:
            for _ in range(2000):
                while await projection.sweep():
                    pass
                await worker.run_due()
                while await projection.sweep():
                    pass
                while await outbox.tell_some():
                    pass
                due = await self.store.next_due()
                if due is None or (until is not None and due > until):
                    self.now = max(self.now, until or self.now)
                    return
                self.now = max(self.now, due)
        except BaseException as error:
            if self.points.is_dead:  # whatever became of it on the way here
                raise Killed from error
            raise
        finally:
            # Whoever is killed does nothing more.
            await projection.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        raise AssertionError("it never ends")


async def no_sleep(seconds: float) -> None:
    """Time passes at once."""


class _Killable:
    """The store, with a place to be killed at after each write of the worker's."""

    def __init__(self, store: ContestStore, points: Points) -> None:
        self._store, self._points = store, points

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("step_done", "step_failed", "update_team", "put_notice", "mark_told"):
            return found

        async def killable(*args: Any, **more: Any) -> Any:
            answer = await found(*args, **more)
            self._points(f"after {name}")
            return answer

        return killable


class _KillableRecorder:
    """The recorder, with a place to be killed at after each event."""

    def __init__(self, recorder: FakeRecorder, points: Points) -> None:
        self._recorder, self._points = recorder, points

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        kept = await self._recorder.keep(events)
        self._points("after keep")
        return kept


def _killable(handlers: StepHandlers, points: Points) -> StepHandlers:
    def wrap(step: Step) -> Any:
        async def handler(work: StepWork) -> StepResult:
            assert steps_of(work.course.kind)[work.course.step] is step
            points(f"before {step.value}")
            result = await handlers[step](work)
            points(f"after {step.value}")
            return result

        return handler

    return {step: wrap(step) for step in handlers}


async def _nothing(work: StepWork) -> StepResult:
    return StepResult.done()


async def _remove_shared(work: StepWork) -> StepResult:
    await work.hub.delete_group(f"contest.{work.contest.id}")
    return StepResult.done()


ENDING: dict[Step, Any] = {
    Step.ARCHIVE: _nothing,
    Step.REMOVE_SHARED: _remove_shared,
    Step.SCAN: _nothing,
    Step.CERTIFY: _nothing,
}
"""In place of what `managers.contest_ending` does."""


async def state_of(world: World) -> dict[str, Any]:
    """All that may not depend on who died when: without numbers that only count changes."""
    contests = await world.store.contests()
    teams = [team for c in contests for team in await world.store.teams(c.id)]
    assert all(row.generation == row.projected for row in (*contests, *teams))
    courses = [await world.store.courses(c.id) for c in contests]
    past = [p for c in contests for p in await world.store.transitions(c.id)]
    told = {e.details.get("transition") for e in world.recorder.events} - {None}
    assert told == {p.number for p in past}, "each transition has its event"
    transitions = [p.transition for p in past]
    notices = [
        (n.contest, n.team, n.text, n.key)
        for c in contests
        for n in await world.store.notices(contest=c.id, now=world.now)
    ]
    operations = [o for c in contests for o in await world.store.operations(c.id)]
    groups = {}
    for name, group in world.hub.groups.items():
        corner = {k: v for k, v in world.hub.corner(name).items() if k != "generation"}
        groups[name] = (corner, group.users)
    return {
        "contests": [replace(c, generation=0, projected=0) for c in contests],
        "teams": [replace(t, generation=0, projected=0) for t in teams],
        "courses": courses,
        "transitions": sorted(map(str, transitions)),
        "notices": sorted(notices),
        "operations": {o.number: o.state for o in operations},
        "groups": groups,
        "users": dict(world.hub.users),
        "servers": sorted(world.hub.servers),
        "namespaces": sorted(world.provisioner.ready),
    }
