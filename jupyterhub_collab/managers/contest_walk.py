"""The steps that teams and contests go, but for archive, scan and certificate.

What a handler may and must not do says `managers.contest_steps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ..errors import CollabError
from ..models import Retention
from ..models.contest_life import (
    ContestState,
    CourseKind,
    Step,
    TeamState,
    Transition,
)
from ..models.hub_user import TeamServer
from ..models.team import Gate
from ..policy.contest_projection import gate_of, gate_of_contest
from ..policy.contest_words import to_notice
from ..reconcile.conditions import State
from ..reconcile.issues import IssueType
from .contest_people import belonging_to_nothing, delete_people, people_of
from .contest_steps import StepHandlers, StepResult, StepWork

# The provisioner works on no settings of theirs; the hub's own gate is all that is waited for.
_NO_NEWS: Final = frozenset(
    state.value for state in (State.FAILED, State.ORPHANED, State.DESTROYING, State.DESTROYED)
)
_PEOPLE_S: Final = 120.0  # what waits for a person is asked about at most so often, then so seldom
_GONE: Final = frozenset({TeamState.DESTROYED})
_SHELVED: Final = frozenset({TeamState.ARCHIVED, TeamState.DESTROYED, TeamState.INVITED})


async def project(work: StepWork) -> StepResult:
    """Write the group. In an advance the team comes into the contest's round here."""
    if work.team is None:
        await work.groups.bring_contest(work.contest.id)
    elif work.course.kind is CourseKind.ADVANCE:
        await work.change_team(round=work.contest.round)
    else:
        await work.groups.bring_team(work.team.id)
    return StepResult.done()


async def await_ready(work: StepWork) -> StepResult:
    """Until the provisioner says that all stands as the registry wants it now."""
    if work.team is None or not work.has_group:
        return StepResult.done()
    status = await work.statuses.of(work.contest.id, work.team.id)
    if status is None:
        return StepResult.not_yet("The provisioner has not seen the team's group yet.")
    if status.get("state") == State.READY.value:
        wanted = await work.groups.wanted_hash(work.team.id)
        if status.get("specHash") == status.get("readyHash") == wanted:
            return StepResult.done()
        return StepResult.not_yet("The provisioner works on the team's new settings.")
    said = _said(status) or "its namespace is being made"
    return StepResult.not_yet(f"The team's space is {status.get('state')}: {said}")


async def open_gate(work: StepWork) -> StepResult:
    """Servers may start, as far as the contest lets them."""
    return await _set_gate(work, Gate.OPEN)


async def close_gate(work: StepWork) -> StepResult:
    """No server starts any more; what runs has its notice."""
    return await _set_gate(work, Gate.CLOSED)


async def freeze_gate(work: StepWork) -> StepResult:
    """Servers start again, and change nothing."""
    return await _set_gate(work, Gate.FROZEN)


async def _set_gate(work: StepWork, gate: Gate) -> StepResult:
    if work.team is None:  # the contest's follows from its state
        await work.groups.bring_contest(work.contest.id)
    elif work.has_group:
        await work.change_team(gate=gate)
    return StepResult.done()


async def notify(work: StepWork) -> StepResult:
    """Tell the team, or all of the contest."""
    await work.store.put_notice(to_notice(work.course, work.contest, work.team, now=work.now))
    return StepResult.done()


async def drain(work: StepWork) -> StepResult:
    """Stop what may not run any more, until the gate is in force and there is none.

    A server that was just starting when the gate closed may come up after a look; once the gate is
    in force in the cluster none does, so that is asked for first, and then it is looked.
    """
    if not work.has_group:
        return StepResult.done()
    is_advance = work.course.kind is CourseKind.ADVANCE  # which waits for its own settings next
    why = "" if is_advance else await _why_not_in_force(work)
    # Whoever started after the notice was over has the new round already.
    before = work.course.times.get(Step.DRAIN, work.now)
    left = _to_stop(work, await _servers(work), before=before)
    if left:
        await _stop(work, left[: work.settings.stops_in_all])
        return StepResult.not_yet(f"{_count(len(left), 'server')} being stopped.")
    return StepResult.not_yet(why) if why else StepResult.done()


async def _why_not_in_force(work: StepWork) -> str:
    """Why a server might start yet that the gate does not let start; empty: none does."""
    if work.team is None:
        await work.groups.bring_contest(work.contest.id)
        listed = await work.provisioner.list_teams(work.contest.id)
        behind = sum(1 for s in listed.values() if _opens(s) not in ("", s.get("specHash")))
        return f"The cluster has yet to learn of the gate in {behind} teams." if behind else ""
    status = await work.statuses.of(work.contest.id, work.team.id)
    if status is None:
        return "The provisioner has not seen the team's group yet."
    stands = _opens(status)
    if not stands or stands == await work.groups.wanted_hash(work.team.id):
        return ""
    return "The cluster has yet to learn of the team's gate."


def _opens(status: Mapping[str, Any]) -> str:
    """Hash of the settings with which servers can start in the cluster; empty: none can."""
    if status.get("state") in _NO_NEWS:
        return ""
    return str(status.get("readyHash") or "")


async def await_export(work: StepWork) -> StepResult:
    """The worker waited for its moment; nothing else is to be done."""
    return StepResult.done()


async def mark_active(work: StepWork) -> StepResult:
    """The team works."""
    if work.team is None or work.team.state is TeamState.ACTIVE:
        return StepResult.done()
    return StepResult.done(transition=_transition(work, TeamState.ACTIVE))


async def mark_archived(work: StepWork) -> StepResult:
    """Its volumes are kept elsewhere; where none were to be, it is not said that they are."""
    is_asked = work.course.kind is CourseKind.ARCHIVE or work.contest.manifest.endings.archive
    if work.team is None or work.team.state is TeamState.ARCHIVED or not is_asked:
        return StepResult.done()
    return StepResult.done(transition=_transition(work, TeamState.ARCHIVED))


async def release(work: StepWork) -> StepResult:
    """Decide its destruction, once nothing runs: from here on it only goes forward."""
    team = work.team
    if team is None or not work.has_group:
        return StepResult.done()
    running = await _still_running(work)
    if running is not None:
        return running
    await work.record("release")
    await work.change_team(retention=Retention.DESTROY, gate=Gate.CLOSED)
    return StepResult.done()


async def await_destroyed(work: StepWork) -> StepResult:
    """Until nothing of it is in the cluster. The cluster's administrator has the last word."""
    team = work.team
    if team is None or not work.has_group:
        return StepResult.done()
    status = await work.statuses.of(work.contest.id, team.id)
    if status is None:
        return StepResult.not_yet("The provisioner has not seen the team's group yet.")
    if status.get("state") == State.DESTROYED.value:
        return StepResult.done()
    held_back = _said(status, IssueType.NOT_RELEASED.value)
    if held_back:
        seconds = min(_PEOPLE_S, 2.0 ** min(work.course.attempts, 10))
        return StepResult.not_yet(held_back, wait=timedelta(seconds=seconds))
    said = _said(status) or "its namespace and volumes are being deleted"
    return StepResult.not_yet(f"The team's space is {status.get('state')}: {said}")


async def forget(work: StepWork) -> StepResult:
    """Its hub group goes, and users with their tokens who belong to nothing else."""
    team = work.team
    if team is None or not work.has_group:
        return StepResult.done()
    group = await work.hub.read_group(team.id)
    if group is None:
        return StepResult.done()
    running = await _still_running(work)
    if running is not None:
        return running
    status = await work.provisioner.read_team(team.id)
    if status is None or status.get("state") != State.DESTROYED.value:
        return StepResult.not_yet("The provisioner does not say any more that all is destroyed.")
    # Users before the group: it is what says who they are, for whoever does this again.
    alone = () if work.settings.keep_users else await _alone_in(work, team.id, group.users)
    await work.record("forget", users=len(alone))
    await delete_people(work, alone)
    await work.groups.forget_team(team.id, work.contest.id)
    return StepResult.done()


async def mark_destroyed(work: StepWork) -> StepResult:
    """Nothing is left of it but what the registry remembers."""
    if work.team is None or work.team.state is TeamState.DESTROYED:
        return StepResult.done()
    return StepResult.done(transition=_transition(work, TeamState.DESTROYED))


async def await_teams(work: StepWork) -> StepResult:
    """Until each of the contest's teams is where the contest goes."""
    wanted = _GONE if work.course.kind is CourseKind.END else _SHELVED
    counts = await work.store.count_teams(work.contest.id)
    left = {state: n for state, n in counts.items() if n and state not in wanted}
    if not left:
        unreadable = await work.store.unreadable_teams(work.contest.id)
        named = ", ".join(one.id for one in unreadable if one.id)
        if named:
            text = f"Waits until the registry's rows of these teams can be read: {named}."
            return StepResult.not_yet(text)
        return StepResult.done()
    parts = ", ".join(f"{n} {state.value}" for state, n in sorted(left.items()))
    goal = "destroyed" if work.course.kind is CourseKind.END else "archived"
    return StepResult.not_yet(f"Waits until all teams are {goal}; these are not: {parts}.")


async def mark_ended(work: StepWork) -> StepResult:
    """The contest is where its course leads."""
    goals = {CourseKind.END: ContestState.DESTROYED, CourseKind.SHELVE: ContestState.ARCHIVED}
    goal = goals.get(work.course.kind)
    if goal is None or work.contest.state is goal:
        return StepResult.done()
    before = work.contest.state.value
    return StepResult.done(transition=Transition(work.contest.id, "", before, goal.value))


async def _servers(work: StepWork) -> list[TeamServer]:
    if work.team is None:
        return await work.hub.list_servers(contest=work.contest.id)
    return await work.hub.list_servers(team=work.team.id)


def _to_stop(
    work: StepWork, servers: Sequence[TeamServer], *, before: datetime
) -> list[TeamServer]:
    """Those that the gate as it is now would not let start as they are."""
    if work.course.kind is CourseKind.ADVANCE:
        return [s for s in servers if s.started is not None and s.started < before]
    gate = gate_of_contest(work.contest)
    if work.team is not None:
        gate = gate_of(work.contest, work.team)
    if gate is Gate.CLOSED:
        return list(servers)
    if gate is Gate.FROZEN:
        return [s for s in servers if s.gate not in ("", Gate.FROZEN.value)]
    return []


async def _still_running(work: StepWork) -> StepResult | None:
    """Look once more; what runs all the same is stopped, and waited for."""
    servers = await _servers(work)
    if not servers:
        return None
    await _stop(work, servers[: work.settings.stops_in_all])
    text = f"{_count(len(servers), 'server')} running still, though the team is closed."
    return StepResult.not_yet(f"{text} Nothing is deleted before they have stopped.")


async def _stop(work: StepWork, servers: Sequence[TeamServer]) -> None:
    """Stop them, some at a time. One that cannot be stopped keeps none of the others."""
    room = asyncio.Semaphore(work.settings.stops_at_once)

    async def stop(server: TeamServer) -> None:
        async with room:
            await work.hub.stop_server(server.user, server.server)

    results = await asyncio.gather(*map(stop, servers), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, CollabError):
            raise result
    errors = [result for result in results if isinstance(result, CollabError)]
    if errors:
        raise errors[0]


async def _alone_in(work: StepWork, team: str, members: Sequence[str]) -> Sequence[str]:
    """Who belongs to nothing but this team, by its group or its roster."""
    names = {*members, *await people_of(work, [team])}
    people = [user for name in sorted(names) if (user := await work.hub.read_user(name))]
    return await belonging_to_nothing(work, people, besides=[team])


def _said(status: object, condition: str = "Ready") -> str:
    """Message of one of a status's conditions; empty: there is none."""
    conditions = status.get("conditions") if isinstance(status, dict) else None
    for found in conditions or ():
        if isinstance(found, dict) and found.get("type") == condition:
            return str(found.get("message") or "")
    return ""


def _transition(work: StepWork, after: TeamState) -> Transition:
    assert work.team is not None
    return Transition(work.contest.id, work.team.id, work.team.state.value, after.value)


def _count(n: int, what: str) -> str:
    return f"One {what} is" if n == 1 else f"{n} {what}s are"


HANDLERS: Final[StepHandlers] = {
    Step.PROJECT: project,
    Step.AWAIT_READY: await_ready,
    Step.OPEN_GATE: open_gate,
    Step.CLOSE_GATE: close_gate,
    Step.FREEZE_GATE: freeze_gate,
    Step.NOTIFY: notify,
    Step.DRAIN: drain,
    Step.AWAIT_EXPORT: await_export,
    Step.MARK_ACTIVE: mark_active,
    Step.MARK_ARCHIVED: mark_archived,
    Step.RELEASE: release,
    Step.AWAIT_DESTROYED: await_destroyed,
    Step.FORGET: forget,
    Step.MARK_DESTROYED: mark_destroyed,
    Step.AWAIT_TEAMS: await_teams,
    Step.MARK_ENDED: mark_ended,
}
