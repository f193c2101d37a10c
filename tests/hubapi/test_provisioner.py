"""The provisioner's client against a scripted one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from jupyterhub_collab.hubapi.errors import HubRefusedError, HubUnavailableError
from jupyterhub_collab.hubapi.provisioner import ProvisionerClient
from tests.real_hub import find_free_port

Script = Callable[[web.Request], web.StreamResponse]
TOKEN = "s3cret"


@pytest.fixture
async def scripted() -> AsyncIterator[Callable[[Script], object]]:
    runners: list[web.AppRunner] = []

    async def serve(script: Script) -> str:
        async def handle(request: web.Request) -> web.StreamResponse:
            assert request.headers["Authorization"] == f"token {TOKEN}"
            return script(request)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        port = find_free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{port}/services/provisioner/"

    yield serve
    for runner in runners:
        await runner.cleanup()


async def test_all_teams_of_a_contest_page_by_page(scripted) -> None:
    def script(request: web.Request) -> web.Response:
        assert request.query["contest"] == "sea"
        offset = int(request.query["offset"])
        teams = [{"team": f"t{offset + i}"} for i in range(200)]
        return web.json_response({"teams": teams, "next": offset + 200 if offset < 400 else None})

    async with ProvisionerClient(await scripted(script), TOKEN) as client:
        assert len(await client.list_teams("sea")) == 600


async def test_a_team_that_is_none_and_groups_to_look_at(scripted) -> None:
    asked: list[int] = []

    def script(request: web.Request) -> web.Response:
        if request.method == "POST":
            asked.append(1)
            return web.json_response({"changed": []}, status=202)
        if request.path.endswith("/ocean"):
            return web.json_response({"team": "ocean", "state": "ready"})
        return web.json_response({"message": "There is no team."}, status=404)

    async with ProvisionerClient(await scripted(script), TOKEN) as client:
        assert await client.read_team("nowhere") is None
        assert (await client.read_team("ocean") or {})["state"] == "ready"
        await client.nudge(f"t{i}" for i in range(250))
        await client.nudge([])
        assert len(asked) == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (web.Response(status=503, headers={"Retry-After": "2"}), HubUnavailableError),
        (web.Response(status=302, headers={"Location": "/login"}), HubRefusedError),
        (web.Response(status=403, text="no"), HubRefusedError),
        (web.Response(text="<html>"), HubRefusedError),
    ],
)
async def test_what_is_no_answer_is_an_error_without_the_token(scripted, answer, error) -> None:
    async with ProvisionerClient(await scripted(lambda _: answer), TOKEN) as client:
        with pytest.raises(error) as caught:
            await client.read_team("ocean")
    assert TOKEN not in str(caught.value)
    assert TOKEN not in repr(client)


async def test_a_list_that_goes_in_circles_is_an_error(scripted) -> None:
    answer = {"teams": [{"team": "t"}], "next": 0}
    async with ProvisionerClient(
        await scripted(lambda _: web.json_response(answer)), TOKEN
    ) as client:
        with pytest.raises(HubRefusedError, match="no list of teams"):
            await client.list_teams("sea")


async def test_nobody_there_is_to_be_retried() -> None:
    async with ProvisionerClient(f"http://127.0.0.1:{find_free_port()}", TOKEN) as client:
        with pytest.raises(HubUnavailableError):
            await client.read_team("ocean")
