"""A contest through its life over HTTP: each action with its dry run, approvals, what is live."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.services.running import wait_until

from .manifests import manifest
from .running import ContestsService


def act(service: ContestsService, contest: str, action: str, **more: Any) -> httpx.Response:
    """Ask for an action as the host does who looked at its dry run."""
    token = more.pop("token", None) or service.issue_token(f"host-{contest}")
    path = f"api/contests/{contest}/actions"
    body = {"action": action, **more}
    shown = service.request("POST", path, json={**body, "dryRun": True}, token=token)
    assert shown.status_code == 200, shown.text
    body["planHash"] = shown.json()["planHash"]
    key = json.dumps(body)
    return service.request("POST", path, json=body, token=token, key=str(hash(key)))


def wait_for(service: ContestsService, contest: str, **states: int) -> None:
    def counts() -> dict[str, Any]:
        found: dict[str, Any] = service.request("GET", f"api/contests/{contest}/progress").json()
        return found

    wait_until(lambda: counts()["teams"] == states, timeout_s=40, what=counts)


def teams(*names: str) -> dict[str, Any]:
    return {name: {"tier": "small", "members": [f"{name}-member"]} for name in names}


def test_from_a_draft_to_the_edge(contests: ContestsService) -> None:
    wanted = manifest("life", teams=teams("life-a", "life-b", "life-c"))
    assert contests.request("PUT", "api/contests/life/manifest", json=wanted).is_success
    wait_for(contests, "life", active=3)
    host = contests.issue_token("host-life")
    possible = contests.request("GET", "api/contests/life", token=host).json()["possible"]
    assert "start" in possible

    assert act(contests, "life", "start").status_code == 202
    assert contests.request("GET", "api/contests/life").json()["round"] == 1
    refused = contests.request(
        "POST",
        "api/contests/life/actions",
        json={"action": "advance", "top": 1, "dryRun": True},
        token=host,
    )
    assert refused.status_code == 409
    assert "What is possible now" in refused.json()["message"]

    assert act(contests, "life", "freeze", team="life-a").status_code == 202
    wait_for(contests, "life", active=2, frozen=1)
    assert act(contests, "life", "lift", team="life-a").status_code == 202
    wait_for(contests, "life", active=3)

    assert act(contests, "life", "close-round").status_code == 202
    ranking = {"ranking": ["life-c", "life-a", "life-b"]}
    judge = contests.issue_token("judge-life")
    answer = contests.request("PUT", "api/contests/life/ranking", json=ranking, token=judge)
    assert answer.is_success

    def may_advance() -> bool:
        found = contests.request("GET", "api/contests/life", token=host).json()
        return "advance" in found["possible"]

    wait_until(may_advance, timeout_s=20, what=lambda: contests.log[-2000:])
    shown = contests.request(
        "POST",
        "api/contests/life/actions",
        json={"action": "advance", "top": 1, "dryRun": True},
        token=host,
    ).json()
    assert {t["team"] for t in shown["transitions"] if t["after"] == "eliminated"} == {
        "life-a",
        "life-b",
    }
    assert act(contests, "life", "advance", top=1).status_code == 202
    wait_for(contests, "life", active=1, eliminated=2)
    assert act(contests, "life", "restore", team="life-b", reason="an appeal").status_code == 202
    wait_for(contests, "life", active=2, eliminated=1)
    past = contests.request("GET", "api/contests/life/transitions?limit=3", token=host).json()
    assert past["transitions"][0]["team"] == "life-b"

    def past_of(**query: object) -> httpx.Response:
        path = "api/contests/life/transitions"
        return contests.request("GET", path, params=query, token=host)

    mine = past_of(team="life-b").json()["transitions"]
    assert {one["team"] for one in mine} == {"life-b"}
    numbers = [one["number"] for one in mine]
    assert numbers == sorted(numbers, reverse=True)
    later = past_of(team="life-b", after=numbers[-1]).json()["transitions"]
    assert [one["number"] for one in later] == sorted(numbers)[1:]
    assert past_of(team="nobody-s").json() == {"transitions": []}
    for wrong in ("Life", "a/b", "x" * 70, "ä"):
        assert past_of(team=wrong).status_code == 422

    assert act(contests, "life", "finish").status_code == 202
    assert act(contests, "life", "destroy").status_code == 202

    def waiting() -> set[tuple[str, str]]:
        stuck = contests.request("GET", "api/contests/life/progress").json()["stuck"]
        return {(c["team"], c["step"]) for c in stuck if "has no audit service" in c["why"]}

    # Nothing is deleted that cannot be recorded: here is no audit service.
    expected = {(team, "release") for team in ("life-a", "life-b", "life-c")}
    wait_until(lambda: waiting() == expected, timeout_s=60, what=waiting)


def test_a_second_host_approves_what_is_final(contests: ContestsService) -> None:
    wanted = manifest(
        "pair", teams=teams("pair-a"), endings={"noticeSeconds": 0, "twoPersons": True}
    )
    assert contests.request("PUT", "api/contests/pair/manifest", json=wanted).is_success
    wait_for(contests, "pair", active=1)
    assert act(contests, "pair", "start").status_code == 202
    one, two = contests.issue_token("host-pair"), contests.issue_token("other-pair")
    proposed = act(contests, "pair", "eliminate", team="pair-a", token=one).json()["operation"]
    assert proposed["state"] == "proposed"
    assert contests.request("GET", "api/teams/pair-a").json()["state"] == "active"

    path = f"api/operations/{proposed['number']}"
    own = contests.request("POST", f"{path}/approve", json={}, token=one)
    assert own.status_code == 409
    assert "Another host" in own.json()["message"]
    program = contests.request("POST", f"{path}/approve", json={})
    assert program.status_code == 403  # whoever proposed could hold its token

    # What was proposed is not any more what it would do: nothing is done.
    assert act(contests, "pair", "freeze", team="pair-a", token=two).status_code == 202
    wait_for(contests, "pair", frozen=1)
    stale = contests.request("POST", f"{path}/approve", json={}, token=two)
    assert stale.status_code == 409
    assert "has changed since it was proposed" in stale.json()["message"]
    declined = contests.request("POST", f"{path}/decline", json={}, token=two).json()
    assert declined["operation"]["state"] == "declined"
    same = contests.request("POST", f"{path}/decline", json={}, token=two)
    assert (same.status_code, same.json()) == (200, declined)
    for word, token in (("approve", two), ("decline", one)):
        late = contests.request("POST", f"{path}/{word}", json={}, token=token)
        assert late.status_code == 409
        assert "other-pair said no to it" in late.json()["message"]

    again = act(contests, "pair", "eliminate", team="pair-a", token=one, reason="anew").json()
    path = f"api/operations/{again['operation']['number']}"
    waiting = contests.request(
        "GET", "api/contests/pair/operations?state=proposed", token=two
    ).json()
    assert [o["number"] for o in waiting["operations"]] == [again["operation"]["number"]]
    approved = contests.request("POST", f"{path}/approve", json={}, token=two)
    assert approved.status_code == 202, approved.text
    assert approved.json()["operation"]["approvedBy"] == "other-pair"
    # The same word again is the same answer; another word, or another's, is none.
    same = contests.request("POST", f"{path}/approve", json={}, token=two)
    assert same.status_code == 202
    assert same.json()["operation"]["approvedBy"] == "other-pair"
    root = contests.issue_token("root")
    for word, token in (("decline", two), ("decline", one), ("approve", root)):
        late = contests.request("POST", f"{path}/{word}", json={}, token=token)
        assert late.status_code == 409
        assert "other-pair approved it" in late.json()["message"]
    wait_for(contests, "pair", eliminated=1)


def test_asked_twice_is_done_once(contests: ContestsService) -> None:
    wanted = manifest("twice", teams=teams("twice-a"))
    assert contests.request("PUT", "api/contests/twice/manifest", json=wanted).is_success
    path, body = "api/contests/twice/actions", {"action": "start"}
    first = contests.request("POST", path, json=body, key="k")
    again = contests.request("POST", path, json=body, key="k")
    assert first.status_code == again.status_code == 202
    number = first.json()["operation"]["number"]
    assert again.json()["operation"]["number"] == number
    other = contests.request("POST", path, json={"action": "finish"}, key="k")
    assert other.status_code == 409
    assert first.headers["Location"].endswith(f"api/operations/{number}")
    assert contests.request("POST", path, json={"action": "finish"}).status_code == 422
    # Another's key of the same text is another key.
    host = contests.issue_token("host-twice")
    mine = contests.request("POST", path, json={"action": "close-round"}, key="k", token=host)
    assert mine.status_code == 202


def test_what_was_not_shown_is_not_done(contests: ContestsService) -> None:
    wanted = manifest("shown", teams=teams("shown-a"))
    assert contests.request("PUT", "api/contests/shown/manifest", json=wanted).is_success
    body = {"action": "start", "planHash": "0" * 64}
    answer = contests.request("POST", "api/contests/shown/actions", json=body, key="k")
    assert answer.status_code == 409
    assert "not any more what was shown" in answer.json()["message"]


def test_progress_is_told_live(contests: ContestsService) -> None:
    wanted = manifest("live", teams=teams("live-a"))
    assert contests.request("PUT", "api/contests/live/manifest", json=wanted).is_success
    host = contests.issue_token("host-live")
    headers = {"Authorization": f"token {host}"}
    url = f"{contests.url}api/contests/live/events"
    states = []
    with httpx.stream("GET", url, headers=headers, timeout=30, verify=False) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        for line in stream.iter_lines():
            if not line.startswith("data: "):
                continue
            found = json.loads(line.removeprefix("data: "))
            states.append(found["contest"]["state"])
            if states == ["draft"]:
                act(contests, "live", "start", token=host)
            if states[-1] == "running":
                break
    assert states[0] == "draft"


def test_the_clock_starts_a_round(contests: ContestsService) -> None:
    rounds = [{"title": "Past", "opens": "2020-01-01T10:00", "closes": "2090-01-01T10:00"}]
    wanted = manifest("clock", teams=teams("clock-a"), rounds=rounds)
    wanted["contest"]["timeZone"] = "Europe/Berlin"
    assert contests.request("PUT", "api/contests/clock/manifest", json=wanted).is_success

    def state() -> str:
        return str(contests.request("GET", "api/contests/clock").json()["state"])

    wait_until(lambda: state() == "running", timeout_s=20, what=state)
    done = contests.request("GET", "api/contests/clock/operations").json()["operations"]
    assert "clock" in {operation["askedBy"] for operation in done}


def test_a_rebuild_writes_what_somebody_spoilt(contests: ContestsService) -> None:
    wanted = manifest("spoilt", teams=teams("spoilt-a"))
    assert contests.request("PUT", "api/contests/spoilt/manifest", json=wanted).is_success
    wait_for(contests, "spoilt", active=1)
    headers = {"Authorization": f"token {contests.hub.token}"}
    url = f"{contests.hub.api_url}/groups/spoilt-a"

    def tier() -> Any:
        group = httpx.get(url, headers=headers, verify=False).json()
        return group["properties"]["collab"].get("tier")

    group = httpx.get(url, headers=headers, verify=False).json()
    corner = {**group["properties"]["collab"], "tier": "large"}
    httpx.put(f"{url}/properties", json={"collab": corner}, headers=headers, verify=False)
    assert tier() == "large"
    body = {"contest": "spoilt"}
    assert contests.request("POST", "api/rebuild", json=body).status_code == 202
    wait_until(lambda: tier() == "small", timeout_s=20, what=tier)


def test_metrics_name_nobody(contests: ContestsService) -> None:
    wanted = manifest("measured", teams=teams("measured-a"))
    assert contests.request("PUT", "api/contests/measured/manifest", json=wanted).is_success
    text = contests.request("GET", "metrics", token=contests.issue_token("root")).text
    assert 'collab_contests_teams{state="active"}' in text
    assert "collab_contests_requests_total" in text
    assert "measured" not in text


def test_a_notice_is_written_once_for_a_key(contests: ContestsService) -> None:
    wanted = manifest("tell", teams=teams("tell-a", "tell-b"))
    assert contests.request("PUT", "api/contests/tell/manifest", json=wanted).is_success
    path, body = "api/contests/tell/notices", {"text": "Lunch", "team": "tell-a", "days": 3}
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: contests.request("POST", path, json=body, key="n"), range(6))
        )
    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [201]
    assert len({answer.json()["notice"]["id"] for answer in answers}) == 1
    for other in ({"text": "Dinner"}, {"team": "tell-b"}, {"team": None}, {"days": 4}):
        answer = contests.request("POST", path, json={**body, **other}, key="n")
        assert answer.status_code == 409, other
        assert "Idempotency-Key another notice was written" in answer.json()["message"]
    kept = contests.request("GET", path).json()["notices"]
    assert [(n["text"], n["team"]) for n in kept] == [("Lunch", "tell-a")]
