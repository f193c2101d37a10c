"""The pages in a real browser: by mouse, by keyboard only, on a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyterhub_collab.models.contest_life import ContestState, TeamState

from .conftest import HOSTILE, Scene, log_in, put_teams

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def judged(scene: Scene) -> Scene:
    """The sea contest between two rounds, with a dozen teams."""
    teams = {f"sea-{i:02}": TeamState.ACTIVE for i in range(1, 13)}
    put_teams(scene, "sea", ContestState.JUDGING, teams)
    return scene


def heading(page: Page) -> str:
    return page.get_by_role("heading", level=1).inner_text()


def test_a_host_advances_a_contest_and_another_approves(
    open_page: Any, judged: Scene, shots: Path
) -> None:
    page = open_page("hana", viewport={"width": 1100, "height": 800})
    page.get_by_role("link", name="The sea contest").click()
    page.get_by_role("link", name="12 active").wait_for()
    page.screenshot(path=shots / "contest.png", full_page=True)
    page.get_by_role("link", name="Advance to the next round").click()
    page.get_by_label("How many of the ranking").fill("4")
    page.get_by_label("Reason, for the record").fill("Scores of round 1")
    page.get_by_role("button", name="Show what this would do").click()
    plan = page.locator("#plan")
    assert "Round 2, Semifinal begins." in plan.inner_text()
    assert "4 teams: stay in and come into the next round" in plan.inner_text()
    assert "sea-01, sea-02, sea-03, sea-04" in plan.inner_text()
    assert "8 teams: active → eliminated" in plan.inner_text()
    assert "8 teams lose all that they have here, for good." in plan.inner_text()
    assert "CE" in plan.get_by_text("It can be taken back until").locator("time").inner_text()
    page.screenshot(path=shots / "contest-plan.png", full_page=True)
    page.get_by_role("button", name="Propose exactly this").click()
    page.wait_for_url("**/contests/sea?said=proposed")
    assert judged.api("GET", "contests/sea")["round"] == 1, "nothing is done yet"
    waits = page.get_by_text("Waits for a second person:")
    assert waits.count() == 1
    page.screenshot(path=shots / "contest-waits.png", full_page=True)
    page.get_by_role("link", name="Look at operation").click()
    assert page.get_by_role("button", name="Approve exactly this").count() == 0
    assert page.get_by_text("Another host has to approve it").count() == 1

    other = open_page("hugo", path="contests/sea")
    other.get_by_role("link", name="Look at operation").click()
    assert "8 teams: active → eliminated" in other.locator("#plan").inner_text()
    other.screenshot(path=shots / "contest-approve.png", full_page=True)
    other.get_by_role("button", name="Approve exactly this").click()
    other.wait_for_url("**/contests/sea?said=approved")
    other.get_by_role("link", name="8 eliminated").wait_for()
    assert other.get_by_text("round 2 of 3, Semifinal").count() == 1
    assert judged.api("GET", "contests/sea")["round"] == 2
    other.screenshot(path=shots / "contest-under-way.png", full_page=True)
    # A team that appeals, from the list.
    other.get_by_role("link", name="8 eliminated").click()
    other.get_by_role("link", name="sea-09").click()
    other.screenshot(path=shots / "contest-team.png", full_page=True)
    other.get_by_role("link", name="Take the team in again").click()
    other.get_by_role("button", name="Do exactly this").click()
    other.wait_for_url("**/teams/sea-09?said=asked")
    assert page.said == other.said == []


def test_progress_is_live(open_page: Any, judged: Scene) -> None:
    page = open_page("root", path="contests/ice")
    assert page.get_by_text("No team yet.").count() == 1
    judged.act("ice", "open")
    judged.register("ice", "bergs", captain="cyd")
    page.get_by_role("link", name="1 invited").wait_for(timeout=15_000)
    assert page.said == []


def test_a_captain_registers_invites_and_somebody_joins(
    open_page: Any, scene: Scene, shots: Path
) -> None:
    if scene.api("GET", "contests/lake")["state"] == "draft":
        scene.act("lake", "open")
    page = open_page("ada")
    page.get_by_role("link", name="The lake contest").click()
    page.get_by_label("Id of the team").fill("Deep Water")
    page.get_by_role("button", name="Register the team").click()
    assert "id: found" in page.get_by_role("alert").inner_text()
    page.screenshot(path=shots / "register-wrong.png", full_page=True)
    page.get_by_label("Id of the team").fill("deep-water")
    page.get_by_label("Name, for people").fill(f"Deep {HOSTILE}")
    assert HOSTILE in page.get_by_role("region", name="Rules and terms").inner_text()
    page.get_by_label("I accept these, version 2027-1.").check()
    page.screenshot(path=shots / "register.png", full_page=True)
    page.get_by_role("button", name="Register the team").click()
    page.wait_for_url("**/my/deep-water?said=registered")
    assert heading(page) == f"Team Deep {HOSTILE} (deep-water)"
    assert page.get_by_text("Until you accept the rules").count() == 0
    page.get_by_role("button", name="Make an invitation").click()
    link = page.locator("#link").inner_text()
    assert "/join#deep-water." in link
    page.screenshot(path=shots / "my-team.png", full_page=True)
    page.reload()
    page.goto(f"{scene.url}my/deep-water")
    assert page.locator("#link").count() == 0, "it is shown once"

    # Bob follows the link before he has logged in; the hub's log-in lies in between.
    context = page.context.browser.new_context()
    bob = context.new_page()
    bob.goto(link)
    bob.get_by_label("Username").wait_for(timeout=10_000)
    assert "deep-water." not in bob.url, "the word is in no address that a server sees"
    log_in(bob, scene, "bob")
    assert bob.get_by_label("Your invitation").input_value() == link.partition("#")[2]
    bob.get_by_role("button", name="Join the team").click()
    bob.wait_for_url("**/my/deep-water?said=joined")
    bob.screenshot(path=shots / "joined.png", full_page=True)
    bob.get_by_label("I accept these, version 2027-1.").check()
    bob.get_by_role("button", name="Accept").click()
    bob.wait_for_url("**?said=agreed")
    other = open_page("cyd", path="join/accept")
    other.get_by_label("Your invitation").fill(link)  # the whole link is as good
    other.get_by_role("button", name="Join the team").click()
    assert other.get_by_role("alert").inner_text(), "once is all that an invitation is good for"

    page.goto(f"{scene.url}my/deep-water")
    page.get_by_role("button", name="Make bob the captain").click()
    page.wait_for_url("**?said=handed")
    page.get_by_role("button", name="Leave the team").click()
    page.wait_for_url("**?said=left")
    found = scene.api("GET", "teams/deep-water")
    assert [member["entry"] for member in found["members"]] == ["bob"]
    assert found["captain"] == "bob"
    context.close()
    assert [text for text in page.said if "422" not in text] == []


def test_by_keyboard_only(open_page: Any, judged: Scene) -> None:
    page = open_page("root")

    def focused() -> str:
        found: str = page.evaluate(
            "(document.activeElement.innerText || document.activeElement.id || '').trim()"
        )
        return found

    def tab_to(text: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if focused().startswith(text):
                assert page.evaluate(
                    "getComputedStyle(document.activeElement).outlineStyle !== 'none'"
                ), f"nobody sees that {text} has the focus"
                return
        raise AssertionError(f"{text} cannot be reached")

    page.keyboard.press("Tab")
    assert focused() == "To the content"
    page.keyboard.press("Enter")
    tab_to("The sea contest")
    page.keyboard.press("Enter")
    page.wait_for_url("**/contests/sea")
    tab_to("Freeze")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/freeze")
    tab_to("reason")
    page.keyboard.type("Something is wrong")
    tab_to("Do exactly this")
    page.keyboard.press("Enter")
    page.wait_for_url("**/contests/sea?said=asked")
    assert judged.api("GET", "contests/sea")["frozen"] is True
    tab_to("Lift the freeze")
    page.keyboard.press("Enter")
    page.wait_for_url("**/actions/lift")
    tab_to("Do exactly this")
    page.keyboard.press("Enter")
    page.wait_for_url("**/contests/sea?said=asked")
    assert judged.api("GET", "contests/sea")["frozen"] is False


def test_a_notice_is_written(open_page: Any, judged: Scene, shots: Path) -> None:
    page = open_page("hana", path="contests/sea")
    page.get_by_role("link", name="Write a notice").click()
    page.get_by_label("Text").fill(f"The data is late.\n{HOSTILE}")
    page.screenshot(path=shots / "notice-form.png", full_page=True)
    page.get_by_role("button", name="Write it").click()
    page.wait_for_url("**?said=told")
    assert page.get_by_text(f"The data is late. {HOSTILE}").count() == 1
    assert page.said == []


def test_on_a_phone_nothing_is_cut_off(open_page: Any, judged: Scene, shots: Path) -> None:
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    page = open_page("hana", **phone)
    operations = judged.api("GET", "contests/sea/operations")["operations"]
    paths = (
        "",
        "contests/sea",
        "contests/sea/teams",
        "contests/sea/teams/sea-01",
        "contests/sea/actions/finish",
        "contests/sea/notices/new",
        f"operations/{operations[-1]['number']}",
        "join/accept",
        "register/lake",
    )
    for path in paths:
        page.goto(f"{judged.url}{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{path or 'start'} is {width} wide"
        name = path.replace("/", "-") or "start"
        page.screenshot(path=shots / f"phone-{name}.png", full_page=True)


def test_without_scripts_it_works_too(open_page: Any, judged: Scene) -> None:
    page = open_page("hana", path="contests/sea/teams?id=sea-1", java_script_enabled=False)
    rows = page.get_by_role("row")
    assert rows.count() == 1 + 3, "sea-10 to sea-12"
    page.get_by_label("State").select_option("active")
    page.get_by_label("Id begins with").fill("sea-0")
    page.get_by_role("button", name="Search").click()
    assert page.get_by_role("link", name="sea-01").count() == 1
    page.get_by_role("link", name="sea-01").click()
    page.get_by_role("link", name="Freeze").click()
    assert page.get_by_role("button", name="Do exactly this").count() == 1
