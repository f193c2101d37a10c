"""A certified OpenID Connect provider (npm: oidc-provider) and a real hub, a browser between."""

from __future__ import annotations

import json
import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.auth.oidc_hub import OIDCHub, WalkingBrowser
from tests.auth.stub_provider import CLIENT, SECRET
from tests.auth.test_team_authenticator import until
from tests.identity.certified_program import find_program, private_jwk
from tests.identity.publishing import ED_KEY, RSA_KEY


class Certified:
    """The provider's process; each `configure` replaces it at the same address."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def configure(self, hub_url: str, *groups: str, key: Any = RSA_KEY, alg: str = "RS256") -> str:
        client = {
            "client_id": CLIENT,
            "client_secret": SECRET,
            "redirect_uris": [f"{hub_url}/oauth_callback"],
            "post_logout_redirect_uris": [f"{hub_url}/logout"],
            "grant_types": ["authorization_code", "refresh_token"],
            "id_token_signed_response_alg": alg,
            "backchannel_logout_uri": f"{hub_url}/oidc/backchannel_logout",
            "backchannel_logout_session_required": True,
        }
        return self._say(keys=[private_jwk(key)], client=client, claims=claims_with(groups))

    def say_groups(self, *groups: str) -> None:
        """What it says of everybody from now on."""
        self._say(claims=claims_with(groups))

    def _say(self, **settings: Any) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(settings) + "\n")
        self.process.stdin.flush()
        while True:
            line = self._lines.get(timeout=30)
            if line.startswith("at "):
                return line.split()[1]

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


def claims_with(groups: tuple[str, ...]) -> dict[str, Any]:
    return {"preferred_username": "ada", "groups": list(groups)}


@pytest.fixture(scope="module")
def certified(request: pytest.FixtureRequest) -> Iterator[Certified]:
    provider = Certified(find_program(request.config))
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def hub(certified: Certified, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCHub]:
    issuer = certified.configure("http://127.0.0.1:1/hub")  # its address is chosen by this
    hub = OIDCHub(folder=tmp_path_factory.mktemp("oidc"), issuer=issuer)
    certified.configure(hub.url, "team-ocean")
    hub.start()
    for team in ("ocean", "river"):
        hub.make_team(team)
    yield hub
    hub.kill()


@pytest.fixture
def browser(hub: OIDCHub) -> Iterator[WalkingBrowser]:
    browser = WalkingBrowser(hub)
    yield browser
    browser.client.close()


def log_out_at_provider(browser: WalkingBrowser, url: str) -> str:
    """Says yes to the provider's question. Where it sends the browser then."""
    page = browser.client.get(url)
    action = re.search(r'action="([^"]+)"', page.text)
    xsrf = re.search(r'name="xsrf" value="([^"]+)"', page.text)
    assert action, page.text
    assert xsrf, page.text
    form = {"xsrf": xsrf[1], "logout": "yes"}
    answer = browser.client.post(urljoin(url, action[1]), data=form)
    return answer.headers.get("Location", "")


def test_login_group_sync_and_refresh(
    hub: OIDCHub, certified: Certified, browser: WalkingBrowser
) -> None:
    assert browser.log_in("person-7").status_code == 302
    assert hub.groups_of("ada") == ["ocean"]
    first = hub.auth_state_of("ada")["refresh_token"]
    assert first
    certified.say_groups("team-river")
    until(lambda: hub.groups_of("ada") == ["river"])
    assert hub.auth_state_of("ada")["refresh_token"] != first
    assert browser.status() == 200
    for _ in range(2):  # and on, with each new refresh token
        kept = hub.auth_state_of("ada")["refresh_token"]
        until(lambda kept=kept: hub.auth_state_of("ada")["refresh_token"] != kept)
    assert hub.groups_of("ada") == ["river"]


def test_log_out_at_the_provider_ends_the_session_here(
    hub: OIDCHub, browser: WalkingBrowser
) -> None:
    assert browser.log_in("person-7").status_code == 302
    token = hub.api("POST", "users/ada/tokens", json={}).json()["token"]
    log_out_at_provider(browser, f"{hub.issuer}/session/end")
    assert "POST /hub/oidc/backchannel_logout" in hub.log
    assert browser.status() == 302
    assert hub.api("GET", "user", token=token).status_code == 403
    assert hub.auth_state_of("ada") is None


def test_log_out_here_ends_the_session_at_the_provider(
    hub: OIDCHub, browser: WalkingBrowser
) -> None:
    assert browser.log_in("person-7").status_code == 302
    there = browser.get("logout").headers["Location"]
    assert there.startswith(f"{hub.issuer}/session/end?")
    assert browser.status() == 302
    back = log_out_at_provider(browser, there)
    assert back == f"{hub.url}/logout"
    assert browser.client.get(back).headers["Location"] == "/hub/login"
    browser.seen.clear()
    assert browser.log_in("person-7").status_code == 302
    assert any("/interaction/" in url for url in browser.seen)  # it asked who that is


def test_another_algorithm_and_key_while_the_hub_runs(
    hub: OIDCHub, certified: Certified, browser: WalkingBrowser
) -> None:
    """The discovery document of before still counts for up to an hour; the keys do not."""
    hub.kill()
    certified.configure(hub.url, "team-ocean", key=ED_KEY, alg="EdDSA")
    hub.start()
    assert browser.log_in("person-7").status_code == 302
    assert hub.groups_of("ada") == ["ocean"]
