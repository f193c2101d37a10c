"""Sent twice is done once, also at the same moment: one answer, one transition, one audit event."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from jupyterhub_collab.managers.contest_outbox import TransitionOutbox
from jupyterhub_collab.managers.contest_refusals import NotNowError, NotThereError
from jupyterhub_collab.managers.contest_registry import ContestRegistry, HubWords
from jupyterhub_collab.managers.contest_telling import ContestTeller
from jupyterhub_collab.managers.team_assembly import NewTeam, TeamAssembly
from jupyterhub_collab.models import HubDecider, HubGroup
from jupyterhub_collab.models.audit import AuditEvent
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionPlan,
    ActionRequest,
    ContestRecord,
    Operation,
    OperationState,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.contest_actions import hash_plan
from jupyterhub_collab.storage.contests import ContestStore, StaleError
from tests.storage.conftest import engine, postgresql, postgresql_url, registry, stores, url
from tests.storage.contest_samples import AT, put, rules

__all__ = ["engine", "postgresql", "postgresql_url", "registry", "stores", "url"]
DAY = timedelta(days=1)


class Told:
    """What the audit log is told."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []

    def emit(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def record(self, event: AuditEvent) -> None:
        self.events.append(event)

    async def keep(self, events: Sequence[AuditEvent]) -> int:
        self.events.extend(events)
        return len(events)

    def whats(self) -> Counter[str]:
        return Counter(str(event.details["what"]) for event in self.events)


async def _nobody() -> HubDecider | None:
    return None


async def _no_group(name: str) -> HubGroup | None:
    return None


async def _no_groups() -> Mapping[str, HubGroup]:
    return {}


class Process:
    """A contests service, as far as it concerns these; several are on one database."""

    def __init__(self, store: ContestStore, told: Told) -> None:
        self.store = store
        self.outbox = TransitionOutbox(store, told)
        teller = ContestTeller(told, self.now)
        words = HubWords(_nobody, _no_group, _no_groups)
        self.registry = ContestRegistry(store, hub=words, teller=teller, now=self.now)
        self.assembly = TeamAssembly(
            store,
            key=b"k" * 32,
            teller=teller,
            admit=self.registry.admit,
            is_free=words.is_free,
            now=self.now,
        )

    @staticmethod
    def now() -> datetime:
        return AT

    async def team(self, team: str) -> TeamRecord:
        found = await self.store.team(team)
        assert found is not None
        return found

    async def contest(self) -> ContestRecord:
        found = await self.store.contest("sea")
        assert found is not None
        return found


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def processes(stores: list[ContestStore], told: Told) -> list[Process]:
    return [Process(store, told) for store in stores]


FREEZE = ActionRequest(action=Action.FREEZE)
OUT = ActionRequest(action=Action.ELIMINATE, team="ocean")
TWO = {"noticeSeconds": 0, "twoPersons": True}


async def tell_all(process: Process) -> None:
    """What was there before is told."""
    await process.store.mark_told(past.number for past in await process.store.untold(limit=100))


async def running(process: Process, **endings: object) -> None:
    await put(process.store, teams=["ocean"], team_state=TeamState.ACTIVE, endings=endings)
    await tell_all(process)


async def test_an_action_that_is_sent_four_times_at_once(
    processes: list[Process], told: Told
) -> None:
    await running(processes[0])
    done = await asyncio.gather(
        *(p.registry.act("sea", OUT, by="ada", key="k") for p in processes),
        *(p.registry.act("sea", OUT, by="ada", key="k") for p in processes),
    )
    assert len({operation.number for operation in done}) == 1
    await processes[1].outbox.tell_some()
    assert told.whats() == {"transition": 1, "operation-asked": 1}
    past = await processes[0].store.transitions("sea")
    assert [p.transition.after for p in past] == ["registration", "active", "eliminated"]
    with pytest.raises(NotNowError, match="something else was asked for"):
        await processes[0].registry.act("sea", FREEZE, by="ada", key="k")


class Hurried(ContestStore):
    """Between a plan and its writing somebody is faster, so many times."""

    times = 0

    async def commit_once(
        self, plan: ActionPlan, operation: Operation, *, at: datetime
    ) -> tuple[Operation, bool]:
        if self.times:
            self.times -= 1
            raise StaleError("The contest sea has changed meanwhile.")
        return await super().commit_once(plan, operation, at=at)


async def test_an_action_beside_a_step_that_is_done_at_that_moment(
    registry: ContestStore, told: Told
) -> None:
    store = Hurried(registry._engine)
    process = Process(store, told)
    await running(process)
    store.times = 2
    shown = hash_plan(await process.registry.plan("sea", OUT))
    done = await process.registry.act("sea", OUT, by="ada", key="k", shown=shown)
    assert (done.state, store.times) == (OperationState.RUNNING, 0)
    store.times = 100
    with pytest.raises(NotNowError, match="changed"):
        await process.registry.act("sea", FREEZE, by="ada", key="other")
    store.close()


async def test_a_proposal_that_is_sent_four_times_at_once(
    processes: list[Process], told: Told
) -> None:
    await running(processes[0], **TWO)
    done = await asyncio.gather(*(p.registry.act("sea", OUT, by="ada", key="k") for p in processes))
    assert len({operation.number for operation in done}) == 1
    assert told.whats() == {"operation-proposed": 1}


async def test_a_yes_that_is_said_twice(processes: list[Process], told: Told) -> None:
    await running(processes[0], **TWO)
    asked = await processes[0].registry.act("sea", OUT, by="ada", key="k")
    done = await asyncio.gather(
        *(p.registry.approve(asked.number, by="bob") for p in processes),
        processes[0].registry.approve(asked.number, by="cyd"),
        return_exceptions=True,
    )
    yes = await processes[0].registry.operation(asked.number)
    assert yes.approved_by in ("bob", "cyd")
    assert Counter(map(type, done)) in (
        {type(yes): 4, NotNowError: 1},
        {type(yes): 1, NotNowError: 4},
    )
    await processes[1].outbox.tell_some()
    assert told.whats() == {"operation-proposed": 1, "operation-approved": 1, "transition": 1}
    other = {"bob": "cyd", "cyd": "bob"}[yes.approved_by]
    assert await processes[1].registry.approve(asked.number, by=yes.approved_by) == yes
    for attempt in (
        processes[0].registry.approve(asked.number, by=other),
        processes[0].registry.decline(asked.number, by=yes.approved_by),
        processes[0].registry.decline(asked.number, by="ada"),
    ):
        with pytest.raises(NotNowError, match=f"{yes.approved_by} approved it"):
            await attempt
    assert await processes[0].registry.operation(asked.number) == yes


async def test_a_no_that_is_said_twice(processes: list[Process], told: Told) -> None:
    await running(processes[0], **TWO)
    asked = await processes[0].registry.act("sea", OUT, by="ada", key="k")
    done = await asyncio.gather(
        *(p.registry.decline(asked.number, by="bob") for p in processes[:2]),
        *(p.registry.decline(asked.number, by="cyd") for p in processes[2:]),
        return_exceptions=True,
    )
    no = await processes[0].registry.operation(asked.number)
    assert no.state is OperationState.DECLINED
    who = no.report["declinedBy"]
    assert Counter(map(type, done)) == {type(no): 2, NotNowError: 2}
    assert told.whats()["operation-declined"] == 1
    assert await processes[0].registry.decline(asked.number, by=who) == no
    with pytest.raises(NotNowError, match=f"{who} said no to it"):
        await processes[0].registry.approve(asked.number, by=who)
    with pytest.raises(NotThereError):
        await processes[0].registry.decline(4711, by=who)


async def test_a_registration_that_is_sent_four_times_at_once(
    processes: list[Process], told: Told
) -> None:
    await put(processes[0].store, registration=rules(needsApproval=False))
    await tell_all(processes[0])
    contest = await processes[0].contest()
    new = NewTeam("ocean", "Ocean", "ada")
    done = await asyncio.gather(
        *(p.assembly.register(contest, new, by="ada", key="k") for p in processes)
    )
    assert {team.id for team in done} == {"ocean"}
    await processes[1].outbox.tell_some()
    assert told.whats() == {"team-registered": 1, "transition": 2}  # invited, and let in
    for other in (replace(new, title="Sea"), replace(new, id="river"), replace(new, captain="b")):
        with pytest.raises(NotNowError, match="Use another key"):
            await processes[0].assembly.register(contest, other, by="ada", key="k")
    assert [team.id for team in await processes[0].store.teams("sea")] == ["ocean"]


def token_id(told: Told) -> str:
    """Of the invitation that was made."""
    return str(next(e.details["id"] for e in told.events if "id" in e.details))


async def test_an_invitation_that_is_sent_four_times_at_once(
    processes: list[Process], told: Told
) -> None:
    await put(processes[0].store, teams=["ocean"])
    contest, team = await processes[0].contest(), await processes[0].team("ocean")

    async def invite(process: Process, lasts: timedelta = DAY) -> str:
        made = await process.assembly.invite(contest, team, by="ada", key="k", lasts=lasts)
        return made.token

    (token,) = set(await asyncio.gather(*map(invite, processes)))
    assert told.whats() == {"invitation-made": 1}
    with pytest.raises(NotNowError, match="lasts for another time"):
        await invite(processes[0], 2 * DAY)
    assert await processes[0].store.withdraw_invitation("ocean", token_id(told))
    for lasts in (DAY, 2 * DAY):
        with pytest.raises(NotNowError, match="is used or withdrawn"):
            await invite(processes[0], lasts)
    with pytest.raises(NotNowError, match="cannot be used"):
        await processes[0].assembly.accept(token, "bob", by="bob")
    made = await processes[0].assembly.invite(contest, team, by="ada", key="k2", lasts=DAY)
    await processes[0].assembly.accept(made.token, "bob", by="bob")
    with pytest.raises(NotNowError, match="is used or withdrawn"):
        await processes[0].assembly.invite(contest, team, by="ada", key="k2", lasts=DAY)
