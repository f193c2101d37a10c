"""Two OpenID Connect providers at one hub: neither gets in the other's way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.auth.oidc_hub import RULES, OIDCHub, WalkingBrowser
from tests.auth.stub_provider import StubProvider
from tests.auth.test_team_authenticator import until


@pytest.fixture
def providers() -> Iterator[tuple[StubProvider, StubProvider]]:
    one, two = StubProvider(), StubProvider()
    yield one, two
    one.close()
    two.close()


@pytest.fixture
def hub(
    providers: tuple[StubProvider, StubProvider], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OIDCHub]:
    one, two = providers
    sources = [
        {"class": "X", "config": {"issuer": one.url, "url_scope": "one"}},
        {"class": "X", "config": {"issuer": two.url, "url_scope": "two", "name_prefix": "two-"}},
    ]
    classes = repr(sources).replace("'X'", "OIDCTeamAuthenticator")
    more = (
        "from jupyterhub_collab.hub.auth.several import SeveralAuthenticators\n"
        "c.JupyterHub.authenticator_class = SeveralAuthenticators\n"
        f"c.SeveralAuthenticators.authenticators = {classes}\n"
    )
    hub = OIDCHub(folder=tmp_path_factory.mktemp("oidc"), issuer=one.url, more=more)
    rules = RULES.format(issuer=one.url) + RULES.format(issuer=two.url).partition("rules:\n")[2]
    (hub.folder / "rules.yaml").write_text(rules)
    hub.start()
    hub.make_team("ocean")
    hub.make_team("river")
    yield hub
    hub.kill()


def test_both_let_in_are_asked_and_end_their_own(
    hub: OIDCHub, providers: tuple[StubProvider, StubProvider]
) -> None:
    one, two = providers
    for provider in providers:  # the same key and name at both: two people all the same
        provider.person = {"sub": "1", "preferred_username": "ada", "groups": ["team-ocean"]}
    browsers = [WalkingBrowser(hub), WalkingBrowser(hub)]
    for browser, scope in zip(browsers, ("one", "two"), strict=True):
        start = f"{hub.url}/oidc/{scope}/login"
        url = browser.walk(start, until=f"/hub/oidc/{scope}/callback")
        assert browser.client.get(url).status_code == 302
    assert hub.groups_of("ada") == hub.groups_of("two-ada") == ["ocean"]
    two.people["1"]["groups"] = ["team-river"]
    until(lambda: hub.groups_of("two-ada") == ["river"])
    assert hub.groups_of("ada") == ["ocean"]
    assert one.reused == two.reused == []

    # An answer of the one at the other's address; a log-out of the one at the other's.
    url = browsers[0].walk(f"{hub.url}/oidc/one/login", until="/hub/oidc/one/callback")
    assert browsers[0].client.get(url.replace("/one/", "/two/")).status_code == 400
    assert browsers[0].status() == browsers[1].status() == 200
    token = {"logout_token": one.logout_token(sub="1")}
    answer = browsers[0].client.post(f"{hub.url}/oidc/two/backchannel_logout", data=token)
    assert answer.status_code == 400
    assert browsers[1].status() == 200
    answer = browsers[0].client.post(f"{hub.url}/oidc/one/backchannel_logout", data=token)
    assert answer.status_code == 200
    assert browsers[0].status() == 302
    assert browsers[1].status() == 200
    there = browsers[1].get("logout").headers["Location"]
    assert there.startswith(f"{two.url}/end?")
    for browser in browsers:
        browser.client.close()
