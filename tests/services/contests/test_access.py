"""Over HTTP: each path, asked by everybody who may not."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import pytest

from jupyterhub_collab.services.contests.app import ROUTES

from .manifests import AGREEMENT, manifest, open_manifest
from .running import MANAGER_TOKEN, OTHER_TOKEN, PORTAL_TOKEN, STRANGER_TOKEN, ContestsService

NOTHING: Final = frozenset({401, 403, 404})


@dataclass(frozen=True)
class Call:
    """A request, and who of `PEOPLE` may make it."""

    method: str
    path: str
    who: str
    body: Any = None


PEOPLE: Final = {
    "admin": "root",
    "host": "host-den",
    "judge": "judge-den",
    "captain": "den-captain",
    "member": "den-member",
    "beside": "den-beside",  # of another team of the contest
    "elsewhere": "host-attic",
    "stranger": "den-stranger",
}
PROGRAMS: Final = {"manager": MANAGER_TOKEN, "portal": PORTAL_TOKEN, "other": OTHER_TOKEN}
RUNS: Final = "admin host manager"
CALLS: Final = (
    Call("GET", "contests/den", f"{RUNS} judge portal captain member beside"),
    Call("GET", "contests/den/teams", f"{RUNS} judge portal"),
    Call("GET", "contests/den/progress", RUNS),
    Call("GET", "contests/den/events", ""),  # not ended by itself: who may is tested elsewhere
    Call("GET", "contests/den/transitions", RUNS),
    Call("GET", "contests/den/operations", RUNS),
    Call("GET", "operations/{den}", RUNS),
    Call("POST", "operations/999999999/approve", "", {}),
    Call("POST", "operations/999999999/decline", "", {}),
    Call("POST", "contests/den/plan", RUNS, manifest("den")),
    Call("PUT", "contests/den/manifest", RUNS, manifest("den")),
    Call("PUT", "contests/attic2/manifest", "", {}),
    Call("PUT", "contests/den/ranking", f"{RUNS} judge", {"ranking": ["den-one"]}),
    Call("POST", "contests/den/actions", RUNS, {"action": "start", "dryRun": True}),
    Call("GET", "contests/den/certificate", ""),
    Call("GET", "contests/den/archives", RUNS),
    Call("GET", "teams/den-one/archives", RUNS),
    Call("POST", "teams/den-one/archives/restore", "", {"archive": "x.0123456789abcdef.1"}),
    Call("GET", "contests/den/agreement", ""),
    Call("POST", "contests/den/agreement", "", {"version": "1"}),
    Call("POST", "contests/den/teams", "", {"id": "den-three"}),
    Call("GET", "teams/den-one", f"{RUNS} judge portal captain member"),
    Call("POST", "teams/den-one/members", f"{RUNS} portal", {"entry": "den-member"}),
    Call("DELETE", "teams/den-one/members", "", {"entry": "den-captain"}),
    Call("POST", "teams/den-one/captain", f"{RUNS} portal captain", {"captain": "den-captain"}),
    Call("GET", "teams/den-one/invitations", f"{RUNS} portal captain"),
    Call("POST", "teams/den-one/invitations", f"{RUNS} portal captain", {}),
    Call("DELETE", "teams/den-one/invitations/none", ""),
    Call("POST", "teams/den-one/merge", "", {"into": "den-two"}),
    Call("POST", "invitations/accept", "", {"token": "den-one.nonsense"}),
    Call("POST", "rebuild", "admin manager", {"contest": "den"}),
)
REFUSED_OTHERWISE: Final = {
    # Where even who may is told no, for there is nothing there: 404, or why not now: 409, 422.
    "contests/attic2/manifest": {"admin", "manager"},
    "contests/den/certificate": {"admin", "host", "judge", "manager", "portal"},
    "teams/den-one/archives/restore": {"admin", "host", "manager"},
    "contests/den/agreement": {"captain", "member", "beside", "manager", "portal"},
    "contests/den/teams": {"admin", "host", "captain", "member", "beside", "manager", "portal"},
    "teams/den-one/members": {"admin", "host", "captain", "manager", "portal"},
    "teams/den-one/invitations/none": {"admin", "host", "captain", "manager", "portal"},
    "teams/den-one/merge": {"admin", "host", "captain", "manager", "portal"},
    "invitations/accept": {*PEOPLE, "manager", "portal"},
}


@pytest.fixture(scope="module")
def tokens(contests: ContestsService) -> dict[str, str]:
    """A contest with two teams, and a token of each who asks."""
    listed = {
        "den-one": {"tier": "small", "members": ["den-captain", "den-member"]},
        "den-two": {"tier": "small", "members": ["den-beside"]},
    }
    wanted = manifest("den") | {"teams": listed}
    assert contests.request("PUT", "api/contests/den/manifest", json=wanted).status_code == 202
    body = {"captain": "den-captain"}
    assert contests.request("POST", "api/teams/den-one/captain", json=body).is_success
    people = {who: contests.issue_token(name) for who, name in PEOPLE.items()}
    return people | PROGRAMS


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_who_may(contests: ContestsService, tokens: dict[str, str], call: Call) -> None:
    allowed = set(call.who.split())
    excused = REFUSED_OTHERWISE.get(call.path, set())
    path = f"api/{call.path.format(den=operation_of(contests))}"
    for who, token in tokens.items():
        if call.path.endswith("/events") and who in RUNS.split():
            continue
        if call.path == "operations/1" and who in ("admin", "manager"):
            continue
        answer = contests.request(call.method, path, json=call.body, token=token, key=f"{who}-key")
        assert answer.status_code < 500, answer.text
        if who in allowed:
            assert answer.status_code < 300, (who, answer.text)
        elif who not in excused:
            assert answer.status_code in NOTHING, (who, answer.text)
            assert set(answer.json()) == {"status", "message"}
    for token in ("", "nonsense", STRANGER_TOKEN):
        answer = contests.request(call.method, path, json=call.body, token=token)
        assert answer.status_code in (401, 403)


def operation_of(service: ContestsService) -> int:
    """An operation of the contest that is asked about."""
    found = service.request("GET", "api/contests/den/operations").json()["operations"]
    return int(found[0]["number"])


def test_every_path_is_asked() -> None:
    paths = {path for routes in ROUTES for path, _ in routes if path.startswith("api/")}
    asked = {
        path
        for path in paths
        if any(re.fullmatch(path, f"api/{call.path}".format(den=1)) for call in CALLS)
    }
    # Archives are fetched by a one-time token; see their own tests. Lists of contests are below.
    left = {p for p in paths - asked if "archives" not in p and "notices" not in p}
    assert left <= {"api/contests"}


def test_a_judge_ranks_on_a_page_and_sees_no_other(
    contests: ContestsService, tokens: dict[str, str]
) -> None:
    judge = tokens["judge"]
    start = contests.request("GET", "", token=judge).text
    assert "Contests you judge" in start
    assert "contests/den/ranking" in start
    page = contests.request("GET", "contests/den/ranking", token=judge)
    assert page.status_code == 200
    assert "den-two" in page.text
    assert "actions/advance" not in page.text
    for path in ("contests/den", "contests/den/registrations", "contests/den/operations"):
        assert contests.request("GET", path, token=judge).status_code == 403
    for who in ("captain", "member", "beside"):
        answer = contests.request("GET", "contests/den/ranking", token=tokens[who])
        assert answer.status_code == 403


def test_another_contest_s_host_sees_nothing_of_this_one(
    contests: ContestsService, tokens: dict[str, str]
) -> None:
    mine = manifest("attic", teams={"attic-one": {"tier": "small", "members": ["abe"]}})
    host = tokens["elsewhere"]
    assert contests.request("PUT", "api/contests/attic/manifest", json=mine, token=host).is_success
    seen = contests.request("GET", "api/contests", token=host).json()["contests"]
    assert "den" not in {contest["id"] for contest in seen}
    assert "attic" in {contest["id"] for contest in seen}
    # A manifest of theirs that names this one's team, or this one itself, does nothing.
    stolen = manifest("attic", teams={"den-one": {"tier": "small", "members": ["abe"]}})
    for method, path in (("PUT", "manifest"), ("POST", "plan")):
        answer = contests.request(method, f"api/contests/attic/{path}", json=stolen, token=host)
        assert answer.status_code == 422
        assert answer.json()["problems"][0]["field"] == "teams.den-one"
    for path in ("api/contests/attic/manifest", "api/contests/den/manifest"):
        answer = contests.request("PUT", path, json=manifest("den"), token=host)
        assert answer.status_code in (403, 404, 422)
    body = {"action": "freeze", "team": "den-one"}
    answer = contests.request(
        "POST", "api/contests/attic/actions", json=body, token=host, key="steal"
    )
    assert answer.status_code == 404
    ranking = {"ranking": ["den-one"]}
    answer = contests.request("PUT", "api/contests/attic/ranking", json=ranking, token=host)
    assert answer.status_code == 422
    one = contests.request("GET", "api/teams/den-one").json()
    assert one["contest"] == "den"
    assert one["state"] != "frozen"


def test_what_a_contest_is_before_and_while_it_is_open(
    contests: ContestsService, tokens: dict[str, str]
) -> None:
    sam = tokens["stranger"]
    wanted = open_manifest("porch", agreement=AGREEMENT)
    assert contests.request("PUT", "api/contests/porch/manifest", json=wanted).is_success
    assert contests.request("GET", "api/contests/porch", token=sam).status_code == 404
    body = {"action": "open"}
    assert contests.request("POST", "api/contests/porch/actions", json=body, key="o").is_success
    found = contests.request("GET", "api/contests/porch", token=sam).json()
    assert found["registration"]["agreement"] == AGREEMENT
    assert "manifest" not in found
    assert "teams" not in found
    assert contests.request("GET", "api/contests/porch/agreement", token=sam).is_success
    assert contests.request("GET", "api/contests/porch/teams", token=sam).status_code == 403
