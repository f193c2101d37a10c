"""The description of the contests service's API is valid, is the manual's, and is kept to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from openapi_spec_validator import validate

from jupyterhub_collab.services.contests.app import ROUTES
from jupyterhub_collab.services.contests.openapi import make_openapi

from .manifests import AGREEMENT, open_manifest
from .running import MANAGER_TOKEN, PORTAL_TOKEN, ContestsService

COMMITTED: Final = Path(__file__).parents[3] / "docs" / "api" / "contests.openapi.json"
SCHEMA: Final = schemathesis.openapi.from_dict(make_openapi())
#: A stream does not end by itself.
OPERATIONS: Final = [
    found.ok()
    for found in SCHEMA.get_all_operations()
    if found.ok() and not found.ok().path.endswith("/events")
]


def test_the_description_is_valid_openapi() -> None:
    validate(make_openapi())


def test_the_manual_has_it() -> None:
    """Renew it with: python tools/generate_docs.py"""
    assert json.loads(COMMITTED.read_text()) == make_openapi()


def test_every_path_is_described() -> None:
    described = {
        re.sub(r"\{[^}]*\}", "x", path).removeprefix("/") for path in make_openapi()["paths"]
    }
    served = {
        re.sub(r"\(.*?\)", "x", path)
        for routes in ROUTES
        for path, _ in routes
        if path.startswith("api/") and "archives" not in path
    }
    assert served <= described


@pytest.fixture(scope="module")
def fuzzed(contests: ContestsService) -> ContestsService:
    """With something in it that calls can hit."""
    wanted = open_manifest("fuzz", agreement=AGREEMENT)
    assert contests.request("PUT", "api/contests/fuzz/manifest", json=wanted).is_success
    body: dict[str, Any] = {"action": "open"}
    assert contests.request("POST", "api/contests/fuzz/actions", json=body, key="o").is_success
    for team in ("fuzz-a", "fuzz-b"):
        body = {"id": team, "captain": f"{team}-captain"}
        path = "api/contests/fuzz/teams"
        assert contests.request("POST", path, json=body, key=team, token=PORTAL_TOKEN).is_success
    return contests


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda found: found.label)
def test_hostile_calls_are_answered_as_described(fuzzed: ContestsService, operation: Any) -> None:
    """Generated from the description, right and wrong: never a 5xx, always what is described."""
    modes = list(schemathesis.GenerationMode)
    strategy = operation.as_strategy(generation_mode=modes[0])
    for mode in modes[1:]:
        strategy = strategy | operation.as_strategy(generation_mode=mode)

    @settings(
        max_examples=12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy)
    def check(case: Any) -> None:
        parameters = case.path_parameters or {}
        if "contest" in parameters:
            case.path_parameters = {**parameters, "contest": "fuzz"}
        if "team" in parameters:
            case.path_parameters = {**parameters, "team": "fuzz-a"}
        headers = {"Authorization": f"token {MANAGER_TOKEN}"}
        with httpx.Client(verify=False, timeout=20) as client:
            request = case.as_transport_kwargs(base_url=fuzzed.url.rstrip("/"))
            request["headers"] = {**dict(request.get("headers") or {}), **headers}
            for name in ("cookies", "auth"):
                request.pop(name, None)
            if isinstance(request.get("data"), bytes):
                request["content"] = request.pop("data")
            answer = client.request(**{k: v for k, v in request.items() if v is not None})
        assert answer.status_code < 500, (case, answer.text)
        if answer.status_code >= 400:
            said = answer.json()
            assert said["status"] == answer.status_code
            assert said["message"]

    check()


HOSTILE: Final = {
    "no JSON": b"{",
    "a list": b"[]",
    "a number": b"1",
    "twice": b'{"id": "a", "id": "b"}',
    "NaN": b'{"id": NaN}',
    "deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "not UTF-8": b'{"id": "\xff"}',
    "NUL": b'{"id": "fuzz-n", "title": "\\u0000"}',
    "half a pair": b'{"id": "fuzz-h", "title": "\\ud800"}',
    "control characters": b'{"id": "fuzz-c", "title": "\\u001b[2J"}',
    "unknown field": b'{"id": "fuzz-u", "admin": true}',
    "wrong type": b'{"id": 7}',
    "another grammar": b'{"id": "../../etc"}',
    "huge number": b'{"id": ' + b"9" * 5000 + b"}",
    "too large": b'{"id": "' + b"a" * 600_000 + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("path", ["contests/fuzz/teams", "contests/fuzz/actions", "rebuild"])
def test_hostile_bodies(fuzzed: ContestsService, name: str, path: str) -> None:
    answer = fuzzed.request("POST", f"api/{path}", content=HOSTILE[name], key="hostile")
    assert answer.status_code in (400, 413, 422), answer.text
    said = answer.json()
    if answer.status_code == 422:
        assert said["problems"][0]["field"]
    assert len(answer.content) < 10_000  # what is refused is not sent back
