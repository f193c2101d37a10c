"""Teams come together: many at once, with sizes that hold, invitations, captains, agreements."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.services.running import wait_until

from .manifests import AGREEMENT, open_manifest
from .running import PORTAL_TOKEN, ContestsService


def open_contest(service: ContestsService, contest: str, **rules: Any) -> None:
    """A contest whose registration is open."""
    answer = service.request(
        "PUT", f"api/contests/{contest}/manifest", json=open_manifest(contest, **rules)
    )
    assert answer.status_code == 202, answer.text
    answer = service.request(
        "POST", f"api/contests/{contest}/actions", json={"action": "open"}, key="open"
    )
    assert answer.status_code == 202, answer.text


def register(service: ContestsService, contest: str, team: str, **more: Any) -> httpx.Response:
    token = more.pop("token", PORTAL_TOKEN)
    key = more.pop("key", team)
    body = {"id": team, **more}
    return service.request("POST", f"api/contests/{contest}/teams", json=body, key=key, token=token)


def entries(service: ContestsService, team: str) -> list[Any]:
    found = service.request("GET", f"api/teams/{team}").json()
    return [member["entry"] for member in found["members"]]


def test_thirty_teams_register_at_once_and_twenty_have_room(contests: ContestsService) -> None:
    open_contest(contests, "rush", teamsMax=20)
    with ThreadPoolExecutor(12) as pool:
        asked = [
            pool.submit(register, contests, "rush", f"rush-{n}", captain=f"cap{n}")
            for n in range(30)
            for _ in range(2)  # each twice, with the same key
        ]
    statuses = [answer.result().status_code for answer in asked]
    assert set(statuses) == {201, 409}
    teams = contests.request("GET", "api/contests/rush/teams?limit=500").json()["teams"]
    assert len(teams) == 20
    assert statuses.count(201) == 40  # whoever has a place is told so both times


def test_a_team_is_never_larger_than_it_may_be(contests: ContestsService) -> None:
    open_contest(contests, "crowd", teamSizeMax=4)
    assert register(contests, "crowd", "crowd-one", captain="amy").status_code == 201
    tokens = [
        contests.request(
            "POST", "api/teams/crowd-one/invitations", json={}, key=f"i{n}", token=PORTAL_TOKEN
        ).json()["token"]
        for n in range(8)
    ]

    def join(n: int) -> int:
        body = {"token": tokens[n], "entry": f"joiner{n}"}
        answer = contests.request("POST", "api/invitations/accept", json=body, token=PORTAL_TOKEN)
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(join, range(8)))
    assert sorted(statuses) == [200] * 3 + [409] * 5
    assert len(entries(contests, "crowd-one")) == 4


def test_an_invitation_is_for_one_person_once(contests: ContestsService) -> None:
    open_contest(contests, "invite")
    amy, bob, eve = (contests.issue_token(name) for name in ("iamy", "ibob", "ieve"))
    assert register(contests, "invite", "invite-one", token=amy).status_code == 201
    path = "api/teams/invite-one/invitations"
    made = contests.request("POST", path, json={}, key="one", token=amy)
    assert made.status_code == 201
    assert "invite-one" in made.json()["token"]
    again = contests.request("POST", path, json={}, key="one", token=amy)
    assert again.json() == made.json()  # a lost answer costs nothing
    shown = contests.request("GET", path, token=amy).text
    assert made.json()["token"] not in shown
    assert made.json()["token"] not in contests.log
    body = {"token": made.json()["token"]}
    assert contests.request("POST", path, json={}, token=bob, key="x").status_code == 404
    assert contests.request("POST", "api/invitations/accept", json=body, token=bob).is_success
    refused = contests.request("POST", "api/invitations/accept", json=body, token=eve)
    assert refused.status_code == 409
    assert "invitation cannot be used" in refused.json()["message"]
    assert entries(contests, "invite-one") == ["iamy", "ibob"]

    other = contests.request("POST", path, json={"lastsDays": 1}, key="two", token=amy).json()
    assert contests.request("DELETE", f"{path}/{other['id']}", token=amy).is_success
    body = {"token": other["token"]}
    assert (
        contests.request("POST", "api/invitations/accept", json=body, token=eve).status_code == 409
    )


def test_captains_hand_over_and_members_leave(contests: ContestsService) -> None:
    open_contest(contests, "hand")
    amy, bob = contests.issue_token("hamy"), contests.issue_token("hbob")
    register(contests, "hand", "hand-one", captain="hamy", members=["hbob"])

    def leave(name: str, token: str) -> httpx.Response:
        body = {"entry": name}
        return contests.request("DELETE", "api/teams/hand-one/members", json=body, token=token)

    refused = leave("hamy", amy)
    assert refused.status_code == 409
    assert "captain" in refused.json()["message"]
    assert leave("hamy", bob).status_code == 403  # a member puts nobody out
    body = {"captain": "nobody-there"}
    path = "api/teams/hand-one/captain"
    assert contests.request("POST", path, json=body, token=amy).status_code == 409
    assert contests.request("POST", path, json={"captain": "hbob"}, token=amy).is_success
    assert leave("hamy", amy).is_success
    assert entries(contests, "hand-one") == ["hbob"]


def test_a_person_registers_nobody_else(contests: ContestsService) -> None:
    open_contest(contests, "self")
    amy = contests.issue_token("samy")
    answer = register(contests, "self", "self-one", members=["sbob"], token=amy)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["field"] == "members"
    answer = register(contests, "self", "self-one", captain="sbob", token=amy)
    assert answer.status_code == 422
    assert register(contests, "self", "self-one", token=amy).status_code == 201
    answer = register(contests, "self", "self-two", token=amy)
    assert answer.status_code == 409
    assert "one team of a contest" in answer.json()["message"]


def test_two_teams_merge_if_both_want_it(contests: ContestsService) -> None:
    open_contest(contests, "merge", teamSizeMax=3)
    amy, bob = contests.issue_token("mamy"), contests.issue_token("mbob")
    register(contests, "merge", "merge-a", token=amy)
    register(contests, "merge", "merge-b", token=bob)
    body: dict[str, Any] = {"into": "merge-b"}
    path = "api/teams/merge-a/merge"
    assert contests.request("POST", path, json=body, token=amy).status_code == 422
    wrong = {**body, "invitation": "merge-b.nonsense"}
    refused = contests.request("POST", path, json=wrong, token=amy)
    assert refused.status_code == 409
    # A captain learns of no other team whether it is there.
    for more in ({}, {"invitation": "merge-b.nonsense"}):
        said = [
            contests.request("POST", path, json={"into": into, **more}, token=amy).text
            for into in ("merge-b", "merge-x")
        ]
        assert said[0].replace("merge-b", "T") == said[1].replace("merge-x", "T")
    invited = contests.request(
        "POST", "api/teams/merge-b/invitations", json={}, key="m", token=bob
    ).json()
    merged = contests.request(
        "POST", path, json={**body, "invitation": invited["token"]}, token=amy
    )
    assert merged.status_code == 200, merged.text
    assert sorted(entries(contests, "merge-b")) == ["mamy", "mbob"]
    assert contests.request("GET", "api/teams/merge-a").json()["state"] == "destroyed"
    taken = register(contests, "merge", "merge-a", key="again", captain="mcat")
    assert taken.status_code == 409  # an id is never used again


def test_nobody_is_on_the_hub_who_has_not_accepted(contests: ContestsService) -> None:
    open_contest(contests, "agree", agreement=AGREEMENT, needsApproval=False)
    amy, bob = contests.issue_token("gamy"), contests.issue_token("gbob")
    answer = register(contests, "agree", "agree-one", captain="gamy", members=["gbob"])
    assert answer.status_code == 202
    assert answer.json()["state"] == "provisioning"

    def users() -> list[str]:
        headers = {"Authorization": f"token {contests.hub.token}"}
        url = f"{contests.hub.api_url}/groups/agree-one"
        answer = httpx.get(url, headers=headers, verify=False)
        return sorted(answer.json()["users"]) if answer.status_code == 200 else ["no group"]

    wait_until(lambda: users() == [], timeout_s=20, what=users)
    path = "api/contests/agree/agreement"
    assert contests.request("GET", path, token=amy).json()["acceptedAt"] is None
    wrong = contests.request("POST", path, json={"version": "0"}, token=amy)
    assert wrong.status_code == 409
    assert contests.request("POST", path, json={"version": "1"}, token=amy).is_success
    wait_until(lambda: users() == ["gamy"], timeout_s=20, what=users)
    for_bob = {"version": "1", "entry": "gbob"}
    assert contests.request("POST", path, json=for_bob, token=amy).status_code == 403
    assert contests.request("POST", path, json=for_bob, token=PORTAL_TOKEN).is_success
    wait_until(lambda: users() == ["gamy", "gbob"], timeout_s=20, what=users)

    newer = open_manifest(
        "agree", agreement={"version": "2", "text": "Be nicer."}, needsApproval=False
    )
    assert contests.request("PUT", "api/contests/agree/manifest", json=newer).is_success
    wait_until(lambda: users() == [], timeout_s=20, what=users)
    assert contests.request("POST", path, json={"version": "2"}, token=bob).is_success
    wait_until(lambda: users() == ["gbob"], timeout_s=20, what=users)


def test_registration_needs_a_key_and_keeps_to_it(contests: ContestsService) -> None:
    open_contest(contests, "keys")
    missing = contests.request(
        "POST", "api/contests/keys/teams", json={"id": "keys-one"}, token=PORTAL_TOKEN
    )
    assert missing.status_code == 422
    assert missing.json()["problems"][0]["field"] == "Idempotency-Key (header)"
    assert register(contests, "keys", "keys-one", captain="kamy", key="k").status_code == 201
    other = register(contests, "keys", "keys-two", captain="kbob", key="k")
    assert other.status_code == 409
    assert "keys-one" in other.json()["message"]


def test_a_group_of_somebody_else_is_no_team_s(contests: ContestsService) -> None:
    headers = {"Authorization": f"token {contests.hub.token}"}
    url = f"{contests.hub.api_url}/groups/gardeners"
    httpx.post(url, headers=headers, verify=False)
    httpx.put(f"{url}/properties", json={"theirs": 1}, headers=headers, verify=False)
    open_contest(contests, "garden")
    answer = register(contests, "garden", "gardeners", captain="gina")
    assert answer.status_code == 409
    listed = open_manifest("garden") | {"teams": {"gardeners": {"tier": "small"}}}
    answer = contests.request("PUT", "api/contests/garden/manifest", json=listed)
    assert answer.status_code == 422
    assert answer.json()["problems"][0]["field"] == "teams.gardeners"
