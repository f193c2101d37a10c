"""What is asked of a provider in private: what an answer means, and that no secret leaves."""

import asyncio
import base64
import time

import pytest
from aiohttp import web

from jupyterhub_collab.identity.documents import (
    DocumentReader,
    SourceMisconfiguredError,
    SourceUnavailableError,
)
from jupyterhub_collab.identity.oidc import OIDCProvider
from jupyterhub_collab.identity.oidc_client import (
    RETRY_S,
    AccessRefusedError,
    ClientRefusedError,
    GrantRefusedError,
    OIDCClient,
    describe,
)
from tests.identity.publishing import raw_server, serving

CLIENT, SECRET = "the hub", "sec:ret/ +"
TOKENS = {"access_token": "aaa", "token_type": "bearer", "id_token": "i.d.t", "expires_in": "60"}


def discovery_of(url, **more):
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/auth",
        "token_endpoint": f"{url}/token",
        "jwks_uri": f"{url}/jwks",
        "userinfo_endpoint": f"{url}/me",
        "id_token_signing_alg_values_supported": ["EdDSA"],
        **more,
    }


@pytest.fixture
async def site():
    async with serving() as site:
        site.documents["/.well-known/openid-configuration"] = discovery_of(site.url)
        yield site


@pytest.fixture
async def make(site, reader, clock):
    made = []

    def make(*, secret=SECRET, auth="auto", **metadata):
        site.documents["/.well-known/openid-configuration"].update(metadata)
        provider = OIDCProvider(site.url, CLIENT, reader, now=clock.now, clock=clock)
        made.append(provider)
        return OIDCClient(provider, reader, secret=lambda: secret, auth=auth, clock=clock)

    yield make
    for provider in made:
        await provider.close()


def answering(site, status, body, kept=None):
    async def answer(request):
        if request.path.startswith("/.well"):
            return web.json_response(site.documents[request.path])
        if kept is not None:
            kept.append((request, dict(await request.post())))
        return web.json_response(body, status=status)

    site.answer = answer


@pytest.mark.parametrize(
    ("metadata", "auth", "way"),
    [
        ({}, "auto", "basic"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "auto", "post"),
        ({"token_endpoint_auth_methods_supported": ["client_secret_post"]}, "basic", "basic"),
        ({"token_endpoint_auth_methods_supported": ["private_key_jwt"]}, "auto", "basic"),
        ({}, "post", "post"),
    ],
)
async def test_the_secret_is_shown_as_the_provider_takes_it(site, make, metadata, auth, way):
    kept = []
    answering(site, 200, TOKENS, kept)
    await make(auth=auth, **metadata).exchange("c", verifier="v", redirect_uri="https://h/cb")
    request, form = kept[0]
    assert form["code_verifier"] == "v"
    assert request.query_string == ""
    if way == "post":
        assert (form["client_id"], form["client_secret"]) == (CLIENT, SECRET)
        assert "Authorization" not in request.headers
    else:
        pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic "))
        assert pair == b"the+hub:sec%3Aret%2F+%2B"  # RFC 6749, 2.3.1: encoded as a form first
        assert "client_secret" not in form


async def test_a_public_client_shows_no_secret(site, make):
    kept = []
    answering(site, 200, TOKENS, kept)
    tokens = await make(secret="").exchange("c", verifier="v", redirect_uri="https://h/cb")
    assert kept[0][1]["client_id"] == CLIENT
    assert "Authorization" not in kept[0][0].headers
    assert (tokens.expires_in_s, tokens.refresh_token) == (60.0, None)
    assert "aaa" not in repr(tokens)
    assert "i.d.t" not in repr(tokens)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_grant"}, GrantRefusedError),
        (401, {"error": "invalid_client"}, ClientRefusedError),
        (400, {"error": "unauthorized_client"}, ClientRefusedError),
        (403, {}, ClientRefusedError),
        (400, {"error": "invalid_request"}, ClientRefusedError),
        (404, {"error": ["a"]}, ClientRefusedError),
        (429, {"error": "invalid_grant"}, SourceUnavailableError),
        (500, {"error": "invalid_grant"}, SourceUnavailableError),
        (503, {}, SourceUnavailableError),
        (200, {}, SourceUnavailableError),
        (200, {"access_token": 5}, SourceUnavailableError),
        (200, {**TOKENS, "id_token": "a\nb"}, SourceUnavailableError),
        (200, {**TOKENS, "refresh_token": "x" * 70_000}, SourceUnavailableError),
        (200, {**TOKENS, "token_type": "mac"}, SourceMisconfiguredError),
        (200, [], SourceUnavailableError),
    ],
)
async def test_what_an_answer_means(site, make, status, body, error):
    answering(site, status, body)
    with pytest.raises(error) as raised:
        await make().refresh("the-refresh-token-itself")
    assert "the-refresh-token-itself" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_an_administrator_reads_words_and_no_tokens():
    said = "AADSTS50105: not assigned\n eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2ln " * 9
    told = describe({"error_description": said})
    assert "AADSTS50105: not assigned" in told
    assert "eyJ" not in told
    assert "\n" not in told
    assert len(told) <= 400
    assert describe({}) == describe({"error_description": [1]}) == "no description"


async def test_userinfo_and_what_refuses_it(site, make):
    client = make()
    answering(site, 200, {"sub": "1"})
    assert await client.userinfo("aaa") == {"sub": "1"}
    answering(site, 401, {})
    with pytest.raises(AccessRefusedError):
        await client.userinfo("aaa")
    answering(site, 302, {})
    with pytest.raises(SourceMisconfiguredError):
        await client.userinfo("aaa")
    assert await make(userinfo_endpoint=None).userinfo("aaa") is None


async def test_groups_come_in_pages_and_the_token_goes_nowhere_else(site, make):
    client = make()
    asked = []

    async def answer(request):
        if request.path.startswith("/.well"):
            return web.json_response(site.documents[request.path])
        assert request.headers["Authorization"] == "Bearer aaa"
        asked.append(request.path_qs)
        at = int(request.query.get("$skiptoken", 0))
        page = {"value": [{"id": f"g{at + n}"} for n in range(100)]}
        if at < 300:
            page["@odata.nextLink"] = f"{site.url}/groups?$skiptoken={at + 100}"
        return web.json_response(page)

    site.answer = answer
    found = await client.groups(f"{site.url}/groups", "aaa")
    assert found == tuple(f"g{n}" for n in range(400))
    assert len(asked) == 4

    async with serving() as evil:
        evil.documents["/groups"] = {"value": [{"id": "g"}]}
        answering(site, 200, {"value": [], "@odata.nextLink": f"{evil.url}/groups"})
        with pytest.raises(SourceUnavailableError, match="another site"):
            await client.groups(f"{site.url}/groups", "aaa")
        assert evil.asked == []
    answering(site, 200, {"value": [], "@odata.nextLink": f"{site.url}/groups"})
    with pytest.raises(SourceUnavailableError, match="pages"):
        await client.groups(f"{site.url}/groups", "aaa")
    for wrong in ({}, {"value": [{"name": "x"}]}, {"value": [5]}, {"value": [{"id": "a\n"}]}):
        answering(site, 200, wrong)
        with pytest.raises(SourceUnavailableError):
            await client.groups(f"{site.url}/groups", "aaa")


async def test_one_waits_for_a_dead_provider_and_not_thousands(site, make, clock):
    client = make()
    client.check_answering()
    answering(site, 503, {})
    with pytest.raises(SourceUnavailableError):
        await client.refresh("r")
    with pytest.raises(SourceUnavailableError, match="a moment ago"):
        client.check_answering()
    clock.seconds += RETRY_S
    client.check_answering()


async def test_the_client_credentials_can_be_tried(site, make):
    client = make()
    answering(site, 400, {"error": "invalid_grant"})
    await client.check_credentials()
    answering(site, 401, {"error": "invalid_client"})
    with pytest.raises(ClientRefusedError, match="client_id and secret"):
        await client.check_credentials()


async def longest_stall(during):
    """Longest time in which the loop did nothing else, in seconds."""
    longest, is_over = 0.0, False

    async def tick():
        nonlocal longest
        while not is_over:
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    await during
    is_over = True
    await ticking
    return longest


async def test_a_provider_that_never_answers_stalls_nobody(site, clock):
    """The least of three rounds, for other programs run on this machine too."""
    stalls = []
    for _ in range(3):
        async with raw_server(None) as tarpit:
            site.documents["/.well-known/openid-configuration"] = discovery_of(
                site.url, token_endpoint=f"{tarpit}/token"
            )
            reader = DocumentReader(timeout_s=0.5)
            provider = OIDCProvider(site.url, CLIENT, reader)
            client = OIDCClient(provider, reader, secret=lambda: SECRET)

            async def ask(client=client):
                answers = await asyncio.gather(
                    *(client.refresh(f"r{n}") for n in range(50)), return_exceptions=True
                )
                assert {type(answer) for answer in answers} == {SourceUnavailableError}

            stalls.append(await longest_stall(ask()))
            await provider.close()
            await reader.close()
    assert min(stalls) < 0.050
