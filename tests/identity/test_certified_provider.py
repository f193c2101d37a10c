"""A certified OpenID Connect provider (npm: oidc-provider) says who somebody is; we believe it.

The browser's part is played by hand: this is about the tokens, not about the hub.
"""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import subprocess
import time
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from jupyterhub_collab.identity import jwks
from jupyterhub_collab.identity.documents import DocumentReader, SourceMisconfiguredError
from jupyterhub_collab.identity.oidc import OIDCProvider, to_facts
from jupyterhub_collab.identity.signed_token import TokenRefusedError
from jupyterhub_collab.models.facts import Identity
from jupyterhub_collab.timeouts import timeout
from tests.identity.certified_program import find_program, private_jwk
from tests.identity.publishing import EC_KEY, ED_KEY, OTHER_ED_KEY, RSA_KEY, Clock, serving

CLIENT, SECRET = "the-hub", "client-secret-" + "x" * 20
CLAIMS = {"preferred_username": "ada", "groups": ["team-a", "team-b"]}


@pytest.fixture(scope="module")
def program(request):
    return find_program(request.config)


class Browser:
    """Logs in at the provider, as `login`, and comes back with tokens."""

    def __init__(self, session, provider, callback):
        self.session = session
        self.provider = provider
        self.callback = callback

    async def log_in(self, login, nonce):
        metadata = await self.provider.discover()
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        query = {
            "client_id": CLIENT,
            "response_type": "code",
            "scope": "openid profile offline_access",
            "prompt": "consent",
            "redirect_uri": self.callback,
            "nonce": nonce,
            "state": "s",
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        url = URL(metadata.authorization_endpoint).with_query(query)
        data = None
        for _ in range(12):
            method = "GET" if data is None else "POST"
            async with self.session.request(
                method, url, data=data, allow_redirects=False
            ) as answer:
                page, there = await answer.text(), answer.headers.get("Location")
            data = None
            if there is not None and there.startswith(self.callback):
                (code,) = parse_qs(urlsplit(there).query)["code"]
                break
            if there is not None:
                url = url.join(URL(there, encoded=True))
                continue
            action = re.search(r'action="([^"]+)"', page)
            prompt = re.search(r'name="prompt" value="(\w+)"', page)
            assert action, page
            assert prompt, page
            url = url.join(URL(action[1], encoded=True))
            data = {"prompt": prompt[1], "login": login, "password": "any"}
        return await self.ask_tokens(
            grant_type="authorization_code",
            code=code,
            redirect_uri=self.callback,
            code_verifier=verifier,
        )

    async def ask_tokens(self, **form):
        metadata = await self.provider.discover()
        who = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        headers = {"Authorization": f"Basic {who}"}
        async with self.session.post(metadata.token_endpoint, data=form, headers=headers) as answer:
            told = await answer.json()
            assert answer.status == 200, told
            return told

    async def ask_userinfo(self, access_token):
        metadata = await self.provider.discover()
        headers = {"Authorization": f"Bearer {access_token}"}
        async with self.session.get(metadata.userinfo_endpoint, headers=headers) as answer:
            assert answer.status == 200
            return await answer.json()

    async def log_out(self, id_token):
        metadata = await self.provider.discover()
        url = URL(metadata.end_session_endpoint).with_query(id_token_hint=id_token)
        async with self.session.get(url) as answer:
            page = await answer.text()
        action = re.search(r'action="([^"]+)"', page)
        xsrf = re.search(r'name="xsrf" value="([^"]+)"', page)
        assert action, page
        assert xsrf, page
        data = {"xsrf": xsrf[1], "logout": "yes"}
        async with self.session.post(URL(action[1], encoded=True), data=data) as answer:
            assert answer.status == 200, await answer.text()


class Running:
    """The provider's process and what stands around it."""

    def __init__(self, process, hub):
        self.process = process
        self.hub = hub
        self.logouts: asyncio.Queue[str] = asyncio.Queue()
        hub.answer = self._hear_logout

    async def _hear_logout(self, request):
        await self.logouts.put((await request.post())["logout_token"])
        return web.Response()

    async def configure(self, key, algorithm):
        client = {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uris": [f"{self.hub.url}/callback"],
            "grant_types": ["authorization_code", "refresh_token"],
            "id_token_signed_response_alg": algorithm,
            "backchannel_logout_uri": f"{self.hub.url}/logout",
            "backchannel_logout_session_required": True,
        }
        settings = {"keys": [private_jwk(key)], "client": client, "claims": CLAIMS}
        self.process.stdin.write(json.dumps(settings).encode() + b"\n")
        await self.process.stdin.drain()
        async with timeout(30):
            # It has things to say of its own besides.
            while line := await self.process.stdout.readline():
                if line.startswith(b"at "):
                    return line.decode().split()[1]
        raise AssertionError("the provider ended")


@pytest.fixture
async def running(program):
    process = await asyncio.create_subprocess_exec(
        *program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    async with serving() as hub:
        yield Running(process, hub)
        process.stdin.close()
        async with timeout(30):
            assert await process.wait() == 0


@pytest.fixture
async def reader():
    reader = DocumentReader()
    yield reader
    await reader.close()


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS256"), (EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
    ids=["RS256", "PS256", "ES256", "EdDSA"],
)
async def test_login_userinfo_refresh_and_log_out(running, reader, session, key, algorithm):
    issuer = await running.configure(key, algorithm)
    provider = OIDCProvider(issuer, CLIENT, reader)
    metadata = await provider.discover()
    assert metadata.has_pkce
    assert metadata.has_backchannel_logout
    browser = Browser(session, provider, f"{running.hub.url}/callback")

    tokens = await browser.log_in("person-7", "nonce-1")
    claims = await provider.verify_id_token(
        tokens["id_token"], nonce="nonce-1", access_token=tokens["access_token"]
    )
    userinfo = await browser.ask_userinfo(tokens["access_token"])
    facts = to_facts(claims, userinfo=userinfo, groups_required=True)
    assert facts.identity == Identity(issuer, "person-7")
    assert facts.username == "ada"
    assert facts.groups == ("team-a", "team-b")
    assert abs((facts.at - datetime.now(timezone.utc)).total_seconds()) < 60

    again = await browser.ask_tokens(
        grant_type="refresh_token", refresh_token=tokens["refresh_token"]
    )
    assert again["access_token"] != tokens["access_token"]
    fresh = await provider.verify_refreshed_id_token(
        again["id_token"], previous=claims, access_token=again["access_token"]
    )
    assert fresh["sub"] == "person-7"

    await browser.log_out(tokens["id_token"])
    async with timeout(30):
        logout_token = await running.logouts.get()
    logout = await provider.verify_logout_token(logout_token)
    assert (logout.issuer, logout.subject) == (issuer, "person-7")
    assert logout.session_id
    for token, about in ((logout_token, "typ"), (tokens["access_token"], "")):
        with pytest.raises(TokenRefusedError) as refused:
            await provider.verify_id_token(token, nonce="nonce-1")
        assert about in refused.value.reason
    with pytest.raises(TokenRefusedError):
        await provider.verify_logout_token(tokens["id_token"])
    await provider.close()


async def test_another_client_nonce_or_key_and_a_rotation(running, reader, session):
    issuer = await running.configure(ED_KEY, "EdDSA")
    clock = Clock()
    provider = OIDCProvider(issuer, CLIENT, reader, clock=clock)
    browser = Browser(session, provider, f"{running.hub.url}/callback")
    tokens = await browser.log_in("person-7", "nonce-1")
    await provider.verify_id_token(tokens["id_token"], nonce="nonce-1")
    with pytest.raises(TokenRefusedError) as refused:
        await provider.verify_id_token(tokens["id_token"], nonce="nonce-2")
    assert "nonce" in refused.value.reason
    other = OIDCProvider(issuer, "another-client", reader)
    with pytest.raises(TokenRefusedError) as refused:
        await other.verify_id_token(tokens["id_token"], nonce="nonce-1")
    assert "aud" in refused.value.reason
    narrow = OIDCProvider(issuer, CLIENT, reader, algorithms=["RS256"])
    with pytest.raises(SourceMisconfiguredError, match="signs ID tokens with Ed25519, EdDSA"):
        await narrow.verify_id_token(tokens["id_token"], nonce="nonce-1")

    assert await running.configure(OTHER_ED_KEY, "EdDSA") == issuer
    session.cookie_jar.clear()
    fresh = await browser.log_in("person-8", "nonce-3")
    clock.seconds += jwks.COOL_DOWN_S
    claims = await provider.verify_id_token(fresh["id_token"], nonce="nonce-3")
    assert claims["sub"] == "person-8"
    with pytest.raises(TokenRefusedError) as refused:
        await provider.verify_id_token(tokens["id_token"], nonce="nonce-1")
    assert "kid" in refused.value.reason
    for each in (provider, other, narrow):
        await each.close()


async def test_what_it_costs(running, reader, session):
    """After the first, a token costs no request and well under a hundredth of a second."""
    issuer = await running.configure(RSA_KEY, "RS256")
    provider = OIDCProvider(issuer, CLIENT, reader)
    browser = Browser(session, provider, f"{running.hub.url}/callback")
    token = (await browser.log_in("person-7", "n"))["id_token"]
    await provider.verify_id_token(token, nonce="n")
    running.process.stdin.close()
    await running.process.wait()  # it is gone: nobody is asked
    started = time.perf_counter()
    for _ in range(100):
        await provider.verify_id_token(token, nonce="n")
    assert time.perf_counter() - started < 1.0
    await provider.close()
