"""Members whom a roster names by identity or e-mail accept the agreement themselves.

A real hub whose people are on paper says which entries are the person who is logged in; where it
cannot say that of one alone, nobody accepts.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.auth.conftest import person
from tests.services.contests.running import SERVICE_TOKEN
from tests.services.running import wait_until

from .conftest import PEOPLE, Scene
from .test_pages import xsrf_of

IDA = {"issuer": "paper", "subject": "key-of-ida"}
EMIL = {"issuer": "paper", "email": "Emil@Example.org"}
SHARED = {"issuer": "paper", "email": "office@example.org"}
OTHERS = {"issuer": "elsewhere", "subject": "key-of-ida"}


@pytest.fixture(scope="module")
def named(scene: Scene) -> Scene:
    """A team in which nobody is named as the hub calls them."""
    people = {name: person(name, *groups) for name, groups in PEOPLE.items()}
    people["ida"] = person("key-of-ida")
    people["emil"] = {**person("key-of-emil"), "emails": ["emil@example.org"]}
    for name in ("evi", "eva"):
        people[name] = {**person(f"key-of-{name}"), "emails": ["office@example.org"]}
    scene.hub.write(people)
    scene.act("lake", "open")
    scene.register("lake", "named", members=[IDA, EMIL, SHARED])
    scene.act("lake", "admit", team="named")
    return scene


def agreed(scene: Scene) -> dict[str, bool]:
    found = scene.api("GET", "teams/named")["members"]
    return {str(m["entry"]): m["agreed"] for m in found}


def standing(scene: Scene, name: str, query: str = "") -> Any:
    answer = scene.hub.api("GET", f"collab/standing/{name}{query}", token=SERVICE_TOKEN)
    return answer.json()["standing"]


def users(scene: Scene) -> list[str]:
    answer = scene.hub.api("GET", "groups/named")
    return sorted(answer.json()["users"]) if answer.status_code == 200 else ["no group"]


def accept(scene: Scene, name: str) -> int:
    """On the page of the team, as a browser does."""
    client = scene.session(name)
    page = client.get(f"{scene.url}my/named")
    if page.status_code != 200:
        return page.status_code
    assert "Until you accept the rules you can start no server." in page.text
    form = {"_xsrf": xsrf_of(page.text), "do": "agree", "agreed": "2027-1"}
    answer = client.post(f"{scene.url}my/named", data=form)
    assert "Your acceptance is recorded." in answer.text
    assert "Until you accept the rules" not in answer.text
    return answer.status_code


def test_by_the_directory_s_key(named: Scene) -> None:
    wait_until(lambda: users(named) == [], timeout_s=30, what=lambda: users(named))
    assert accept(named, "ida") == 200
    assert agreed(named)[str(IDA)] is True
    assert sum(agreed(named).values()) == 1
    wait_until(lambda: users(named) == ["ida"], timeout_s=30, what=lambda: users(named))


def test_by_an_address_that_nobody_took_yet(named: Scene) -> None:
    """Who had no way in before: the hub sees invitations of those alone who accepted."""
    before = users(named)
    assert accept(named, "emil") == 200
    wait_until(
        lambda: users(named) == sorted([*before, "emil"]), timeout_s=30, what=lambda: users(named)
    )
    # From now on it is that identity's.
    entries = standing(named, "emil", "?entries=yes")["entries"]
    assert {"issuer": "paper", "email": "emil@example.org"} in entries


def test_an_address_of_two_is_nobody_s(named: Scene) -> None:
    named.session("evi")
    named.session("eva")
    for name in ("evi", "eva"):
        assert accept(named, name) == 404
        entries = standing(named, name, "?entries=yes")["entries"]
        assert entries == [{"issuer": "paper", "subject": f"key-of-{name}"}]
    assert not any(a for entry, a in agreed(named).items() if "office" in entry)
    assert not {"evi", "eva"} & set(users(named))


def test_over_rest_it_is_the_same(named: Scene) -> None:
    token = named.hub.api("POST", "users/ida/tokens").json()["token"]
    path = "api/contests/lake/agreement"
    found = named.service.request("GET", path, token=token).json()
    assert found["acceptedAt"] is not None
    for entry in (None, "ida", IDA):
        body = {"version": "2027-1", **({"entry": entry} if entry else {})}
        answer = named.service.request("POST", path, json=body, token=token)
        assert answer.status_code == 200, entry
    for other in ("cyd", EMIL, OTHERS, SHARED, {"issuer": "paper", "subject": "key-of-emil"}):
        body = {"version": "2027-1", "entry": other}
        answer = named.service.request("POST", path, json=body, token=token)
        assert answer.status_code == 403, other
    assert sum(agreed(named).values()) == 2


def test_only_who_asks_is_told_of_entries(named: Scene) -> None:
    named.session("ida")
    assert "entries" not in standing(named, "ida")
    assert standing(named, "ida", "?entries=yes")["entries"] == [IDA]
    named.session("cyd")
    assert standing(named, "cyd", "?entries=yes")["entries"] == [
        {"issuer": "paper", "subject": "cyd"}
    ]


def test_they_leave_as_they_are_named(named: Scene) -> None:
    client = named.session("emil")
    page = client.get(f"{named.url}my/named")
    assert page.status_code == 200
    form = {"_xsrf": xsrf_of(page.text), "do": "leave"}
    answer = client.post(f"{named.url}my/named", data=form)
    assert "You have left the team." in answer.text
    assert not any("mil" in entry for entry in agreed(named))
    assert client.get(f"{named.url}my/named").status_code == 404
