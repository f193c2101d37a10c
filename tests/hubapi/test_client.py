"""The client against a real hub; faults that a hub cannot be asked for, against a scripted one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta, timezone

import pytest
from aiohttp import web

from jupyterhub_collab.hubapi.client import NAMES_PER_CALL, PAGE_SIZE, HubClient, to_api_url
from jupyterhub_collab.hubapi.errors import HubRefusedError, HubUnavailableError
from jupyterhub_collab.models import HubGroup
from tests.real_hub import RealHub, find_free_port

NOW = datetime(2027, 1, 31, 18, 0, tzinfo=timezone.utc)


async def test_a_group_from_birth_to_death(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        assert await hub.list_groups() == {}
        assert await hub.read_group("ocean") is None
        assert await hub.create_group("ocean")
        assert not await hub.create_group("ocean")  # as after a lost answer
        await hub.put_properties("ocean", {"collab": {"b": 1, "a": 2}})
        members = [f"user-{i:02}" for i in range(NAMES_PER_CALL * 2 + 1)]
        await hub.create_users(members)
        await hub.create_users(members)
        await hub.add_members("ocean", members)
        await hub.add_members("ocean", members[:1])
        group = await hub.read_group("ocean")
        assert group is not None
        assert sorted(group.users) == members
        # The order of mappings is kept: the first image is the default.
        assert list(group.properties["collab"]) == ["b", "a"]
        await hub.remove_members("ocean", members[1:])
        await hub.remove_members("ocean", members[1:])
        expected = HubGroup("ocean", {"collab": {"b": 1, "a": 2}}, ("user-00",))
        assert await hub.read_group("ocean") == expected
        assert await hub.list_groups() == {"ocean": expected}
        await hub.delete_group("ocean")
        await hub.delete_group("ocean")
        assert await hub.list_groups() == {}


async def test_lists_are_read_page_by_page(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        names = [f"team-{i}" for i in range(PAGE_SIZE + 3)]
        wanted = set(names)
        for name in names:
            await hub.create_group(name)
        assert set(await hub.list_groups()) == wanted
        assert set(await hub.list_groups({"team-1", "nowhere"})) == {"team-1"}
        first = await hub.read_page(0, 2)
        assert [group.name for group in first.items] == [f"team-{i}" for i in range(2)]
        assert (first.total, first.following) == (PAGE_SIZE + 3, 2)
        last = await hub.read_page(PAGE_SIZE, 20)
        assert (len(last.items), last.following) == (3, None)
        assert (await hub.read_page(PAGE_SIZE + 20, 20)).items == ()
        await hub.read_group("team-0")  # what was asked before it is in the log by then
    assert f"offset={PAGE_SIZE}" in clean_hub.log


async def test_what_the_hub_refuses_is_said_in_its_words(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, clean_hub.token) as hub:
        await hub.create_group("ocean")
        with pytest.raises(HubRefusedError, match="No such user: nobody"):
            await hub.add_members("ocean", ["nobody"])
        await hub.create_users(["Ada"])
        with pytest.raises(HubRefusedError, match="'Ada' by another name"):
            await hub.add_members("ocean", ["Ada"])
        with pytest.raises(HubRefusedError, match="No such group"):
            await hub.put_properties("nowhere", {})


async def test_a_wrong_token_is_named_as_such_and_never_shown(clean_hub: RealHub) -> None:
    async with HubClient(clean_hub.api_url, "not-a-token") as hub:
        with pytest.raises(HubRefusedError, match="Check the token") as refused:
            await hub.list_groups()
    assert refused.value.status == 403
    assert "not-a-token" not in str(refused.value)


async def test_a_token_that_sees_names_only_is_found_out(
    start_real_hub: Callable[..., RealHub],
) -> None:
    """Groups without members would look as if everybody had left."""
    writer = {"name": "writer", "scopes": ["admin:groups"], "services": ["writer"]}
    real_hub = start_real_hub(
        scopes=["list:groups", "read:groups:name"],
        services=[{"name": "writer", "api_token": "w" * 32}],
        roles=[writer],
    )
    async with HubClient(real_hub.api_url, "w" * 32) as hub:
        await hub.create_group("ocean")
    async with HubClient(real_hub.api_url, real_hub.token) as hub:
        with pytest.raises(HubRefusedError, match="lacks read:groups"):
            await hub.list_groups()


async def test_no_hub_is_to_be_retried() -> None:
    async with HubClient(f"http://127.0.0.1:{find_free_port()}/hub/api", "t") as hub:
        with pytest.raises(HubUnavailableError, match="no answer from the hub"):
            await hub.list_groups()


Script = Callable[..., web.StreamResponse]


@pytest.fixture
async def scripted() -> AsyncIterator[Callable[[Script], object]]:
    """A server that answers what the test says: `await scripted(handler)` gives its URL."""
    runners: list[web.AppRunner] = []

    async def serve(script: Script) -> str:
        async def handle(request: web.Request) -> web.StreamResponse:
            return script(request)

        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        return f"http://{host}:{port}/hub/api"

    yield serve
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("-1", 0.0),
        ((NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT"), 30.0),
        ((NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S -0000"), 30.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
async def test_retry_after_is_honoured(scripted, header: str, seconds: float | None) -> None:
    def script(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": header}, text="busy")

    async with HubClient(await scripted(script), "t", now=lambda: NOW) as hub:
        with pytest.raises(HubUnavailableError, match=r"429.*busy") as error:
            await hub.create_group("ocean")
    assert error.value.retry_after_s == seconds


async def test_a_list_that_moves_is_read_again(scripted) -> None:
    """A group deleted between two pages moves the rest; what was missed is found."""
    names = [f"g{i}" for i in range(4)]
    asked: list[int] = []

    def script(request: web.Request) -> web.Response:
        offset = int(request.query["offset"])
        asked.append(offset)
        if asked == [0, 2]:
            names.remove("g0")  # g2 is now at 1, which the second page does not hold
        items = [{"name": n, "properties": {}, "users": []} for n in names[offset : offset + 2]]
        following = {"offset": offset + 2} if offset + 2 < len(names) else None
        pagination = {"total": len(names), "next": following}
        return web.json_response({"items": items, "_pagination": pagination})

    async with HubClient(await scripted(script), "t") as hub:
        assert set(await hub.list_groups()) == {"g1", "g2", "g3"}
    assert asked == [0, 2, 0, 2]


async def test_a_redirect_is_not_followed(scripted) -> None:
    seen: list[str] = []

    def script(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with HubClient(await scripted(script), "t") as hub:
        with pytest.raises(HubRefusedError):
            await hub.create_group("ocean")
    assert seen == ["/hub/api/groups/ocean"]


async def test_an_address_that_is_no_hub_is_named_as_such(scripted) -> None:
    async with HubClient(await scripted(lambda _: web.Response(text="<html>")), "t") as hub:
        with pytest.raises(HubRefusedError, match="is it the address of a hub"):
            await hub.list_groups()
    async with HubClient(await scripted(lambda _: web.json_response([])), "t") as hub:
        with pytest.raises(HubRefusedError, match="no list of groups"):
            await hub.list_groups()


GROUP = {"name": "ocean", "properties": {}, "users": []}


@pytest.mark.parametrize(
    "answer",
    [
        {"items": [GROUP], "_pagination": []},
        {"items": [GROUP], "_pagination": {"total": 2, "next": {"limit": 1}}},
        {"items": [GROUP], "_pagination": {"total": 2, "next": {"offset": "soon"}}},
        {"items": [GROUP], "_pagination": {"total": 2, "next": {"offset": 0}}},
        {"items": [GROUP], "_pagination": {"total": 2, "next": "there"}},
        {"items": [{**GROUP, "properties": "text"}], "_pagination": {"total": 1, "next": None}},
        {"items": 7, "_pagination": {"total": 1, "next": None}},
    ],
)
async def test_a_list_of_another_shape_is_an_error_of_ours(scripted, answer: object) -> None:
    async with HubClient(await scripted(lambda _: web.json_response(answer)), "t") as hub:
        with pytest.raises(HubRefusedError):
            await hub.list_groups()


@pytest.mark.parametrize(
    ("address", "api"),
    [
        ("https://hub.example.org", "https://hub.example.org/hub/api"),
        ("https://hub.example.org/", "https://hub.example.org/hub/api"),
        ("http://127.0.0.1:8081/hub/api", "http://127.0.0.1:8081/hub/api"),
        ("https://example.org/science/hub/", "https://example.org/science/hub/api"),
    ],
)
def test_address_to_api(address: str, api: str) -> None:
    assert to_api_url(address) == api


@pytest.mark.parametrize("address", ["hub", "ftp://x", "https://u:p@x", "https://x?token=1", ""])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(HubRefusedError):
        to_api_url(address)
