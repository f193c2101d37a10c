"""Who stands nowhere learns nothing: what is there and not theirs is answered as what is not there.

All calls of the OpenAPI document and all pages: the same status, words and headers, and nothing of
what is there is read for it.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest

from jupyterhub_collab.services.contests.app import ROUTES
from jupyterhub_collab.services.contests.openapi import make_openapi

from .manifests import AGREEMENT, manifest, open_manifest
from .running import MANAGER_TOKEN, OTHER_TOKEN, ContestsService

PUBLIC: Final = frozenset({"/health", "/live", "/metrics", "/openapi.json"})
#: Of a path, what is sent: a body that its schema takes, with the contest C and its team T.
BODIES: Final[dict[str, Any]] = {
    "/api/contests/{contest}/plan": manifest("C"),
    "/api/contests/{contest}/manifest": manifest("C"),
    "/api/contests/{contest}/ranking": {"ranking": ["T"]},
    "/api/contests/{contest}/agreement": {"version": "1"},
    "/api/contests/{contest}/actions": {"action": "freeze", "team": "T", "dryRun": True},
    "/api/contests/{contest}/teams": {"id": "T2"},
    "/api/contests/{contest}/notices": {"text": "Hello", "team": "T"},
    "/api/operations/{number}/approve": {},
    "/api/operations/{number}/decline": {},
    "/api/teams/{team}/archives/restore": {"archive": "T.0123456789abcdef.1"},
    "/api/teams/{team}/members": {"entry": "anna"},
    "/api/teams/{team}/captain": {"captain": "anna"},
    "/api/teams/{team}/invitations": {"lastsDays": 1},
    "/api/teams/{team}/merge": {"into": "T", "invitation": "T.nonsense"},
    "/api/invitations/accept": {"token": "T.nonsense"},
    "/api/rebuild": {"contest": "C"},
}
CALLS: Final = tuple(
    (method.upper(), path)
    for path, methods in make_openapi()["paths"].items()
    if path not in PUBLIC
    for method in methods
)
PAGES: Final = (
    "contests/{contest}",
    "contests/{contest}/teams",
    "contests/{contest}/teams/{team}",
    "contests/{contest}/ranking",
    "contests/{contest}/registrations",
    "contests/{contest}/operations",
    "contests/{contest}/actions/freeze",
    "contests/{contest}/actions/nonsense",
    "contests/{contest}/notices/new",
    "operations/{number}",
    "register/{contest}",
    "my/{team}",
)
FORM: Final = {"do": "approve", "id": "anna", "key": "k" * 20, "text": "x", "action": "freeze"}


@dataclass(frozen=True)
class Names:
    """Of something that is there, or of what is not; of the same lengths."""

    contest: str
    team: str
    number: str
    invitation: str

    def put(self, text: str) -> str:
        """Into an address."""
        return text.format(**self.__dict__)

    def body(self, value: Any) -> Any:
        """Into a body."""
        text = json.dumps(value)
        for mark, name in (("C", self.contest), ("T", self.team), ("T2", f"{self.team}-2")):
            text = text.replace(f'"{mark}"', f'"{name}"').replace(f'"{mark}.', f'"{name}.')
        return json.loads(text)

    def strip(self, text: str) -> str:
        """Out of an answer."""
        for name in (self.team, self.contest, self.invitation):
            text = text.replace(name, "~")
        return re.sub(rf"\b{self.number}(?='|&#x27;|&#39;)", "~", text)


@pytest.fixture(scope="module")
def there(contests: ContestsService) -> Names:
    """A contest with a team, an operation that waits, a notice and an invitation."""
    wanted = manifest(
        "hid-a",
        endings={"noticeSeconds": 0, "twoPersons": True},
        registration={"tier": "small", "agreement": AGREEMENT},
        teams={"hid-a-one": {"tier": "small", "members": ["hid-member"]}},
    )

    def ask(method: str, path: str, key: str = "", **body: Any) -> Any:
        answer = contests.request(method, f"api/{path}", json=body, key=key)
        assert answer.is_success, answer.text
        return answer.json()

    ask("PUT", "contests/hid-a/manifest", **wanted)
    ask("POST", "teams/hid-a-one/captain", captain="hid-member")
    ask("POST", "contests/hid-a/notices", key="n", text="Hello")
    asked = ask("POST", "contests/hid-a/actions", key="o", action="eliminate", team="hid-a-one")[
        "operation"
    ]
    assert asked["state"] == "proposed"
    made = ask("POST", "teams/hid-a-one/invitations", key="i")
    return Names("hid-a", "hid-a-one", str(asked["number"]), made["id"])


def absent(there: Names) -> Names:
    number = str(10 ** len(there.number) - 1)
    return Names("hid-x", "hid-x-one", number, "x" * len(there.invitation))


@pytest.fixture(scope="module")
def strangers(contests: ContestsService, there: Names) -> dict[str, str]:
    """Nobody, and those who stand somewhere else."""
    answer = contests.request(
        "PUT",
        "api/contests/yard/manifest",
        json=manifest("yard", teams={"yard-one": {"tier": "small", "members": ["yard-cap"]}}),
    )
    assert answer.is_success, answer.text
    body = {"captain": "yard-cap"}
    assert contests.request("POST", "api/teams/yard-one/captain", json=body).is_success
    people = {
        "nobody": "hid-nobody",
        "a captain elsewhere": "yard-cap",
        "a host elsewhere": "host-yard",
        "a judge elsewhere": "judge-yard",
    }
    return {who: contests.issue_token(name) for who, name in people.items()} | {
        "a program": OTHER_TOKEN
    }


def shown(answer: httpx.Response, names: Names) -> tuple[object, ...]:
    """All that somebody can see of an answer."""
    headers = {k: v for k, v in answer.headers.items() if k not in ("date", "etag", "set-cookie")}
    return answer.status_code, names.strip(answer.text), headers


def test_bodies_are_known_for_all_calls() -> None:
    with_body = {
        path
        for path, methods in make_openapi()["paths"].items()
        for call in methods.values()
        if "requestBody" in call
    }
    assert with_body == BODIES.keys()


def test_all_pages_are_asked() -> None:
    """Those with something in their address."""
    served = {
        path
        for routes in ROUTES
        for path, _ in routes
        if "(" in path and not path.startswith(("api/", "static/"))
    }
    asked = {
        path
        for path in served
        if any(re.fullmatch(path, page.format(contest="c", team="t", number="1")) for page in PAGES)
    }
    assert served == asked


@pytest.mark.parametrize(("method", "path"), CALLS, ids=lambda part: part)
def test_no_call_tells_what_is_there(
    contests: ContestsService,
    there: Names,
    strangers: dict[str, str],
    method: str,
    path: str,
) -> None:
    bodies: list[dict[str, Any]] = [{}]
    if path in BODIES:
        bodies = [{"json": BODIES[path]}, {"json": {}}, {"content": b"{"}]
    for who, token in strangers.items():
        for body in bodies:
            seen = []
            for names in (there, absent(there)):
                sent = {"json": names.body(body["json"])} if "json" in body else body
                address = names.put(path).removeprefix("/")
                answer = contests.request(method, address, token=token, key="k", **sent)
                seen.append(shown(answer, names))
            assert seen[0] == seen[1], who
            assert seen[0][0] in (200, 400, 403, 404, 409, 422)
            if "{" in path:
                assert seen[0][0] in (403, 404), who


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_page_tells_what_is_there(
    contests: ContestsService, there: Names, strangers: dict[str, str], method: str, page: str
) -> None:
    for who, token in strangers.items():
        seen = []
        for names in (there, absent(there)):
            form = {"data": FORM} if method == "POST" else {}
            answer = contests.request(method, names.put(page), token=token, **form)
            seen.append(shown(answer, names))
        assert seen[0] == seen[1], who
        assert seen[0][0] in (403, 404, 405), who


def test_a_captain_learns_of_no_other_team(
    contests: ContestsService, there: Names, strangers: dict[str, str]
) -> None:
    token = strangers["a captain elsewhere"]
    for more in ({}, {"invitation": "T.nonsense"}):
        seen = []
        for names in (there, absent(there)):
            body = names.body({"into": "T", **more})
            path = "api/teams/yard-one/merge"
            seen.append(shown(contests.request("POST", path, json=body, token=token), names))
        assert seen[0] == seen[1]


def test_a_host_elsewhere_does_not_learn_whose_a_team_is(
    contests: ContestsService, there: Names, strangers: dict[str, str]
) -> None:
    wanted = manifest("yard", teams={there.team: {"tier": "small"}})
    for method, path in (("PUT", "manifest"), ("POST", "plan")):
        answer = contests.request(
            method,
            f"api/contests/yard/{path}",
            json=wanted,
            token=strangers["a host elsewhere"],
        )
        assert answer.status_code == 422
        assert '"hid-a"' not in answer.text.replace("\\", "")


@contextmanager
def spoilt(
    service: ContestsService, name: str, table: str = "contests", column: str = "manifest"
) -> Iterator[None]:
    """Its row cannot be read meanwhile."""
    file = service.folder / "state" / "contests.sqlite"

    def write(text: str) -> str:
        with closing(sqlite3.connect(file, timeout=20)) as connection, connection:
            wanted = f"SELECT {column} FROM contest_{table} WHERE id = ?"
            (before,) = connection.execute(wanted, (name,)).fetchone()
            changed = f"UPDATE contest_{table} SET {column} = ? WHERE id = ?"
            connection.execute(changed, (text, name))
        return str(before)

    before = write("{")
    try:
        yield
    finally:
        write(before)


def test_nothing_of_it_is_read_for_a_stranger(
    contests: ContestsService, there: Names, strangers: dict[str, str]
) -> None:
    """Else it would show in a contest that cannot be read; and in how long an answer takes."""
    addresses = [(m, p.removeprefix("/"), BODIES.get(p)) for m, p in CALLS if "{contest}" in p]
    addresses += [("GET", page, None) for page in PAGES if "{contest}" in page]
    addresses += [("GET", "api/operations/{number}", None), ("GET", "operations/{number}", None)]
    with spoilt(contests, "hid-a"):
        for method, path, body in addresses:
            seen = []
            for names in (there, absent(there)):
                more = {} if body is None else {"json": names.body(body)}
                answer = contests.request(
                    method, names.put(path), token=strangers["nobody"], key="k", **more
                )
                seen.append(shown(answer, names))
            assert seen[0] == seen[1], path
        listed = contests.request("GET", "api/contests", token=strangers["nobody"]).json()
        assert listed["problems"] == []


def test_who_runs_it_is_told_why_it_stands_still(contests: ContestsService, there: Names) -> None:
    host = contests.issue_token("host-hid-a")
    member = contests.issue_token("hid-member")
    with spoilt(contests, "hid-a"):
        for token in (host, MANAGER_TOKEN):
            answer = contests.request("GET", "api/contests/hid-a", token=token)
            assert answer.status_code == 502
            assert "hid-a in the registry cannot be read" in answer.json()["message"]
            listed = contests.request("GET", "api/contests", token=token).json()
            (problem,) = listed["problems"]
            assert problem["contest"] == "hid-a"
            assert "cannot be read" in problem["message"]
        start = contests.request("GET", "", token=host)
        assert "hid-a stands still." in start.text
        root = contests.issue_token("root")
        figures = contests.request("GET", "metrics", token=root).text
        assert "collab_contests_unreadable 1.0" in figures
        # A member is told that it is so, and no more; the other contests go on.
        answer = contests.request("GET", "api/contests/hid-a", token=member)
        assert answer.status_code == 502
        assert "cannot be read" not in answer.text
        answer = contests.request("PUT", "api/contests/hid-b/manifest", json=open_manifest("hid-b"))
        assert answer.status_code == 202
        body = {"action": "open"}
        answer = contests.request("POST", "api/contests/hid-b/actions", json=body, key="o")
        assert answer.status_code == 202
    assert contests.request("GET", "api/contests/hid-a", token=host).status_code == 200


def test_a_team_that_cannot_be_read_stands_still_alone(
    contests: ContestsService, there: Names, strangers: dict[str, str]
) -> None:
    host = contests.issue_token("host-hid-a")
    member = contests.issue_token("hid-member")
    calls = [(m, p.removeprefix("/"), BODIES.get(p)) for m, p in CALLS if "{team}" in p]
    calls += [("GET", page, None) for page in PAGES if "{team}" in page]
    with spoilt(contests, there.team, "teams", "overrides"):
        found = contests.request("GET", "api/contests/hid-a", token=host).json()
        (problem,) = found["problems"]
        assert problem["team"] == there.team
        assert "cannot be read" in problem["message"]
        assert (
            f"{there.team} stands still."
            in contests.request("GET", "contests/hid-a", token=host).text
        )
        answer = contests.request("GET", f"api/teams/{there.team}", token=host)
        assert (answer.status_code, answer.json()["message"]) == (502, problem["message"])

        def freeze(**more: str) -> tuple[int, str]:
            body = {"action": "freeze", "dryRun": True, **more}
            sent = contests.request(
                "POST", "api/contests/hid-a/actions", json=body, token=host, key="f"
            )
            return sent.status_code, sent.text

        assert freeze()[0] == 200
        status, said = freeze(team=there.team)
        assert (status, "cannot be read" in said) == (409, True)
        assert contests.request("GET", "", token=member).status_code == 200
        for method, path, body in calls:
            seen = []
            for names in (there, absent(there)):
                more = {} if body is None else {"json": names.body(body)}
                answer = contests.request(
                    method, names.put(path), token=strangers["nobody"], key="k", **more
                )
                seen.append(shown(answer, names))
            assert seen[0] == seen[1], path
    assert contests.request("GET", f"api/teams/{there.team}", token=host).status_code == 200
    found = contests.request("GET", "api/contests/hid-a", token=host).json()
    assert found["problems"] == []
