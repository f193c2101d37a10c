"""Demo accounts are for this machine alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler
from traitlets.config import Config, LoggingConfigurable

from jupyterhub_collab.hub.demo_accounts import (
    is_from_this_machine,
    is_loopback_url,
    make_password,
)
from jupyterhub_collab.hub.demo_authenticator import DemoAuthenticator

LOCAL = ("127.0.0.1", "127.0.0.1")


def make_request(peer: str, own: str) -> Any:
    """A request over a connection between two addresses, with a header that lies."""
    socket = SimpleNamespace(getpeername=lambda: (peer, 50000), getsockname=lambda: (own, 8081))
    return SimpleNamespace(
        connection=SimpleNamespace(stream=SimpleNamespace(socket=socket)),
        remote_ip="127.0.0.1",
        host="hub.localhost:8000",
        headers={"X-Forwarded-For": "127.0.0.1"},
    )


@pytest.fixture
def authenticator(tmp_path: Path) -> DemoAuthenticator:
    made = DemoAuthenticator(accounts_file=str(tmp_path / "demo-accounts.json"))
    for name in ("ada", "grace"):
        made.add_user(SimpleNamespace(name=name))
    return made


def handler(peer: str = "127.0.0.1", own: str = "127.0.0.1") -> Any:
    return SimpleNamespace(request=make_request(peer, own))


async def test_the_right_password_and_no_other(authenticator: DemoAuthenticator) -> None:
    accounts = authenticator.accounts()
    ada = {"username": "ada", "password": accounts["ada"]}
    assert await authenticator.authenticate(handler(), ada) == "ada"
    for name, password in (
        ("ada", accounts["grace"]),
        ("ada", ""),
        ("ada", accounts["ada"] + " "),
        ("nobody", ""),
        ("nobody", "None"),
        ("", ""),
        ("ada", "\N{SNOWMAN}"),
    ):
        data = {"username": name, "password": password}
        assert await authenticator.authenticate(handler(), data) is None, data


@pytest.mark.parametrize(
    ("peer", "own", "is_welcome"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("::1", "::1", True),
        ("10.87.0.1", "10.87.0.1", True),  # the proxy, to the address that pods use
        ("10.88.0.7", "10.87.0.1", False),  # a pod
        ("192.0.2.5", "192.0.2.1", False),
    ],
)
async def test_only_requests_from_this_machine_are_let_in(
    authenticator: DemoAuthenticator, peer: str, own: str, is_welcome: bool
) -> None:
    data = {"username": "ada", "password": authenticator.accounts()["ada"]}
    assert authenticator.is_welcome(handler(peer, own)) is is_welcome
    user = await authenticator.authenticate(handler(peer, own), data)
    assert user == ("ada" if is_welcome else None)


@pytest.mark.parametrize(
    ("public_url", "is_let_in"),
    [
        ("http://hub.localhost:8000", True),
        ("http://hub.localhost:8001", False),
        ("http://elsewhere.example:8000", False),  # the request's Host is then a stranger's
    ],
)
async def test_a_name_made_to_resolve_to_this_machine_is_not_let_in(
    authenticator: DemoAuthenticator, public_url: str, is_let_in: bool
) -> None:
    authenticator.public_url = public_url
    ada = {"username": "ada", "password": authenticator.accounts()["ada"]}
    assert authenticator.is_welcome(handler()) is is_let_in
    assert await authenticator.authenticate(handler(), ada) == ("ada" if is_let_in else None)


async def test_a_real_connection_is_looked_at_not_its_headers() -> None:
    seen = []

    class Look(RequestHandler):
        def get(self) -> None:
            seen.append((self.request.remote_ip, is_from_this_machine(self.request)))

    listener, port = bind_unused_port()
    server = HTTPServer(Application([("/", Look)]), xheaders=True)
    server.add_sockets([listener])
    client = AsyncHTTPClient()
    await client.fetch(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "192.0.2.9"})
    server.stop()
    assert seen == [("192.0.2.9", True)]


def test_passwords_are_random_kept_and_private(authenticator: DemoAuthenticator) -> None:
    path = Path(authenticator.accounts_file)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = authenticator.accounts()
    authenticator.add_user(SimpleNamespace(name="ada"))  # as at each start of the hub
    assert authenticator.accounts() == before
    assert len({make_password() for _ in range(1000)}) == 1000
    authenticator.delete_user(SimpleNamespace(name="ada"))
    assert set(json.loads(path.read_text())) == {"grace"}


@pytest.mark.parametrize(
    ("url", "is_loopback"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000/", True),
        ("http://[::1]:8000", True),
        ("http://hub.localhost:8000", True),
        ("http://:8000", False),
        ("http://0.0.0.0:8000", False),
        ("http://[::]:8000", False),
        ("http://192.0.2.1:8000", False),
        ("http://localhost.example.org", False),
    ],
)
def test_it_does_not_start_on_a_hub_open_to_others_unless_told(url: str, is_loopback: bool) -> None:
    class Hub(LoggingConfigurable):
        bind_url = url

    assert is_loopback_url(url) is is_loopback
    if is_loopback:
        DemoAuthenticator(parent=Hub())
        return
    with pytest.raises(ValueError, match=r"accounts are shown on the login page, and .* is open"):
        DemoAuthenticator(parent=Hub())
    told = Config({"DemoAuthenticator": {"accept_other_machines": True}})
    DemoAuthenticator(parent=Hub(config=told))
