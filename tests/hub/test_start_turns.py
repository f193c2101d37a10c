"""Turns of starts on a real hub: a storm of one contest is its own affair."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jupyterhub_collab.hub.refusals import SpawnRefusedError
from jupyterhub_collab.hub.start_turns import StartLine, to_waiting
from tests.hub.conftest import Embedded, until
from tests.hub.following import Progress
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

HANGS_S = 10
ADA_MAY_TAKE_S = 8
WAITING = 3
CROWD = [f"u{i}" for i in range(5)]

_SETTINGS = f"""
c.TeamSpawner.concurrent_starts = 2  # of which one contest alone has one
c.TeamSpawner.waiting_starts = {WAITING}
c.TeamSpawner.turn_timeout = 100  # told every two seconds


def hurry(spawner):
    if spawner.user.name == "ada":
        spawner.start_timeout = {ADA_MAY_TAKE_S}


c.Spawner.pre_spawn_hook = hurry
"""


@pytest.fixture(scope="module")
def _busy_hub(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory):
    """Contests sea (ocean; void, whose starts hang: it has no namespace) and ice (berg)."""
    hub = RunningHub(
        folder=tmp_path_factory.mktemp("busy-hub"),
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="busy", namespace_prefix="busy-"),
        more=_SETTINGS,
        slow_spawn_timeout=1,
        readiness_timeout_s=HANGS_S,
    )
    hub.start()
    try:
        hub.make_contest("sea", CONTEST)
        hub.make_contest("ice", CONTEST)
        hub.make_team("ocean", TEAM, "ada")
        hub.make_team("void", TEAM, *CROWD)
        hub.make_team("berg", {**TEAM, "contest": "ice"}, "eve")
        hub.provision("ocean")
        hub.provision("berg", {**TEAM, "contest": "ice"})
        yield hub
    finally:
        hub.close()


@pytest.fixture
def busy_hub(_busy_hub: RunningHub):
    yield _busy_hub
    active = [user["name"] for user in _busy_hub.api("GET", "users?state=active").json()]
    for user in sorted(active, reverse=True):  # who waits first, so that nobody else begins
        _busy_hub.stop_server(user)
    for user in active:
        _busy_hub.wait_stopped(user)


def ask(hub: RunningHub, *users: str) -> None:
    for user in users:
        answer = hub.spawn(user)
        # JupyterHub says 201 of one that starts again after a failure.
        assert answer.status_code in (201, 202), answer.text


def test_another_contest_starts_while_one_hangs(busy_hub: RunningHub) -> None:
    ask(busy_hub, *CROWD[: 1 + WAITING])
    last = Progress(busy_hub, CROWD[WAITING])
    last.wait_for(to_waiting(2))

    refused = busy_hub.spawn(CROWD[WAITING + 1])
    assert refused.status_code == 429
    assert 30 <= int(refused.headers["Retry-After"]) <= 60
    assert f"{WAITING} servers of your contest wait" in refused.json()["message"]

    busy_hub.spawn("eve")
    busy_hub.wait_ready("eve")
    assert busy_hub.server(CROWD[0])["pending"] == "spawn"

    # Who waits and goes leaves their place in the line to the next.
    busy_hub.stop_server(CROWD[1])
    busy_hub.wait_stopped(CROWD[1])
    last.wait_for(to_waiting(1))
    # Who holds a place and goes leaves that.
    second = Progress(busy_hub, CROWD[2])
    busy_hub.stop_server(CROWD[0])
    second.wait_for("Starting in team void.")
    last.wait_for(to_waiting(0))


def test_teams_take_turns_and_waiting_takes_nothing_of_the_time_to_start(
    busy_hub: RunningHub,
) -> None:
    ask(busy_hub, CROWD[0], CROWD[1], CROWD[2], "ada")
    ada, last = Progress(busy_hub, "ada"), Progress(busy_hub, CROWD[2])
    ada.wait_for(to_waiting(1))
    last.wait_for(to_waiting(2))
    busy_hub.stop_server(CROWD[0])
    busy_hub.wait_ready("ada")  # once the second has hung for as long as it may
    assert busy_hub.server(CROWD[2])["pending"] == "spawn"


def test_a_hub_that_ends_leaves_nobody_waiting_for_ever(busy_hub: RunningHub) -> None:
    ask(busy_hub, CROWD[0], "ada")
    busy_hub.kill()
    busy_hub.start()
    assert busy_hub.api("GET", "users?state=active").json() == []
    ask(busy_hub, CROWD[0])
    busy_hub.stop_server(CROWD[0])
    busy_hub.spawn("ada")
    busy_hub.wait_ready("ada")


def test_a_limit_of_jupyterhubs_own_is_said_to_be_in_the_way(
    cluster: Embedded, tmp_path: Path
) -> None:
    hub = RunningHub(
        folder=tmp_path,
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="limited", namespace_prefix="limited-"),
        more="c.JupyterHub.concurrent_spawn_limit = 5",
    )
    hub.start()
    try:
        hub.make_contest("sea", CONTEST)
        hub.make_team("ocean", TEAM, "ada")
        hub.spawn("ada")
        until(lambda: "concurrent_spawn_limit is 5" in hub.log)
    finally:
        hub.close()


# -- without a hub --------------------------------------------------------------------------------


async def wait(line: StartLine, contest: str = "sea", *, timeout_s: float = 60, say=lambda _: None):
    return await line.wait(contest, "ocean", timeout_s=timeout_s, retry_s=(3, 3), say=say)


async def test_a_wait_ends_when_its_time_is_over_and_leaves_nothing_behind() -> None:
    line = StartLine(places=1, waiting_max=1)
    first = await wait(line)
    with pytest.raises(SpawnRefusedError, match=r"waited 0\.01 seconds") as refused:
        await wait(line, timeout_s=0.01)
    assert refused.value.status_code == 429
    assert refused.value.headers == {"Retry-After": "3"}
    line.leave(first)
    line.leave(await wait(line))


async def test_who_is_cancelled_just_as_the_place_comes_gives_it_back() -> None:
    line = StartLine(places=1, waiting_max=5)
    first = await wait(line)
    second = asyncio.ensure_future(wait(line))
    third = asyncio.ensure_future(wait(line))
    await asyncio.sleep(0)
    line.leave(first)  # the place is the second's, who has not heard of it yet
    second.cancel()
    turn = await third
    assert second.cancelled()
    line.leave(turn)
    line.leave(await wait(line))


async def test_whoever_waits_for_long_fills_no_page() -> None:
    line = StartLine(places=1, waiting_max=5)
    await wait(line)
    said: list[str] = []
    with pytest.raises(SpawnRefusedError):
        await wait(line, timeout_s=0.05, say=said.append)
    assert said == [to_waiting(0)]
