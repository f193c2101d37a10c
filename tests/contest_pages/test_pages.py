"""What the pages answer, to whom: rights, forged forms, double forms, hostile words."""

from __future__ import annotations

import re

import pytest

from .conftest import HOSTILE, HUB_TOKEN, Scene


def xsrf_of(text: str) -> str:
    found = re.search(r'name="_xsrf" value="([^"]+)"', text)
    assert found, text[:500]
    return found[1]


def field(text: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', text)
    assert found, name
    return found[1]


@pytest.fixture(scope="module")
def pond(scene: Scene) -> Scene:
    """A contest with hostile words everywhere."""
    scene.act("pond", "open", reason=HOSTILE)
    scene.register("pond", "frogs", title=f"Frogs {HOSTILE}", captain="eve")
    body = {"text": f"Hello {HOSTILE}", "team": "frogs"}
    scene.api("POST", "contests/pond/notices", json=body, key="k", status=201)
    return scene


PAGES = [
    "contests/pond",
    "contests/pond/teams",
    "contests/pond/teams/frogs",
    "contests/pond/actions/start",
    "contests/pond/notices/new",
]


@pytest.mark.parametrize("path", PAGES)
def test_only_hosts_of_the_contest_and_admins_see_it(pond: Scene, path: str) -> None:
    for name in ("hana", "root"):
        assert pond.session(name).get(pond.url + path).status_code == 200
    # The contest is open: everybody sees that it is there, and no more.
    for name in ("ivo", "ada", "eve"):
        answer = pond.session(name).get(pond.url + path)
        assert answer.status_code in (403, 404), f"{name} {answer.status_code}"
        assert "frogs" not in answer.text


def test_a_contest_that_is_not_open_is_not_there_for_others(scene: Scene) -> None:
    for path in ("contests/lake", "contests/lake/actions/open", "register/lake"):
        answer = scene.session("ivo").get(scene.url + path)
        assert answer.status_code == 404
        assert "Nothing here" in answer.text


def test_pages_are_for_people(scene: Scene) -> None:
    answer = scene.service.request("GET", "")
    assert answer.status_code == 403
    assert "Pages are for people" in answer.text


@pytest.mark.parametrize("path", [*PAGES, "", "my/frogs", "register/pond"])
def test_hostile_words_are_only_words(pond: Scene, path: str) -> None:
    name = "root" if path in PAGES else "eve"
    answer = pond.session(name).get(pond.url + path)
    assert answer.status_code == 200
    assert "<img" not in answer.text
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_hostile_addresses(scene: Scene) -> None:
    client = scene.session("root")
    for path in (
        "contests/%3Cscript%3E",
        "contests/pond/teams/%22%3E%3Cscript%3E",
        "contests/pond/actions/%3Cscript%3E",
        "contests/pond/teams?id=%22%3E%3Cscript%3Ealert(1)&state=%3Cscript%3E&after=%3Cscript%3E",
        "operations/999999999999999",
        "my/%00",
        "?said=%3Cscript%3E",
    ):
        answer = client.get(scene.url + path)
        assert answer.status_code in (200, 404), f"{path} {answer.status_code}"
        assert "<script>" not in answer.text, path


def test_a_forged_form_does_nothing(pond: Scene) -> None:
    client = pond.session("hana")
    page = client.get(f"{pond.url}contests/pond/actions/start")
    form = {
        "do": "execute",
        "plan": field(page.text, "plan"),
        "key": field(page.text, "key"),
        "team": "",
        "_xsrf": "forged",
    }
    answer = client.post(f"{pond.url}contests/pond/actions/start", data=form)
    assert answer.status_code in (401, 403)  # without it a browser's log-in counts for nothing
    assert pond.api("GET", "contests/pond")["state"] == "registration"
    del form["_xsrf"]
    answer = client.post(f"{pond.url}contests/pond/actions/start", data=form)
    assert answer.status_code in (401, 403)
    assert pond.api("GET", "contests/pond")["state"] == "registration"


def test_only_the_plan_that_was_shown_is_done_and_once(scene: Scene) -> None:
    client = scene.session("hana")
    address = f"{scene.url}contests/lake/actions/open"
    page = client.get(address)
    assert page.status_code == 200, page.text
    assert "The contest goes from draft to registration." in page.text
    form = {
        name: field(page.text, name)
        for name in ("_xsrf", "plan", "key", "team", "reason", "notice")
    }
    stale = client.post(address, data={**form, "do": "execute", "plan": "0" * 64})
    assert stale.status_code == 409
    assert "not any more what was shown" in stale.text
    assert scene.api("GET", "contests/lake")["state"] == "draft"
    for _ in range(2):  # a double click
        answer = client.post(address, data={**form, "do": "execute"})
        assert answer.status_code == 200
        assert "It is under way." in answer.text
    assert scene.api("GET", "contests/lake")["state"] == "registration"
    assert len(scene.api("GET", "contests/lake/operations")["operations"]) == 1


def test_what_cannot_be_is_said(pond: Scene) -> None:
    client = pond.session("hana")
    answer = client.get(f"{pond.url}contests/pond/actions/finish")
    assert answer.status_code == 409
    assert "cannot finish" in answer.text
    assert "Do exactly this" not in answer.text
    page = client.get(f"{pond.url}contests/pond/actions/advance")
    form = {"_xsrf": xsrf_of(page.text), "do": "plan", "how": "list", "keep": HOSTILE}
    answer = client.post(f"{pond.url}contests/pond/actions/advance", data=form)
    assert answer.status_code == 422
    assert "is no team id" in answer.text
    assert "<img" not in answer.text


def test_who_may_not_lead_a_team_does_not(pond: Scene) -> None:
    pond.api("POST", "teams/frogs/members", json={"entry": "cyd"})
    client = pond.session("cyd")
    page = client.get(f"{pond.url}my/frogs")
    assert page.status_code == 200
    assert "Make an invitation" not in page.text
    for do in ("invite", "remove", "hand-over", "withdraw"):
        form = {"_xsrf": xsrf_of(page.text), "do": do, "key": "x" * 20, "member": "eve"}
        assert client.post(f"{pond.url}my/frogs", data=form).status_code == 403
    assert pond.session("ivo").get(f"{pond.url}my/frogs").status_code == 404


def test_notices_are_told_to_whom_they_are_for(pond: Scene) -> None:
    body = {"text": "To all", "days": 3}
    pond.api("POST", "contests/pond/notices", json=body, key="all", status=201)
    again = pond.api("POST", "contests/pond/notices", json=body, key="all", status=200)
    assert again["notice"]["text"] == "To all"

    def told(**query: str) -> list[str]:
        answer = pond.service.request("GET", "api/notices", params=query, token=HUB_TOKEN)
        assert answer.status_code == 200, answer.text
        return [notice["text"] for notice in answer.json()["notices"]]

    assert told(user="eve") == ["To all", f"Hello {HOSTILE}"]
    assert told(user="ivo") == []
    assert told(user="ivo", team="frogs") == ["To all", f"Hello {HOSTILE}"]
    for query in ({}, {"user": ""}, {"user": "x" * 300}, {"user": "eve", "team": "NO"}):
        answer = pond.service.request("GET", "api/notices", params=query, token=HUB_TOKEN)
        assert answer.status_code == 422, query
    answer = pond.service.request("GET", "api/notices", params={"user": "eve"})
    assert answer.status_code == 403, "a host's program is not the hub"
    for wrong in ({"text": ""}, {"text": "\x00"}, {"text": "x" * 2001}, {"text": "x", "days": 0}):
        pond.api("POST", "contests/pond/notices", json=wrong, key="w", status=422)
    pond.api(
        "POST", "contests/pond/notices", json={"text": "x", "team": "none"}, key="n", status=404
    )
