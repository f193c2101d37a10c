"""Who may read what in the audit log: every role against every way to read, the deny side included.

What each may see is said once, by team and by verb, not by the code under test. All ways (search,
one event, proof, exports, pages) are then held to it.
"""

from __future__ import annotations

import csv
import io
import json
import time
import zipfile
from typing import Any

import pytest

from tests.audit_reading.conftest import ACCESS, GROUPS, OTHER_TOKEN, READ, Scene
from tests.audit_samples import TEAMS

_OWN = ("audit.erase", "audit.gap", "audit.start")
_EVERYTHING = {"root"}
_CONTEST = {"hana": "sea", "ivo": "ice"}
_TEAM = {"ada": "ocean", "cyd": "river", "eve": "fjord"}
PEOPLE = (*GROUPS, "nobody")


@pytest.fixture(scope="module")
def seeded(scene: Scene) -> list[dict[str, Any]]:
    """The log as it was before anybody read it."""
    events = [e for e in scene.events("root") if e["stored"] < _start_of(scene)]
    assert len(events) > 100
    return events


def _start_of(scene: Scene) -> str:
    found = scene.events("root", verb="audit.start")
    return str(max(e["stored"] for e in found))


def may_see(name: str, event: dict[str, Any]) -> bool:
    """The matrix."""
    if name in _EVERYTHING:
        return True
    contest, team = event.get("contest"), event.get("team")
    if _CONTEST.get(name) == contest is not None:
        return True
    if event["verb"] in _OWN:
        return False
    if _TEAM.get(name) == team is not None:
        return True
    if name == "stew" and contest == "sea" and "tides" in event.get("datasets", ()):
        return True
    return any(who.get("name") == name for who in event.get("people", {}).values())


@pytest.mark.parametrize("name", PEOPLE)
def test_search(scene: Scene, seeded: list[dict[str, Any]], name: str) -> None:
    wanted = [e["sequence"] for e in seeded if may_see(name, e)]
    last = seeded[0]["sequence"] + 1
    found = scene.events(name, before=last)
    assert [e["sequence"] for e in found] == wanted
    for filters in ({"team": list(TEAMS)}, {"contest": ["sea", "ice"]}, {"dataset": "sea/tides"}):
        shown = {e["sequence"] for e in scene.events(name, before=last, **filters)}
        assert shown <= set(wanted)
    narrow = scene.get(
        "api/events", token=scene.token(name, ACCESS), params={"limit": 1000, "before": last}
    ).json()["events"]
    mine = [
        e["sequence"]
        for e in seeded
        if e["verb"] not in _OWN
        and any(who.get("name") == name for who in e.get("people", {}).values())
    ]
    assert [e["sequence"] for e in narrow] == mine, "a token made for less shows oneself only"


@pytest.mark.parametrize("name", PEOPLE)
def test_one_event_its_proof_and_its_page(
    scene: Scene, seeded: list[dict[str, Any]], name: str
) -> None:
    theirs = [e for e in seeded if may_see(name, e)][:2]
    others = [e for e in seeded if not may_see(name, e)][:3]
    assert bool(others) == (name != "root")
    for event in theirs:
        assert scene.ask(name, f"api/events/{event['sequence']}").json()["verb"] == event["verb"]
        assert scene.ask(name, f"api/events/{event['sequence']}/proof").status_code == 200
        assert scene.ask(name, f"events/{event['sequence']}").status_code == 200
    nothing = [scene.ask(name, "api/events/4000000000"), scene.ask(name, "api/events/x")]
    for event in others:
        for path in ("", "/proof"):
            nothing.append(scene.ask(name, f"api/events/{event['sequence']}{path}"))
        page = scene.ask(name, f"events/{event['sequence']}")
        assert page.status_code == 404
        assert page.text == scene.ask(name, "events/4000000000").text
    assert {(answer.status_code, answer.text) for answer in nothing} == {
        (404, '{"status": 404, "message": "There is no such event, or it is not for you."}')
    }


@pytest.mark.parametrize("name", PEOPLE)
def test_exports(scene: Scene, seeded: list[dict[str, Any]], name: str) -> None:
    last = max(e["sequence"] for e in seeded)
    wanted = sorted(e["sequence"] for e in seeded if may_see(name, e))
    lines = scene.ask(name, "api/export?format=jsonl").text.splitlines()
    found = [json.loads(line)["sequence"] for line in lines]
    assert [n for n in found if n <= last] == wanted
    rows = csv.DictReader(io.StringIO(scene.ask(name, "api/export?format=csv").text))
    assert [n for row in rows if (n := int(row["sequence"])) <= last] == wanted
    with zipfile.ZipFile(io.BytesIO(scene.ask(name, "api/export?format=bundle").content)) as held:
        events = [json.loads(line) for line in held.read("events.jsonl").splitlines()]
        proofs = held.read("proofs.jsonl").splitlines()
    assert len(proofs) == len(events)
    numbers = [json.loads(event["body"])["sequence"] for event in events]
    assert [n for n in numbers if n <= last] == wanted
    if name not in ("root", *_CONTEST):
        for event in events:
            for kept in event["people"].values():
                assert kept["value"]["name"] == name or set(kept["value"]) <= {"name", "roles"}


@pytest.mark.parametrize("name", PEOPLE)
def test_addresses_and_agents_of_others(scene: Scene, name: str) -> None:
    if name in ("root", *_CONTEST):
        return
    rows = csv.DictReader(io.StringIO(scene.ask(name, "api/export?format=csv").text))
    for row in rows:
        for part in ("subject", "actor", "recipient"):
            if row[f"{part}_name"] != name:
                assert [row[f"{part}_{field}"] for field in ("address", "agent", "note")] == [
                    ""
                ] * 3


@pytest.mark.parametrize(
    ("name", "dataset", "people"),
    [
        ("root", "sea/tides", {"ada", "cyd"}),
        ("hana", "sea/salt", {"ada", "bob"}),
        ("hana", "ice/cores", set()),
        ("stew", "sea/tides", {"ada", "cyd"}),
        ("stew", "sea/salt", set()),
        ("stew", "ice/tides", set()),
        ("jude", "sea/tides", set()),
        ("ada", "sea/tides", {"ada"}),
        ("bob", "sea/salt", {"bob"}),
        ("cyd", "sea/tides", {"cyd"}),
        ("eve", "sea/tides", set()),
        ("nobody", "sea/tides", set()),
    ],
)
def test_who_accessed_a_data_set(scene: Scene, name: str, dataset: str, people: set[str]) -> None:
    page = scene.ask(name, f"datasets/{dataset}")
    assert page.status_code == 200
    for who in ("ada", "bob", "cyd", "dan", "eve"):
        assert (f">{who}</a>" in page.text) == (who in people), who


def test_who_is_not_let_in_at_all(scene: Scene) -> None:
    paths = ("api/events", "api/events/1", "api/events/1/proof", "api/export", "api/checkpoints",
             "api/events/live", "api/who")  # fmt: skip
    for path in paths:
        assert scene.get(path, token=None).status_code == 401, path
        assert scene.get(path, token="wrong").status_code == 401, path
        foreign = scene.get(path, token=scene.token("ada", "read:users:name!user"))
        assert foreign.status_code == 403, path
        service = scene.get(path, token=OTHER_TOKEN)
        assert service.status_code == 403, f"{path}: a service called as a person is not her"
        assert "Only people" in service.json()["message"]
    for path in ("", "events", "events/1", "datasets/sea/tides"):
        answer = scene.get(path, token=None)
        assert answer.status_code == 302
        assert "/hub/api/oauth2/authorize" in answer.headers["Location"]


def test_what_a_token_s_scopes_give(scene: Scene) -> None:
    full = scene.get("api/who", token=scene.token("root", ACCESS, READ)).json()
    assert full["everything"] is True
    less = scene.get("api/who", token=scene.token("root", ACCESS)).json()
    assert (less["everything"], less["own"]) == (False, True)
    assert scene.ask("stew", "api/who").json()["datasets"] == ["sea/tides"]


def test_a_captain_sees_who_read_the_team_s_log_and_others_do_not(scene: Scene) -> None:
    before = {e["sequence"] for e in scene.events("root", verb="audit.*")}
    scene.events("hana", team="ocean", person="bob")
    scene.events("eve", team="ocean")
    [record] = [
        e
        for e in scene.events("ada", verb="audit.read", team="ocean")
        if e["sequence"] not in before and e["people"].get("actor", {}).get("name") == "hana"
    ]
    assert record["people"]["subject"]["name"] == "bob"
    assert record["details"]["results"] > 0
    assert "address" not in record["people"]["actor"]
    numbers = {name: {e["sequence"] for e in scene.events(name)} for name in PEOPLE}
    seen_by = {name for name, found in numbers.items() if record["sequence"] in found}
    assert seen_by == {"root", "hana", "ada", "bob"}
    tried = [
        e
        for e in scene.events("root", verb="audit.read", person="eve")
        if e["sequence"] not in before and e["details"].get("teams") == ["ocean"]
    ]
    assert len(tried) == 1
    assert {n for n, found in numbers.items() if tried[0]["sequence"] in found} == {"root", "eve"}


def test_who_loses_a_role_reads_no_more_by_it_at_the_next_request(scene: Scene) -> None:
    assert scene.ask("ada", "api/who").json()["teams"] == ["ocean"]
    scene.write({**GROUPS, "ada": ["team-ocean", "team-river"]})
    try:
        scene.hub.browser().log_in("ada")
        assert scene.ask("ada", "api/who").json()["teams"] == []
        assert all(
            any(who.get("name") == "ada" for who in e["people"].values())
            for e in scene.events("ada")
        )
    finally:
        scene.write(GROUPS)
        scene.hub.browser().log_in("ada")


def test_a_revoked_token_reads_no_more_within_seconds(scene: Scene) -> None:
    made = scene.hub.api("POST", "users/bob/tokens", json={}).json()
    assert scene.get("api/who", token=made["token"]).status_code == 200
    assert scene.hub.api("DELETE", f"users/bob/tokens/{made['id']}").status_code == 204
    deadline = time.monotonic() + 8
    while scene.get("api/who", token=made["token"]).status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_cursors_count_nothing_of_others(scene: Scene) -> None:
    page = scene.ask("bob", "api/events", params={"limit": 2}).json()
    shown = {e["sequence"] for e in page["events"]}
    assert page["next"] in shown
    assert set(page) == {"events", "order", "next"}, "no total of anything"
    # A cursor at another's event answers as any number does.
    theirs = scene.events("bob")
    middle = theirs[3]["sequence"]
    foreign = next(n for n in range(middle - 1, 0, -1) if n not in {e["sequence"] for e in theirs})
    answers = [scene.ask("bob", "api/events", params={"before": n, "limit": 1000}).json()["events"]
               for n in (foreign, foreign + 1)]  # fmt: skip
    wanted = [e["sequence"] for e in theirs if e["sequence"] < foreign]
    assert [e["sequence"] for e in answers[0]] == wanted
