"""The API's description, and what is shown to people."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from jupyterhub_collab.managers.tenancy_status import TeamStatus, next_status
from jupyterhub_collab.reconcile.conditions import State
from jupyterhub_collab.reconcile.issues import Issue, IssueType
from jupyterhub_collab.services.provisioner.app import ProvisionerApp
from jupyterhub_collab.services.provisioner.handlers import Work
from jupyterhub_collab.services.provisioner.openapi import DEFAULT_PREFIX, make_openapi
from jupyterhub_collab.services.provisioner.page import make_page
from jupyterhub_collab.services.provisioner.routes import make_routes

COMMITTED = Path(__file__).parents[2] / "docs" / "api" / "provisioner.openapi.json"
NOON = datetime(2027, 1, 31, 12, tzinfo=timezone.utc)


def test_the_description_is_valid_openapi() -> None:
    validate(make_openapi())


def test_the_committed_description_is_this_one() -> None:
    """Renew it with: python -m jupyterhub_collab.services.provisioner.openapi"""
    assert json.loads(COMMITTED.read_text()) == make_openapi()


def test_every_route_is_described() -> None:
    work = Work(None, None, DEFAULT_PREFIX, None, None)  # type: ignore[arg-type]
    routes = {
        path.removeprefix(DEFAULT_PREFIX).replace("([^/]+)", "{team}")
        for path, *_ in make_routes(work)
    }
    described = {path.removeprefix("/") for path in make_openapi()["paths"]}
    assert routes - described == {"", "oauth_callback"}
    assert described <= routes


def make_status(
    before: TeamStatus | None = None, *, state: State = State.READY, **more: object
) -> TeamStatus:
    return next_status(
        before,
        team="ocean",
        contest="reef",
        namespace="team-ocean",
        state=state,
        now=more.pop("now", NOON),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )


def test_the_table_shows_text_as_text() -> None:
    issue = Issue(IssueType.NOT_OURS, "Exists", "<script>alert(1)</script>")
    page = make_page(
        [make_status(state=State.FAILED, issues=(issue,))], total=1, offset=0, after=None
    )
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_condition_keeps_its_time_while_nothing_changes() -> None:
    issue = Issue(IssueType.REFUSED, "Forbidden", "no")
    first = make_status(state=State.FAILED, issues=(issue,))
    later = make_status(first, state=State.FAILED, issues=(issue,), now=NOON.replace(hour=13))
    assert [c.last_transition for c in later.conditions] == [NOON, NOON]
    ready = make_status(later, now=NOON.replace(hour=14))
    assert [(c.type, c.status) for c in ready.conditions] == [("Ready", True)]
    assert ready.conditions[0].last_transition.hour == 14
    assert ready.conditions[0].to_wire()["lastTransitionTime"] == "2027-01-31T14:00:00Z"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "JUPYTERHUB_API_TOKEN"),
        ({"JUPYTERHUB_API_URL": "http://x", "JUPYTERHUB_API_TOKEN": "t"}, "COLLAB_PLATFORM_FILE"),
        (
            {
                "JUPYTERHUB_API_URL": "http://x",
                "JUPYTERHUB_API_TOKEN": "t",
                "COLLAB_PLATFORM_FILE": "/nowhere.json",
            },
            "/nowhere.json cannot be used",
        ),
    ],
)
def test_a_missing_setting_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], words: str
) -> None:
    for name in ("JUPYTERHUB_API_URL", "JUPYTERHUB_API_TOKEN", "COLLAB_PLATFORM_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    app = ProvisionerApp()
    app.initialize([])
    with pytest.raises(SystemExit, match=words):
        app.start()
