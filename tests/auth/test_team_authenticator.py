"""What all sources share, at a real hub: names, teams, roles, loss."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from tests.auth.conftest import RULES, PaperHub, person


def until(is_so: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def test_rules_give_teams(hub: PaperHub) -> None:
    hub.write({"ada": person("1", "team-ocean", "team-nowhere", "captains")})
    browser = hub.browser()
    assert browser.log_in("ada").status_code == 302
    assert hub.groups_of("ada") == ["ocean"]
    assert browser.status() == 200
    said = hub.api("GET", "collab/membership/ada").json()
    assert said["issuer"] == "paper"
    assert said["subject"] == "1"
    roles = {(e.get("team"), e["role"]) for e in said["entitlements"]}
    assert roles == {("ocean", "member"), ("ocean", "captain")}
    assert "captain of team ocean because member of captains (rule 2)" in said["explain"]


def test_who_is_in_nothing_is_told_so(hub: PaperHub) -> None:
    hub.write({"bob": person("2", "others")})
    answer = hub.browser().log_in("bob")
    assert answer.status_code == 403
    assert "no team, contest or role here is yours" in answer.text
    assert "2 of paper" in answer.text
    assert hub.api("GET", "users/bob").status_code == 404


def test_the_roster_lets_in_by_name_and_by_identity(hub: PaperHub) -> None:
    members = ["carol", {"issuer": "paper", "subject": "4"}, {"issuer": "other", "subject": "5"}]
    hub.make_team("river", members=members)
    hub.write({"carol": person("3"), "dan": person("4"), "eve": person("5")})
    assert hub.browser().log_in("carol").status_code == 302
    assert hub.browser().log_in("dan").status_code == 302
    assert hub.browser().log_in("eve").status_code == 403
    assert hub.groups_of("carol") == hub.groups_of("dan") == ["river"]
    # Out again, without anybody logging in.
    hub.make_team("river", members=["carol"])
    assert hub.api("POST", "collab/membership", json={"teams": ["river"]}).status_code == 204
    assert hub.groups_of("dan") == []
    assert hub.groups_of("carol") == ["river"]


def test_what_the_source_takes_is_lost_by_cookie_and_token(hub: PaperHub) -> None:
    people = {"fay": person("6", "team-ocean", "team-river")}
    hub.write(people)
    browser = hub.browser()
    assert browser.log_in("fay").status_code == 302
    token = hub.api("POST", "users/fay/tokens", json={}).json()["token"]
    assert hub.groups_of("fay") == ["ocean", "river"]
    hub.write({"fay": person("6", "team-river")})
    until(lambda: hub.groups_of("fay") == ["river"])
    assert hub.api("GET", "user", token=token).status_code == 200
    hub.write({})
    until(lambda: hub.groups_of("fay") == [])
    assert hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302


def test_an_outage_is_no_loss(hub: PaperHub) -> None:
    people = {"gil": person("7", "team-ocean", "admins")}
    hub.write(people)
    browser = hub.browser()
    assert browser.log_in("gil").status_code == 302
    hub.write(people, down=True)
    time.sleep(2.5)
    assert browser.status() == 200
    assert hub.groups_of("gil") == ["ocean"]
    assert hub.api("GET", "users/gil").json()["admin"] is True
    assert hub.browser().log_in("gil").status_code == 503
    hub.write({"gil": person("7", "team-ocean")})
    until(lambda: hub.api("GET", "users/gil").json()["admin"] is False)


def test_a_name_is_one_persons(hub: PaperHub) -> None:
    hub.write({"hal": person("8", "team-ocean")})
    assert hub.browser().log_in("hal").status_code == 302
    hub.write({"hal": person("9", "team-ocean")})
    answer = hub.browser().log_in("hal")
    assert answer.status_code == 403
    assert "belongs to somebody else" in answer.text


def test_groups_that_are_no_teams_stay(hub: PaperHub) -> None:
    hub.write({"ida": person("10", "team-ocean")})
    assert hub.browser().log_in("ida").status_code == 302
    hub.api("POST", "groups/chess", json={"users": ["ida"]})
    assert hub.browser().log_in("ida").status_code == 302
    assert hub.groups_of("ida") == ["chess", "ocean"]


def test_log_out_everywhere(hub: PaperHub) -> None:
    hub.write({"jo": person("11", "team-ocean")})
    one, two = hub.browser(), hub.browser()
    assert one.log_in("jo").status_code == two.log_in("jo").status_code == 302
    token = hub.api("POST", "users/jo/tokens", json={}).json()["token"]
    assert hub.api("POST", "collab/logout", json={"name": "jo"}).status_code == 204
    assert one.status() == two.status() == 302
    assert hub.api("GET", "user", token=token).status_code == 403
    assert hub.browser().log_in("jo").status_code == 302


def test_people_see_what_they_are_and_why(hub: PaperHub) -> None:
    hub.write({"<b>kim</b>": person("12", "team-ocean", "judges")})
    assert hub.browser().log_in("<b>kim</b>").status_code in (302, 403)
    hub.write({"kim": person("13", "team-ocean", "judges")})
    browser = hub.browser()
    assert browser.client.get("access").status_code == 302, "nobody is shown it without a log-in"
    assert browser.log_in("kim").status_code == 302
    page = browser.client.get("access")
    assert page.status_code == 200
    assert "member of team ocean" in page.text
    assert "member of team-ocean (rule 1)" in page.text
    assert "judge of contest sea" in page.text
    assert 'href="/hub/access"' in browser.client.get("home").text


def test_log_out_everywhere_by_the_page(hub: PaperHub) -> None:
    hub.write({"lea": person("14", "team-ocean")})
    here, there = hub.browser(), hub.browser()
    assert here.log_in("lea").status_code == there.log_in("lea").status_code == 302
    here.client.get("access")
    assert here.client.post("access", data={}).status_code == 403, "XSRF"
    assert there.status() == 200
    form = {"_xsrf": here.client.cookies["_xsrf"]}
    answer = here.client.post("access", data=form)
    assert (answer.status_code, answer.headers["Location"]) == (302, "/hub/login")
    assert here.status() == there.status() == 302


def test_nobody_ends_others_sessions(hub: PaperHub) -> None:
    hub.write({"max": person("15", "team-ocean"), "nia": person("16", "team-ocean")})
    one, other = hub.browser(), hub.browser()
    assert one.log_in("max").status_code == other.log_in("nia").status_code == 302
    token = hub.api("POST", "users/max/tokens", json={}).json()["token"]
    refused = hub.api("POST", "collab/logout", json={"name": "nia"}, token=token)
    assert refused.status_code == 403
    assert hub.api("GET", "collab/membership/nia", token=token).status_code in (403, 404)
    assert other.status() == 200
    for body in ([], {"name": 3}, {"name": ["max"]}):
        assert hub.api("POST", "collab/logout", json=body).status_code == 400
    assert hub.api("POST", "collab/logout", json={"name": "nobody"}).status_code == 404


def test_a_changed_rule_counts_for_those_who_are_not_at_the_door(
    make_hub: Callable[..., PaperHub],
) -> None:
    hub = make_hub()
    hub.make_team("ocean")
    hub.make_team("river")
    hub.write({"ola": person("1", "team-ocean", "sailors")})
    assert hub.browser().log_in("ola").status_code == 302
    rules = hub.folder / "rules.yaml"
    gives = "  - {issuer: paper, group: sailors, gives: {team: river}}\n"
    rules.write_text(RULES + gives)
    until(lambda: hub.groups_of("ola") == ["ocean", "river"])
    rules.write_text("apiVersion: nonsense\n")
    until(lambda: "The rules of before go on to count" in hub.log)
    assert hub.groups_of("ola") == ["ocean", "river"]
    rules.write_text(RULES.split("rules:")[0] + "rules:\n" + gives)
    until(lambda: hub.groups_of("ola") == ["river"])


def test_admins_find_who_came_and_why_in_the_hub_s_own_log(hub: PaperHub) -> None:
    hub.write({"pia": person("17", "team-ocean"), "quin": person("18")})
    assert hub.browser().log_in("pia").status_code == 302
    line = next(line for line in hub.log.splitlines() if "pia: member of team ocean" in line)
    assert line.startswith("[I "), "with the hub's prefix, at the hub's level"
    assert "because member of team-ocean (rule 1)" in line


def test_nobody_loses_by_a_database_that_is_away(
    make_hub: Callable[..., PaperHub], tmp_path: Path
) -> None:
    """Nobody can say who is who for a while: nobody is let in, and nothing is taken."""
    people = tmp_path / "people.sqlite"
    url = f"sqlite:///{people}"
    hub = make_hub(more=f"c.TeamAuthenticator.database_url = {url!r}\n")
    hub.make_team("ocean")
    hub.write({"rae": person("1", "team-ocean"), "sam": person("2", "team-ocean")})
    browser = hub.browser()
    assert browser.log_in("rae").status_code == 302
    token = hub.api("POST", "users/rae/tokens", json={}).json()["token"]
    sound = people.read_bytes()
    people.write_bytes(b"nonsense" * 4096)
    hub.write({"sam": person("2", "team-ocean")})  # also: whom the source drops meanwhile
    refused = hub.browser().log_in("sam")
    assert refused.status_code == 503
    assert "Try again" in refused.text
    until(lambda: "rae stays as they are" in hub.log or "could be asked about" in hub.log)
    assert browser.status() == 200
    assert hub.api("GET", "user", token=token).status_code == 200
    assert hub.groups_of("rae") == ["ocean"]
    assert hub.api("GET", "collab/membership/rae").status_code == 503
    log = hub.log
    assert "paper cannot be asked" not in log, "it is not the source that is away"
    people.write_bytes(sound)
    until(lambda: hub.groups_of("rae") == [])
    assert hub.browser().log_in("sam").status_code == 302
