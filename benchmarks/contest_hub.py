"""A contest brought to a real hub: registered, advanced and destroyed, beside the bare REST calls.

Ours is the registry's projection on SQLite: it finds what is behind, reads rosters and groups,
plans, writes, and notes each group as done. The peer sends the calls that ours made and that
changed something, again in the same order for each team, with as many at once, to another hub in
the same state; it reads nothing and knows everything beforehand. Both hubs are processes of their
own. Notes: calls of each side, the longest stall of the hub's loop, processor time of a team (which
other work on the machine blurs less than the rate), and our process's memory: with all calls of the
phase in it, which it keeps for the peer.

`BENCH_TEAMS` teams of five, `BENCH_PAIRS` pairs; 5,000 take twenty minutes on a quiet machine, most
of it for users. `BENCH_PHASES=advanced` does that phase alone: the teams are then in the databases
of both hubs beforehand, which have just been started and hold none of them in memory.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import create_engine

from benchmarks._teams import cpu_seconds, setting
from benchmarks.measure import Result, finish
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.managers.contest_projection import AT_ONCE, Projection
from jupyterhub_collab.models import ContestManifest, Gate
from jupyterhub_collab.models.contest_life import (
    ContestRecord,
    ContestState,
    MemberRecord,
    TeamRecord,
    TeamState,
)
from jupyterhub_collab.policy.contest_manifest import to_groups
from jupyterhub_collab.policy.contest_projection import to_manifest
from jupyterhub_collab.storage.contests import ContestStore
from tests.real_hub import RealHub

TEAMS: Final = setting("BENCH_TEAMS", 5000)
PAIRS: Final = setting("BENCH_PAIRS", 1)
MEMBERS: Final = 5
KEPT: Final = TEAMS // 10
TARGET: Final = 0.8
PHASES: Final = ("registered", "advanced", "destroyed")
CHOSEN: Final = tuple(os.environ.get("BENCH_PHASES", ",".join(PHASES)).split(","))
NOW: Final = datetime(2027, 1, 1, tzinfo=timezone.utc)
STALL: Final = "from benchmarks._stall import HANDLERS\nc.JupyterHub.extra_handlers = HANDLERS\n"
TIER: Final = {"cpu": 1, "memory": "1Gi", "storage": "3Gi", "ephemeralStorage": "1Gi", "pods": 4}
MANIFEST: Final = {
    "apiVersion": "jupyterhub-collab.org/v1alpha1",
    "kind": "Contest",
    "contest": {"id": "reef", "title": "Reef"},
    "tiers": {"first": TIER, "later": TIER},
    "images": {"basic": {"title": "Basic", "image": "registry.example.org/basic:1"}},
    "profiles": {"only": {"title": "Only", "cpu": 1, "memory": "1Gi"}},
    "volumes": {"team": "1Gi", "personal": "1Gi"},
    "rounds": [{"title": "One", "tier": "first"}, {"title": "Two", "tier": "later"}],
    "registration": {"tier": "first"},
}
Call = tuple[str, str, Any]


class RecordingClient(HubClient):
    """Remembers what it asked for, by what it was about."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: dict[str, list[Call]] = defaultdict(list)
        self.reads = 0

    async def _call(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        if method == "GET":
            self.reads += 1
        else:
            self.calls[_about(path, body)].append((method, path, body))
        return await super()._call(method, path, body, **more)


def _about(path: str, body: object) -> str:
    """The team of a call; users are named after theirs."""
    if path.startswith("groups/"):
        return path.split("/")[1]
    name = path.split("/")[1] if "/" in path else str(body["usernames"][0])  # type: ignore[index]
    return name.partition("--")[0]


class NoProvisioner:
    """Takes every word and does nothing: the cluster is no part of this."""

    async def nudge(self, groups: Any) -> None:
        """Nothing."""


@dataclass
class Phase:
    """Rates of one phase, pair by pair, and facts of the last."""

    ours: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    notes: dict[str, object] = field(default_factory=dict)


def team_names() -> list[str]:
    return [f"crew-{n}" for n in range(TEAMS)]


def users_of(team: str) -> tuple[str, ...]:
    return tuple(f"{team}--{n}" for n in range(MEMBERS))


class LargeHub(RealHub):
    """With as many as 25,000 users."""

    start_timeout_s = 600.0


async def stall_s(hub: RealHub) -> float:
    """The longest stall of the hub's loop since it was asked the last time."""
    async with aiohttp.ClientSession() as session, session.get(f"{hub.url}/bench/stall") as answer:
        return float(json.loads(await answer.text())["stall_s"])


def processor_ms(hub: RealHub) -> tuple[float, float]:
    """Of the hub and of this process so far."""
    assert hub.process is not None
    return cpu_seconds(hub.process.pid) * 1000, time.process_time() * 1000


async def replay(hub: RealHub, calls: dict[str, list[Call]]) -> float:
    """Send calls, those about one team one after the other; seconds."""
    room = asyncio.Semaphore(AT_ONCE)
    headers = {"Authorization": f"token {hub.token}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def one(mine: list[Call]) -> None:
            async with room:
                for method, path, body in mine:
                    data = None if body is None else json.dumps(body)
                    url = f"{hub.api_url}/{path}"
                    async with session.request(method, url, data=data) as answer:
                        await answer.read()
                        assert answer.status < 400, (method, path, answer.status)

        shared = [key for key in calls if key.startswith("contest.")]
        began = time.perf_counter()
        for key in shared:
            await one(calls[key])
        await asyncio.gather(*(one(mine) for key, mine in calls.items() if key not in shared))
        return time.perf_counter() - began


def contest_record() -> ContestRecord:
    manifest = ContestManifest.model_validate(MANIFEST)
    return ContestRecord("reef", manifest, ContestState.RUNNING, round=1)


def team_records() -> list[TeamRecord]:
    values: dict[str, Any] = {"tier": "first", "round": 1}
    return [TeamRecord(team, "reef", TeamState.ACTIVE, **values) for team in team_names()]


async def register(store: ContestStore) -> None:
    """As a portal has done: all teams are there and admitted."""
    rosters = {team: users_of(team) for team in team_names()}
    await store.put_contest(
        contest_record(), team_records(), rosters, expected_generation=None, by="b", at=NOW
    )


def fill(database: Path) -> None:
    """All teams in a hub's database, as they are once they are registered."""
    from jupyterhub import orm

    rosters = {t: [MemberRecord(t, user, NOW) for user in users_of(t)] for t in team_names()}
    projected = to_manifest(contest_record(), team_records(), rosters)
    session = orm.new_session_factory(f"sqlite:///{database}")()
    role = session.query(orm.Role).filter_by(name="user").one()
    for group in to_groups(projected.manifest, None, projected.reached).values():
        users = [orm.User(name=name, roles=[role]) for name in group.users]
        corner = {**group.properties["collab"], "generation": 1}
        session.add(orm.Group(name=group.name, properties={"collab": corner}, users=users))
    session.commit()
    session.close()


async def find_registered(store: ContestStore, *hubs: RealHub) -> None:
    """All teams are registered, and on both hubs, by their databases."""
    await register(store)
    await store.mark_projected(contests={"reef": 1}, teams=dict.fromkeys(team_names(), 1))
    for hub in hubs:
        hub.stop()
        fill(hub.folder / "hub.sqlite")
        hub.start()


async def advance(store: ContestStore) -> None:
    """The kept come into the next round, the gates of all others close."""
    for number, team in enumerate(team_names()):
        values = {"round": 2} if number < KEPT else {"gate": Gate.CLOSED}
        await store.update_team(team, values)


async def bring(projection: Projection) -> None:
    while await projection.sweep():
        pass


async def forget(projection: Projection, hub: HubClient) -> None:
    """Groups and users who belong to nothing else, as the last steps of teams take them away."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(team: str) -> None:
        async with room:
            await projection.forget_team(team, "reef")
            for user in users_of(team):
                await hub.delete_user(user)

    await asyncio.gather(*map(one, team_names()))


async def measure(folder: Path, phases: dict[str, Phase]) -> None:
    ours, peer = (LargeHub(folder / name, more=STALL) for name in ("ours", "peer"))
    engine = create_engine(f"sqlite:///{folder}/contests.sqlite")
    store = ContestStore(engine)
    store.upgrade()
    for hub in (ours, peer):
        hub.start()
    try:
        async with RecordingClient(ours.api_url, ours.token) as client:
            projection = Projection(store, client, NoProvisioner(), clock=time.monotonic)  # type: ignore[arg-type]
            if "registered" not in CHOSEN:
                await find_registered(store, ours, peer)
            for name, prepare, work in (
                ("registered", register(store), lambda: bring(projection)),
                ("advanced", advance(store), lambda: bring(projection)),
                ("destroyed", _nothing(), lambda: forget(projection, client)),
            ):
                if name not in CHOSEN:
                    prepare.close()
                    continue
                await prepare
                client.calls.clear()
                client.reads = 0
                await stall_s(ours)
                began, cpu = time.perf_counter(), processor_ms(ours)
                await work()
                took = time.perf_counter() - began
                spent = [now - then for now, then in zip(processor_ms(ours), cpu, strict=True)]
                stalled = await stall_s(ours)
                await stall_s(peer)
                cpu = processor_ms(peer)
                bare = await replay(peer, client.calls)
                peers, _ = (now - then for now, then in zip(processor_ms(peer), cpu, strict=True))
                phase = phases.setdefault(name, Phase())
                phase.ours.append(TEAMS / took)
                phase.bare.append(TEAMS / bare)
                phase.notes = {
                    "teams": TEAMS,
                    "members": TEAMS * MEMBERS,
                    "changing_calls": sum(map(len, client.calls.values())),
                    "our_reads_besides": client.reads,
                    "hub_ms_a_team": round(spent[0] / TEAMS, 1),
                    "peers_hub_ms_a_team": round(peers / TEAMS, 1),
                    "our_ms_a_team": round(spent[1] / TEAMS, 1),
                    "longest_stall_s": round(stalled, 4),
                    "peers_longest_stall_s": round(await stall_s(peer), 4),
                    "our_peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                    // 1024,
                }
                rates = f"{phase.ours[-1]:.1f} teams/s, bare calls {phase.bare[-1]:.1f}"
                print(f"{name}: {rates}, {phase.notes}", file=sys.stderr, flush=True)
            await projection.close()
    finally:
        for hub in (ours, peer):
            hub.kill()
        store.close()
        engine.dispose()


async def _nothing() -> None:
    pass


def main() -> None:
    logging.disable(logging.WARNING)
    phases: dict[str, Phase] = {}
    for _ in range(PAIRS):
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(Path(folder), phases))
    finish(
        *(
            Result(
                name=f"a contest on the hub, {name}",
                unit="teams/s",
                figures=phase.ours,
                peers=phase.bare,
                peer_name="the same changing REST calls, bare",
                target=TARGET,
                at_most=False,
                notes=phase.notes,
            )
            for name, phase in phases.items()
        )
    )


if __name__ == "__main__":
    main()
