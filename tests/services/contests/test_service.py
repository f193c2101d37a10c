"""The service itself: who comes in at all, errors in one form, what is not there."""

from __future__ import annotations

import pytest

from .running import OTHER_TOKEN, STRANGER_TOKEN, ContestsService


def test_health_takes_no_token(contests: ContestsService) -> None:
    for path in ("health", "live", "openapi.json"):
        assert contests.request("GET", path, token="").status_code == 200


@pytest.mark.parametrize(
    ("token", "status"), [("", 401), ("nonsense", 401), (STRANGER_TOKEN, 403), (OTHER_TOKEN, 200)]
)
def test_who_comes_in(contests: ContestsService, token: str, status: int) -> None:
    answer = contests.request("GET", "api/contests", token=token)
    assert answer.status_code == status, answer.text
    if status != 200:
        assert set(answer.json()) == {"status", "message"}


def test_errors_are_json(contests: ContestsService) -> None:
    for path in ("api/nothing", "api/contests/none", "api/contests/UPPER", "api/contests/%00"):
        answer = contests.request("GET", path)
        assert answer.status_code == 404, path
        assert answer.json()["status"] == 404
