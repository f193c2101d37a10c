"""Settings of the OpenID Connect authenticator: what a hub refuses to start with, and addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from jupyterhub.crypto import CryptKeeper
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub_collab.hub.auth.oidc import OIDCTeamAuthenticator
from jupyterhub_collab.hub.auth.oidc_session import Flow, ProviderSession, cookie_name
from jupyterhub_collab.hub.auth.team_authenticator import TeamAuthenticator
from jupyterhub_collab.identity.documents import SourceMisconfiguredError
from tests.auth.stub_provider import CLIENT, SECRET, Answer, StubProvider

ISSUER = "https://login.example.org/realms/science"


@pytest.fixture(autouse=True)
def _with_a_key() -> Iterator[None]:
    CryptKeeper.clear_instance()
    CryptKeeper.instance(config=Config(CryptKeeper={"keys": ["a" * 64]}))
    yield
    CryptKeeper.clear_instance()


def make(**more: Any) -> OIDCTeamAuthenticator:
    return OIDCTeamAuthenticator(**{"issuer": ISSUER, "client_id": CLIENT, **more})


def test_without_a_key_to_encrypt_by_it_says_what_to_do() -> None:
    CryptKeeper.clear_instance()
    CryptKeeper.instance(config=Config(CryptKeeper={"keys": []}))
    with pytest.raises(SourceMisconfiguredError, match="openssl rand -hex 32"):
        make()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("enable_pkce", False, "PKCE is always on"),
        ("validate_server_cert", False, "set ca_file"),
        ("userdata_from_id_token", True, "always read, and verified"),
        ("authorize_url", "https://x.example/a", "by discovery"),
        ("token_url", "https://x.example/t", "by discovery"),
        ("userdata_url", "https://x.example/u", "by discovery"),
        ("userdata_token_method", "url", "never goes into an address"),
        ("http_request_kwargs", {"validate_cert": False}, "set ca_file"),
        ("basic_auth", True, "client_auth"),
        ("admin_groups", {"x"}, "rule"),
        ("allowed_groups", {"x"}, "rule"),
        ("auth_state_groups_key", "a.b", "groups_claim"),
        ("claim_groups_key", "a", "groups_claim"),
        ("modify_auth_state_hook", lambda *_: None, "rules_file"),
        ("refresh_user_hook", lambda *_: None, "is asked"),
        ("enable_auth_state", False, "must be on"),
        ("manage_groups", False, "must be on"),
        ("scope", ["profile"], "openid"),
        ("url_scope", "a/(b)", "small letters"),
    ],
)
def test_what_would_weaken_a_login_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises((TraitError, SourceMisconfiguredError), match=words):
        make(**{name: value})


def test_an_issuer_on_the_open_net_without_tls_is_refused() -> None:
    with pytest.raises(SourceMisconfiguredError, match="is http; use https"):
        make(issuer="http://login.example.org")


def test_a_secret_of_a_file_is_read_when_it_is_used(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with pytest.raises(SourceMisconfiguredError, match="cannot be read"):
        make(client_secret_file=str(file))
    file.write_text("\n")
    with pytest.raises(SourceMisconfiguredError, match="is empty"):
        make(client_secret_file=str(file))
    file.write_text("one\n")
    made = make(client_secret_file=str(file))
    assert made.read_secret() == "one"
    file.write_text("two\n")
    assert made.read_secret() == "two"


def test_what_the_login_sends_cannot_be_set() -> None:
    more = {"hd": "example.org", "state": "mine", "code_challenge_method": "plain"}
    made = make(extra_authorize_params=more)
    metadata: Any = SimpleNamespace(authorization_endpoint=f"{ISSUER}/auth?kc=1")
    flow = Flow(ISSUER, "https://hub.example/hub/oauth_callback")
    url = made.authorization_url(metadata, flow, challenge="c")
    asked = parse_qs(urlsplit(url).query)
    assert asked["hd"] == ["example.org"]
    assert asked["kc"] == ["1"]
    assert asked["state"] == [flow.state]
    assert asked["code_challenge_method"] == ["S256"]


class Combining(TeamAuthenticator):
    """As one that combines several."""

    @property
    def issuer(self) -> str:
        return "several"


def test_one_of_several_has_addresses_of_its_own() -> None:
    parent = Combining()
    one = make(parent=parent)
    two = make(parent=parent, issuer="https://b.example", url_scope="lab")
    paths = [[path for path, _ in source.get_handlers(None)] for source in (one, two)]
    assert paths[0] == [
        f"/oidc/login-example-org/{what}" for what in ("login", "callback", "backchannel_logout")
    ]
    assert paths[1] == [f"/oidc/lab/{what}" for what in ("login", "callback", "backchannel_logout")]
    assert two.login_url("/hub/") == "/hub/oidc/lab/login"
    assert two._admission is None  # the hub's is the parent's
    assert parent.enable_auth_state  # or nothing could be asked by
    sources = [handler.source for source in (one, two) for _, handler in source.get_handlers(None)]
    assert sources == [one] * 3 + [two] * 3


def test_the_callback_is_where_browsers_see_the_hub() -> None:
    handler: Any = SimpleNamespace(
        hub=SimpleNamespace(base_url="/base/hub/"),
        request=SimpleNamespace(protocol="http", host="evil.example"),
        settings={"public_url": urlsplit("https://hub.example/base/")},
    )
    assert make().get_callback_url(handler) == "https://hub.example/base/hub/oauth_callback"
    fixed = make(oauth_callback_url="https://other.example/cb")
    assert fixed.get_callback_url(handler) == "https://other.example/cb"


def test_nothing_secret_is_in_a_representation() -> None:
    flow = Flow(ISSUER, "https://hub.example/cb")
    session = ProviderSession(ISSUER, {"sub": "1"}, "access", "refresh", "id")
    for secret in (flow.state, flow.nonce, flow.verifier, "access", "refresh", "'id'"):
        assert secret not in repr((flow, session))
    assert flow.state not in cookie_name(flow.state)


@pytest.mark.parametrize("kept", [None, {}, [], {"access_token": "a"}, {"collab_oidc": 5},
                                  {"collab_oidc": {"issuer": "other", "claims": {}}},
                                  {"collab_oidc": {"issuer": ISSUER, "claims": []}},
                                  {"collab_oidc": {"issuer": ISSUER, "claims": {}}}])  # fmt: skip
def test_a_state_that_is_another_authenticators_is_none(kept: object) -> None:
    assert ProviderSession.from_auth_state(kept, issuer=ISSUER) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", "5", '{"issuer": 5}', '{"a": "b"}', "[" * 10_000])
def test_a_cookie_that_is_none_of_ours_is_none(text: str) -> None:
    assert Flow.from_text(text) is None


@pytest.fixture
def provider() -> Iterator[StubProvider]:
    provider = StubProvider()
    yield provider
    provider.close()


async def test_doctor_says_what_the_provider_can_do(provider: StubProvider) -> None:
    found = await make(issuer=provider.url, client_secret=SECRET).check()
    assert found.is_fine
    steps = {finding.step: finding for finding in found.found}
    assert steps["keys"].text == "1 that can be used"
    assert "takes the-hub and its secret" in steps["credentials"].text
    assert "/hub/oidc/backchannel_logout" in steps["back-channel log-out"].text
    assert steps["PKCE"].is_fine


async def test_doctor_says_what_is_wrong(provider: StubProvider) -> None:
    found = await make(issuer=provider.url, client_secret="other").check()
    wrong = [finding for finding in found.found if finding.is_fine is False]
    assert [finding.step for finding in wrong] == ["credentials"]
    assert "client_id and secret" in wrong[0].text

    provider.published = ()
    provider.metadata = {
        "code_challenge_methods_supported": None, "backchannel_logout_supported": None,
        "userinfo_endpoint": None, "end_session_endpoint": None,
    }  # fmt: skip
    found = await make(issuer=provider.url, client_secret=SECRET).check()
    steps = {finding.step: finding.is_fine for finding in found.found}
    assert steps["keys"] is False
    for step in ("PKCE", "back-channel log-out", "userinfo", "log-out"):
        assert steps[step] is None

    provider.metadata = {"issuer": "https://other.example"}
    found = await make(issuer=provider.url).check()
    assert [(f.step, f.is_fine) for f in found.found] == [("discovery", False)]
    assert "https://other.example" in found.found[0].text
    provider.answers = {"/.well-known/openid-configuration": lambda _: Answer(500)}
    assert not (await make(issuer=provider.url).check()).is_fine
