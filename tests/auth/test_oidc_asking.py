"""Asking about one person while they log in or out: what is kept, and what is not taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.crypto import CryptKeeper
from traitlets.config import Config

from jupyterhub_collab.hub.auth.oidc import OIDCTeamAuthenticator
from jupyterhub_collab.hub.auth.oidc_session import ProviderSession
from jupyterhub_collab.hub.auth.source import SessionOverError
from jupyterhub_collab.identity.oidc_client import GrantRefusedError, Tokens
from jupyterhub_collab.models import Facts, Identity

ISSUER = "https://login.example.org"
NOW = datetime(2027, 1, 31, 12, 0, tzinfo=timezone.utc)


class User:
    """JupyterHub's, as far as it is asked for auth state."""

    name = "ada"

    def __init__(self, state: Any) -> None:
        self.state = state

    async def get_auth_state(self) -> Any:
        return self.state

    async def save_auth_state(self, state: Any) -> None:
        self.state = state


def kept(refresh_token: str | None) -> dict[str, Any]:
    return ProviderSession(ISSUER, {"sub": "1"}, "access", refresh_token).to_auth_state()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    CryptKeeper.clear_instance()
    CryptKeeper.instance(config=Config(CryptKeeper={"keys": ["a" * 64]}))
    source = OIDCTeamAuthenticator(issuer=ISSUER, client_id="c")

    async def facts_of(claims: Any, access_token: str, **_: Any) -> Facts:
        return Facts(Identity(ISSUER, "1"), "ada", NOW, claims={"by": access_token})

    monkeypatch.setattr(source, "_facts_of", facts_of)
    monkeypatch.setattr(source, "_admission", SimpleNamespace(now=lambda: NOW))
    yield source
    CryptKeeper.clear_instance()


def refreshing(source: Any, does: Callable[[str], Any]) -> list[str]:
    asked: list[str] = []

    async def refresh(token: str) -> Tokens:
        asked.append(token)
        await asyncio.sleep(0)
        return does(token)

    source.client.refresh = refresh
    return asked


def refused(_: str) -> Any:
    raise GrantRefusedError("invalid_grant")


async def test_many_who_ask_at_once_share_one_refresh(source: Any) -> None:
    user = User(kept("r1"))
    asked = refreshing(source, lambda token: Tokens("a2", refresh_token="r2"))
    answers = await asyncio.gather(*(source.ask(user, None) for _ in range(20)))
    assert asked == ["r1"]
    assert {answer.facts.claims["by"] for answer in answers} == {"a2"}
    assert user.state["refresh_token"] == "r2"


async def test_who_asks_later_uses_the_new_token(source: Any) -> None:
    user = User(kept("r1"))
    asked = refreshing(source, lambda token: Tokens("a", refresh_token=token + "+"))
    for _ in range(3):
        await source.ask(user, None)
    assert asked == ["r1", "r1+", "r1++"]


async def test_one_who_gives_up_takes_nobodys_answer_along(source: Any) -> None:
    user = User(kept("r1"))
    refreshing(source, lambda token: Tokens("a2", refresh_token="r2"))
    impatient = asyncio.ensure_future(source.ask(user, None))
    patient = asyncio.ensure_future(source.ask(user, None))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).facts is not None
    assert user.state["refresh_token"] == "r2"


async def test_a_refusal_of_the_session_before_a_new_login_takes_nothing(source: Any) -> None:
    user = User(kept("old"))

    def does(token: str) -> Tokens:
        if token == "old":
            user.state = kept("new")  # they logged in again meanwhile
            refused(token)
        return Tokens("a", refresh_token="newer")

    asked = refreshing(source, does)
    assert (await source.ask(user, None)).facts is not None
    assert asked == ["old", "new"]
    assert user.state["refresh_token"] == "newer"


async def test_a_refusal_is_a_loss_and_is_not_remembered(source: Any) -> None:
    user = User(kept("r1"))
    refreshing(source, refused)
    answer = await source.ask(user, None)
    assert answer.facts is None
    assert "ended their session" in answer.because
    assert user.state is None
    with pytest.raises(SessionOverError):
        await source.ask(user, None)


@pytest.mark.parametrize("meanwhile", [None, kept("of-a-new-login")])
async def test_who_logged_out_or_in_meanwhile_keeps_that(source: Any, meanwhile: Any) -> None:
    user = User(kept("r1"))

    def does(_: str) -> Tokens:
        user.state = meanwhile
        return Tokens("a2", refresh_token="r2")

    refreshing(source, does)
    await source.ask(user, None)
    assert user.state == meanwhile


async def test_a_provider_that_keeps_its_refresh_token_is_asked_by_it_again(source: Any) -> None:
    user = User(kept("r1"))
    refreshing(source, lambda _: Tokens("a2"))
    await source.ask(user, None)
    assert user.state["refresh_token"] == "r1"
    assert user.state["access_token"] == "a2"
