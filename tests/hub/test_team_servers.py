"""Which servers run for a team, and a team that is frozen and lifted while one of them runs.

Hub, provisioner, registry and worker are the real ones, on the embedded cluster.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timezone

import pytest
from sqlalchemy import create_engine

from jupyterhub_collab.auditapi import NoRecorder
from jupyterhub_collab.hub import team_servers
from jupyterhub_collab.hubapi.client import HubClient
from jupyterhub_collab.hubapi.errors import HubRefusedError
from jupyterhub_collab.hubapi.provisioner import ProvisionerClient
from jupyterhub_collab.kube.kinds import NAMESPACE, POD
from jupyterhub_collab.managers.contest_projection import Projection
from jupyterhub_collab.managers.contest_walk import HANDLERS
from jupyterhub_collab.managers.contest_worker import ContestWorker
from jupyterhub_collab.models.contest_life import (
    Action,
    ActionRequest,
    ContestRecord,
    ContestState,
    Operation,
    OperationState,
    TeamRecord,
)
from jupyterhub_collab.policy.contest_actions import hash_plan, plan_action
from jupyterhub_collab.storage.contests import ContestStore
from tests.hub.conftest import Embedded, kube
from tests.hub.provisioned import provisioned
from tests.hub.samples import TEAM, platform
from tests.managers.contest_world import manifest

TOKEN = "c" * 32
NOTICE_S = 4
_CONTESTS = """
c.JupyterHub.services += [{"name": "contests", "api_token": "c" * 32}]
c.JupyterHub.load_roles += [
    {"name": "contests", "services": ["contests"],
     "scopes": ["list:groups", "read:groups", "admin:groups", "groups", "admin:users",
                "read:servers", "delete:servers", "custom:collab:servers",
                "access:services!service=provisioner", "custom:collab:provision"]},
]
c.Spawner.poll_interval = 1
"""


@pytest.fixture(scope="module")
def both(cluster: Embedded, tmp_path_factory):
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "held"}}
    kube(cluster, "create", home)
    kubeconfig = cluster.paths.kubeconfig
    with provisioned(
        tmp_path_factory.mktemp("held"),
        platform(hub_id="held", hub_namespace="held", namespace_prefix="held-"),
        hub_kubeconfig=kubeconfig,
        provisioner_kubeconfig=kubeconfig,
        more=_CONTESTS,
        readiness_timeout_s=10,
    ) as found:
        yield found


def servers(hub, **query):
    answer = hub.api("GET", "collab/servers", token=TOKEN, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def until(condition, *, timeout_s=40):
    """Wait for what hub, provisioner and worker do."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = await asyncio.to_thread(condition)
        if found:
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("it did not happen")


def test_only_a_token_with_the_scope_may_ask(both):
    hub, _ = both
    assert hub.api("GET", "collab/servers").status_code == 403, "an admin's is not enough"
    answer = hub.api("GET", "collab/servers", token=hub.gateway_token)
    assert answer.status_code == 403
    assert "custom:collab:servers" in answer.json()["message"]
    assert hub.api("GET", "collab/servers", token="nobody's").status_code == 403


@pytest.mark.parametrize("query", [{"team": ""}, {"team": "Ocean"}, {"contest": "x" * 31}])
def test_a_team_that_cannot_be_is_not_answered_with_none(both, query):
    """None is what destroying waits for."""
    hub, _ = both
    assert hub.api("GET", "collab/servers", token=TOKEN, params=query).status_code == 400


def test_what_runs_is_told_and_survives_the_hub(both):
    hub, _ = both
    hub.make_team("terns", TEAM, "tess")
    hub.make_team("gulls", TEAM, "gil")
    assert servers(hub, team="terns") == {"servers": [], "next": None}
    for user in ("tess", "gil"):
        hub.spawn(user)
        hub.wait_ready(user)
    (mine,) = servers(hub, team="terns")["servers"]
    assert (mine["user"], mine["server"], mine["team"]) == ("tess", "", "terns")
    assert (mine["contest"], mine["ready"], mine["gate"]) == ("sea", True, "open")
    assert len(servers(hub, contest="sea")["servers"]) == 2
    assert servers(hub, contest="other")["servers"] == []
    hub.stop()
    hub.start()
    assert [s["user"] for s in servers(hub)["servers"]] == ["gil", "tess"]

    async def stop_all():
        async with HubClient(hub.api_url, TOKEN) as client:
            found = await client.list_servers(contest="sea")
            for server in (*found, *found):  # twice is once
                await client.stop_server(server.user, server.server)
            await client.stop_server("nobody", "")
            assert await client.read_user("nobody") is None
            user = await client.read_user("tess")
            assert user is not None
            assert user.groups == {"terns"}
            assert not user.is_admin
            await client.delete_user("gil")
            await client.delete_user("gil")

    hub.wait_ready("gil")
    asyncio.run(stop_all())
    assert servers(hub) == {"servers": [], "next": None}
    assert hub.api("GET", "users/gil").status_code == 404


def test_pages_follow_names(monkeypatch):
    """Without a hub: the handler's page size is what counts here."""

    class Page:
        def __init__(self):
            self.asked = []

        async def _call(self, method, path):
            self.asked.append(path)
            name = f"user-{len(self.asked)}"
            place = {"afterUser": name, "afterServer": ""}
            item = {"user": name, "server": "", "team": "t", "contest": "c", "started": None,
                    "ready": True, "gate": "open"}  # fmt: skip
            return {"servers": [item], "next": place if len(self.asked) < 3 else None}

    client = HubClient("http://127.0.0.1/hub/api", "token")
    page = Page()
    monkeypatch.setattr(client, "_call", page._call)
    found = asyncio.run(client.list_servers(team="t"))
    assert [s.user for s in found] == ["user-1", "user-2", "user-3"]
    assert page.asked[1] == "collab/servers?team=t&afterUser=user-1&afterServer="

    async def again(method, path):
        place = {"afterUser": "a", "afterServer": ""}
        return {"servers": [], "next": place}

    monkeypatch.setattr(client, "_call", again)
    with pytest.raises(HubRefusedError, match="which servers run"):
        asyncio.run(client.list_servers())


def test_a_spawner_that_ended_is_dropped():
    class Spawner:
        active = True
        name = ""

        class user:
            name = "ada"

    spawner = Spawner()
    team_servers.note(spawner)
    assert spawner in team_servers.active_spawners()
    spawner.active = False
    assert spawner not in team_servers.active_spawners()


@asynccontextmanager
async def working(hub, provisioner, folder):
    """A registry with one contest, and the worker that goes along its courses."""
    engine = create_engine(f"sqlite:///{folder}/contests.sqlite")
    store = ContestStore(engine)
    store.upgrade()
    url = f"http://127.0.0.1:{provisioner.port}/services/provisioner"
    async with AsyncExitStack() as stack:
        stack.callback(engine.dispose)
        stack.callback(store.close)
        client = await stack.enter_async_context(HubClient(hub.api_url, TOKEN))
        asked = await stack.enter_async_context(ProvisionerClient(url, TOKEN))
        projection = Projection(store, client, asked, clock=time.monotonic)
        worker = ContestWorker(
            store, client, asked, projection, HANDLERS,
            recorder=NoRecorder(), now=lambda: datetime.now(timezone.utc),
        )  # fmt: skip
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(projection.run())]
        try:
            yield store, worker
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def act(store, worker, action, **request):
    now = datetime.now(timezone.utc)
    asked = ActionRequest(action=action, **request)
    contest = await store.contest("tide")
    teams, courses = await store.teams("tide"), await store.courses("tide")
    plan = plan_action(asked, contest, teams, courses, now=now)
    key = f"{action.value} {now}"
    operation = Operation(0, "tide", asked, OperationState.RUNNING, key, "h", now, hash_plan(plan))
    await store.commit(plan, operation, at=now)
    worker.wake()


def test_a_team_is_frozen_and_lifted_while_a_server_runs(both, cluster, tmp_path):
    hub, provisioner = both

    def group():
        return hub.api("GET", "groups/dunlin").json()["properties"]["collab"]

    async def idle(store):
        for _ in range(600):
            if not await store.courses("tide"):
                return
            await asyncio.sleep(0.1)
        raise AssertionError(await store.courses("tide"))

    def is_read_only():
        """Whether the server can change nothing: neither volume of it can be written."""
        (pod,) = kube(cluster, "list", POD, namespace="held-dunlin")
        claims = [v["persistentVolumeClaim"] for v in pod["spec"]["volumes"]
                  if "persistentVolumeClaim" in v]  # fmt: skip
        assert len(claims) == 2
        return {bool(claim.get("readOnly")) for claim in claims}

    async def main():
        async with working(hub, provisioner, tmp_path) as (store, worker):
            now = datetime.now(timezone.utc)
            record = ContestRecord("tide", manifest("tide"), ContestState.RUNNING, round=1)
            team = TeamRecord("dunlin", "tide", tier="small")
            await store.put_contest(
                record,
                [team],
                {"dunlin": ("dora", "dan")},
                expected_generation=None,
                by="h",
                at=now,
            )
            await act(store, worker, Action.ADMIT, team="dunlin")
            await idle(store)
            names = [n["metadata"]["name"] for n in await asyncio.to_thread(
                kube, cluster, "list", NAMESPACE)]  # fmt: skip
            assert "held-dunlin" in names
            await asyncio.to_thread(hub.spawn, "dora", team="dunlin")
            await asyncio.to_thread(hub.wait_ready, "dora")
            assert await asyncio.to_thread(is_read_only) == {False}

            began = time.monotonic()
            await act(store, worker, Action.FREEZE, team="dunlin", noticeSeconds=NOTICE_S)
            await until(lambda: group().get("gate") == "closed")
            refused = await asyncio.to_thread(hub.spawn, "dan", team="dunlin")
            assert refused.status_code == 400
            assert "closed" in refused.json()["message"]
            assert hub.server("dora").get("ready"), "it has its notice"
            await until(lambda: not servers(hub, team="dunlin")["servers"])
            assert time.monotonic() - began > NOTICE_S - 1.0
            await idle(store)
            assert group()["gate"] == "frozen"
            await asyncio.to_thread(hub.spawn, "dora", team="dunlin")
            await asyncio.to_thread(hub.wait_ready, "dora")
            assert await asyncio.to_thread(is_read_only) == {True}
            assert servers(hub, team="dunlin")["servers"][0]["gate"] == "frozen"

            await act(store, worker, Action.LIFT, team="dunlin")
            await idle(store)
            assert group().get("gate", "open") == "open"
            assert len(servers(hub, team="dunlin")["servers"]) == 1, "it reads on"
            await asyncio.to_thread(hub.stop_server, "dora")
            await asyncio.to_thread(hub.wait_stopped, "dora")
            started = await asyncio.to_thread(hub.spawn, "dora", team="dunlin")
            assert started.status_code in (201, 202), started.text
            await asyncio.to_thread(hub.wait_ready, "dora")
            assert await asyncio.to_thread(is_read_only) == {False}
            await asyncio.to_thread(hub.stop_server, "dora")
            await asyncio.to_thread(hub.wait_stopped, "dora")

    asyncio.run(main())
