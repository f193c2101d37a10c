"""Ranking, registrations that wait, and mergers on the pages: in Chromium, and as forged forms."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyterhub_collab.models.contest_life import ContestState, TeamState

from .conftest import HOSTILE, Scene, log_in, put_teams
from .test_pages import field, xsrf_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def judged(scene: Scene) -> Scene:
    """The ice contest between two rounds, with six teams and no second person."""
    teams = {f"ice-{i}": TeamState.ACTIVE for i in range(1, 7)}
    put_teams(scene, "ice", ContestState.JUDGING, teams)
    return scene


@pytest.fixture(scope="module")
def gathering(scene: Scene) -> Scene:
    """The lake contest with teams that wait; the sea, where two persons decide, likewise."""
    for contest in ("lake", "sea"):
        scene.act(contest, "open")
    for i in range(1, 5):
        scene.register("lake", f"lake-{i}", captain=f"lake-cap-{i}", title=f"Lake {i} {HOSTILE}")
    for team, captain in (("reef", "ada"), ("rock", "bob")):
        scene.register("sea", team, captain=captain)
    scene.api("POST", "teams/rock/members", json={"entry": "cyd"})
    return scene


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"])


def tab_to(page: Page, text: str) -> None:
    """By the keyboard, and so that it is seen where one is."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(document.activeElement.innerText || document.activeElement.id || '').trim()"
        )
        if found.startswith(text):
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(style) != "none", f"nobody sees that {text} has the focus"
            return
    raise AssertionError(f"{text} cannot be reached")


@pytest.mark.browser
def test_a_host_ranks_and_advances(
    open_page: Any, judged: Scene, shots: Path, tmp_path: Path
) -> None:
    page = open_page("ivo", path="contests/ice", viewport=PHONE)
    page.get_by_role("link", name="Rank the teams").click()
    page.wait_for_url("**/contests/ice/ranking")
    page.get_by_label("Team ids, the best first").fill("1. ice-3\n2. ice-1\nnobody\nice-3")
    page.get_by_role("button", name="Show the ranks").click()
    said = page.get_by_role("alert").inner_text()
    assert "ranking[2]: found nobody; expected a team of the contest" in said
    assert "ranking[3]: found ice-3 again; expected each team once" in said
    assert page.get_by_role("button", name="Keep exactly these ranks").count() == 0
    assert fits(page)
    page.screenshot(path=shots / "ranking-wrong.png", full_page=True)

    file = tmp_path / "ranks.csv"
    file.write_text("1,ice-3\r\n2,ice-1\r\n3,ice-6\r\n", encoding="utf-8-sig")
    page.get_by_label("Or a file with them").set_input_files(file)
    page.get_by_role("button", name="Show the ranks").click()
    rows = page.get_by_role("row").filter(has_text="ice-")
    ids = [re.findall(r"\((ice-\d)\)", text)[0] for text in rows.all_inner_texts()]
    assert ids == ["ice-3", "ice-1", "ice-6"]
    assert "These 3 ranks would be kept" in page.get_by_role("status").first.inner_text()
    assert "3 teams are not ranked." in page.locator(".panel").inner_text()
    assert judged.api("GET", "contests/ice")["ranking"] == [f"ice-{i}" for i in range(1, 7)]
    assert fits(page)
    page.screenshot(path=shots / "ranking-shown.png", full_page=True)
    tab_to(page, "Keep exactly these ranks")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ranking?said=ranked")
    assert judged.api("GET", "contests/ice")["ranking"] == ["ice-3", "ice-1", "ice-6"]
    assert page.get_by_label("Team ids, the best first").input_value() == "ice-3\nice-1\nice-6"

    # From there to the dry run of an advance, and on.
    page.get_by_label("So many of the best go on").fill("2")
    page.screenshot(path=shots / "ranking-kept.png", full_page=True)
    page.get_by_role("button", name="Show what an advance would do").click()
    plan = page.locator("#plan").inner_text()
    assert "stay in and come into the next round\nice-3, ice-1" in plan
    assert "4 teams: active → eliminated" in plan
    assert judged.api("GET", "contests/ice")["round"] == 1, "nothing is done yet"
    assert fits(page)
    page.get_by_role("button", name="Do exactly this").click()
    page.wait_for_url("**/contests/ice?said=asked")
    assert judged.api("GET", "contests/ice")["round"] == 2
    page.get_by_role("link", name="All that was asked for").click()
    assert page.get_by_role("row").filter(has_text="Advance to the next round").count() == 1
    assert fits(page)
    page.screenshot(path=shots / "operations.png", full_page=True)
    assert [text for text in page.said if "422" not in text] == []


@pytest.mark.browser
def test_a_host_lets_teams_in(open_page: Any, gathering: Scene, shots: Path) -> None:
    page = open_page("hugo", path="contests/lake", viewport=PHONE)
    assert "4 teams wait to be let in." in page.get_by_role("status").first.inner_text()
    tab_to(page, "Look at registrations")
    page.keyboard.press("Enter")
    page.wait_for_url("**/lake/registrations")
    assert fits(page)
    page.screenshot(path=shots / "registrations.png", full_page=True)
    page.get_by_role("button", name="Let in those that are ticked").click()
    assert "Tick one team" in page.get_by_role("alert").inner_text()
    page.get_by_label(f"Lake 1 {HOSTILE} (lake-1)").focus()
    page.keyboard.press("Space")
    page.get_by_label(f"Lake 3 {HOSTILE} (lake-3)").check()
    page.get_by_role("button", name="Let in those that are ticked").click()
    plan = page.locator("#plan").inner_text()
    assert "2 teams would be let in: lake-1, lake-3." in plan
    assert gathering.api("GET", "teams/lake-1")["state"] == "invited", "nothing is done yet"
    page.screenshot(path=shots / "registrations-plan.png", full_page=True)
    # One of them is turned away by somebody else meanwhile: the other goes on.
    gathering.act("lake", "reject", team="lake-3")
    tab_to(page, "Do exactly this")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert page.locator(".done").inner_text() == "1 team is let in: lake-1."
    assert "lake-3: " in page.get_by_role("alert").inner_text()
    page.screenshot(path=shots / "registrations-done.png", full_page=True)
    assert gathering.api("GET", "teams/lake-1")["state"] != "invited"
    page.goto(f"{gathering.url}contests/lake/registrations")
    assert page.get_by_role("checkbox").count() == 2
    page.get_by_label(f"Lake 4 {HOSTILE} (lake-4)").check()
    page.get_by_label("Reason, for the record").fill(f"Late {HOSTILE}")
    page.get_by_role("button", name="Turn away those that are ticked").click()
    assert "1 team would be turned away: lake-4." in page.locator("#plan").inner_text()
    page.get_by_role("button", name="Do exactly this").click()
    page.locator(".done").wait_for()
    assert gathering.api("GET", "teams/lake-4")["state"] == "destroyed"
    past = gathering.api("GET", "contests/lake/transitions?limit=1")["transitions"]
    assert past[0]["reason"] == f"Late {HOSTILE}"
    assert [text for text in page.said if "422" not in text and "409" not in text] == []


@pytest.mark.browser
def test_two_captains_merge_their_teams(open_page: Any, gathering: Scene, shots: Path) -> None:
    page = open_page("ada", path="my/reef", viewport=PHONE)
    tab_to(page, "Ask a team to come into ours")
    page.keyboard.press("Enter")
    page.locator("#link").wait_for()
    link = page.locator("#link").inner_text()
    assert "/merge#reef." in link
    assert "captain of the other team" in page.locator(".panel").inner_text()
    assert fits(page)
    page.screenshot(path=shots / "merge-ask.png", full_page=True)

    # Bob follows the link before he has logged in.
    context = page.context.browser.new_context(viewport=PHONE)
    bob = context.new_page()
    bob.goto(link)
    bob.get_by_label("Username").wait_for(timeout=10_000)
    assert "reef." not in bob.url, "the word is in no address that a server sees"
    log_in(bob, gathering, "bob")
    assert bob.get_by_label("What you were sent").input_value() == link.partition("#")[2]
    bob.get_by_role("button", name="Show what this would do").click()
    plan = bob.locator("#plan").inner_text()
    assert "2 members of rock come into reef, which has 3 of at most 3 members then." in plan
    assert gathering.api("GET", "teams/rock")["state"] == "invited", "nothing is done yet"
    assert len(gathering.api("GET", "teams/reef/invitations")["invitations"]) == 1
    assert fits(bob)
    bob.screenshot(path=shots / "merge-plan.png", full_page=True)
    # By then the team has one more: it is refused, and the invitation is as it was.
    gathering.api("POST", "teams/reef/members", json={"entry": "dora"})
    bob.get_by_role("button", name="Merge exactly these two").click()
    bob.get_by_role("alert").wait_for()
    assert "would be 4 members together" in bob.get_by_role("alert").inner_text()
    assert len(gathering.api("GET", "teams/reef/invitations")["invitations"]) == 1
    bob.screenshot(path=shots / "merge-refused.png", full_page=True)
    gathering.api("DELETE", "teams/reef/members", json={"entry": "dora"})
    tab_to(bob, "Show what this would do")
    bob.keyboard.press("Enter")
    bob.locator("#plan").wait_for()
    tab_to(bob, "Merge exactly these two")
    bob.keyboard.press("Enter")
    bob.wait_for_url("**/my/reef?said=merged")
    found = gathering.api("GET", "teams/reef")
    assert sorted(member["entry"] for member in found["members"]) == ["ada", "bob", "cyd"]
    assert found["captain"] == "ada"
    assert gathering.api("GET", "teams/rock")["state"] == "destroyed"
    context.close()
    assert page.said == []


def test_who_may_not_learns_nothing_and_does_nothing(gathering: Scene, judged: Scene) -> None:
    eve = gathering.session("eve")
    for path in ("contests/ice/ranking", "contests/ice/registrations", "contests/ice/operations"):
        assert eve.get(gathering.url + path).status_code == 404
        assert gathering.session("root").get(gathering.url + path).status_code == 200
    form = {"_xsrf": xsrf_of(eve.get(f"{gathering.url}join/accept").text), "key": "k" * 20}
    before = judged.api("GET", "contests/ice")["ranking"]
    for path, more in (
        ("contests/ice/ranking", {"do": "keep", "ranking": "ice-6"}),
        ("contests/ice/registrations", {"do": "reject", "team": "ice-1"}),
        ("merge/accept", {"do": "execute", "source": "lake-2", "token": "ice-1.x"}),
    ):
        answer = eve.post(gathering.url + path, data={**form, **more})
        assert answer.status_code in (403, 404), path
    assert judged.api("GET", "contests/ice")["ranking"] == before


def test_a_word_that_is_no_invitation_tells_nothing_of_a_team(gathering: Scene) -> None:
    gathering.register("sea", "crab", captain="eve")
    eve = gathering.session("eve")
    page = eve.get(f"{gathering.url}merge/accept")
    said = set()
    for team in ("reef", "nowhere", "lake-2"):
        form = {
            "_xsrf": xsrf_of(page.text),
            "do": "plan",
            "source": "crab",
            "token": f"{team}.{'x' * 43}",
        }
        answer = eve.post(f"{gathering.url}merge/accept", data=form)
        assert answer.status_code == 409
        alert = re.search(r'role="alert">([^<]*)<', answer.text)
        assert alert
        said.add(alert[1].replace(team, "T"))
    assert len(said) == 1
    for token in ("", "X", "../..", HOSTILE, "x" * 300):
        form = {"_xsrf": xsrf_of(page.text), "do": "plan", "source": "crab", "token": token}
        answer = eve.post(f"{gathering.url}merge/accept", data=form)
        assert answer.status_code == 409
        assert "as you were sent it" in answer.text
        assert "<img" not in answer.text


def test_hostile_rankings(judged: Scene) -> None:
    ivo = judged.session("ivo")
    address = f"{judged.url}contests/ice/ranking"
    xsrf = xsrf_of(ivo.get(address).text)
    before = judged.api("GET", "contests/ice")["ranking"]

    def post(status: int, do: str = "keep", file: bytes = b"", **form: str) -> str:
        files = {"file": ("ranks.txt", file)} if file else None
        answer = ivo.post(address, data={"_xsrf": xsrf, "do": do, **form}, files=files)
        assert answer.status_code == status, (form, answer.text[:500])
        assert "<img" not in answer.text
        assert "<script>" not in answer.text
        return answer.text

    post(422, ranking="")
    post(422, ranking=HOSTILE)
    post(422, ranking="<script>alert(1)</script>")
    post(422, ranking="sea-01")  # another contest's
    post(422, ranking=" ".join(f"t{i}" for i in range(11_000)))
    post(422, do="nonsense", ranking="ice-1")
    post(422, file=b"\xff\xfe\x00")
    post(413, file=b"a " * 250_000)
    assert judged.api("GET", "contests/ice")["ranking"] == before


def test_sent_twice_it_is_done_once(gathering: Scene) -> None:
    gathering.register("lake", "pike", captain="pike-cap")
    host = gathering.session("hana")
    address = f"{gathering.url}contests/lake/registrations"
    xsrf = xsrf_of(host.get(address).text)
    form = {"_xsrf": xsrf, "do": "admit", "team": "pike"}
    page = host.post(address, data=form)
    sent = {
        "_xsrf": xsrf,
        "do": "admit",
        "step": "execute",
        "key": field(page.text, "key"),
        "reason": "",
        "team": field(page.text, "team"),
    }
    for _ in range(2):
        answer = host.post(address, data=sent)
        assert answer.status_code == 200
        assert "1 team is let in: pike." in answer.text
    asked = gathering.api("GET", "contests/lake/operations")["operations"]
    assert [o["request"].get("team") for o in asked].count("pike") == 1
    stale = {**sent, "key": "k" * 20, "team": f"pike {'0' * 64}"}
    answer = host.post(address, data=stale)
    assert answer.status_code == 409
