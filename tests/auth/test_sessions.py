"""One word for all lifetimes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.hub.auth.sessions import LIFETIMES, Sessions, configure_sessions
from tests.auth.paper_authenticator import PaperAuthenticator


def test_where_data_is_protected_sessions_are_short() -> None:
    c = Config()
    configure_sessions(c, "protected")
    assert c.JupyterHub.cookie_max_age_days == 0.25
    assert c.JupyterHub.oauth_token_expires_in == 6 * 3600
    assert c.JupyterHub.token_expires_in_max_seconds == 3600
    assert c.Authenticator.auth_refresh_age == 60


@pytest.mark.parametrize("kind", list(Sessions))
def test_no_token_for_ever(kind: Sessions) -> None:
    """Of JupyterHub's settings 0 means without end, or never."""
    found = LIFETIMES[kind]
    c = Config()
    configure_sessions(c, kind)
    assert 0 < c.JupyterHub.token_expires_in_max_seconds == found.token.total_seconds()
    assert 0 < c.Authenticator.auth_refresh_age <= 300
    assert c.JupyterHub.cookie_max_age_days * 86400 == c.JupyterHub.oauth_token_expires_in


@pytest.mark.parametrize("kind", ["", "short", "PROTECTED", None, 6])
def test_nonsense_is_refused_by_name(kind: object) -> None:
    with pytest.raises(ValueError, match=r"sessions: .* none of protected, workday, long"):
        configure_sessions(Config(), kind)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"), [("manage_groups", False), ("username_map", {"ada": "root"})]
)
def test_settings_that_would_break_the_answer_are_refused(name: str, value: object) -> None:
    config = Config({"PaperAuthenticator": {name: value}})
    with pytest.raises(TraitError, match=name):
        PaperAuthenticator(config=config)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_who_is_who_is_not_kept_in_memory(tmp_path: Path, url: str) -> None:
    paper = PaperAuthenticator(database_url=url)
    with pytest.raises(PermanentError, match=r"c\.TeamAuthenticator\.database_url"):
        paper.get_handlers(SimpleNamespace(log=paper.log, db_url="", db=None, eventlog=None))
