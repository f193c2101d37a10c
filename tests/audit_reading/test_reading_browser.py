"""The pages in a real browser: by mouse, by keyboard only, on a phone, with hostile names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.audit_reading.conftest import Scene
from tests.walk.browsing import browser, shots

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "shots"]
pytestmark = pytest.mark.browser


@pytest.fixture
def open_page(browser: Browser, scene: Scene) -> Iterator[Any]:
    """A page of somebody who has logged in through the hub; what its console says is kept."""
    contexts = []

    def make(name: str, **more: Any) -> Page:
        context = browser.new_context(**more)
        contexts.append(context)
        page = context.new_page()
        page.said = []  # type: ignore[attr-defined]
        page.on("console", lambda message: page.said.append(message.text))  # type: ignore[attr-defined]
        page.on("dialog", lambda dialog: page.said.append(f"dialog {dialog.message}"))  # type: ignore[attr-defined]
        page.goto(scene.service.url)
        page.get_by_label("Username").fill(name)
        page.get_by_label("Password").fill("pw")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{scene.service.url}**")
        page.said.clear()  # type: ignore[attr-defined]
        return page

    yield make
    for context in contexts:
        context.close()


def test_who_accessed_a_data_set_is_two_clicks_away(open_page: Any, shots: Path) -> None:
    page = open_page("hana")
    page.screenshot(path=shots / "audit-start.png", full_page=True)
    page.get_by_role("link", name="tides contest sea").click()
    assert page.get_by_role("heading", level=1).inner_text() == "Who accessed tides of contest sea"
    row = page.get_by_role("row", name="ada ocean")
    assert row.get_by_role("cell").first.inner_text() == "ocean"
    page.screenshot(path=shots / "audit-dataset.png", full_page=True)
    row.get_by_role("link", name="ada").click()
    assert "person=ada" in page.url
    assert page.get_by_label("Person").input_value() == "ada"
    assert page.said == []


def test_search_keeps_its_filters_in_the_address(open_page: Any, shots: Path) -> None:
    page = open_page("hana")
    page.get_by_role("link", name="Search").click()
    page.get_by_label("Team").fill("ocean")
    page.get_by_label("What was done").select_option("dataset.*")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**team=ocean**")
    assert page.url.endswith("events?team=ocean&verb=dataset.*"), "empty fields are not in it"
    rows = page.locator("#events tbody tr")
    assert rows.count() == 6
    assert "6 events" in page.locator("svg.hours").get_attribute("aria-label")
    page.screenshot(path=shots / "audit-search.png", full_page=True)
    page.reload()
    assert page.get_by_label("Team").input_value() == "ocean"
    rows.first.get_by_role("link").click()
    assert page.get_by_role("heading", level=1).inner_text().endswith(": dataset.read")
    page.get_by_text("The signed checkpoint").click()
    assert "test.example.org/audit" in page.locator("pre").first.inner_text()
    page.screenshot(path=shots / "audit-event.png", full_page=True)
    with page.expect_download() as download:
        page.get_by_role("link", name="Take the proof with you").click()
    assert download.value.suggested_filename.endswith(".proof.json")
    assert page.said == []


def test_what_is_not_right_or_not_there_is_said(open_page: Any, scene: Scene, shots: Path) -> None:
    page = open_page("bob")
    page.goto(f"{scene.service.url}events?team=NO&limit=x")
    alert = page.get_by_role("alert")
    assert 'team: found "NO"' in alert.inner_text()
    assert page.get_by_label("Team").get_attribute("aria-invalid") == "true"
    page.screenshot(path=shots / "audit-wrong.png", full_page=True)
    page.goto(f"{scene.service.url}events?team=glacier")
    assert page.get_by_text("No event that you may see is like this.").is_visible()
    page.goto(f"{scene.service.url}events/1")
    assert page.get_by_role("heading", level=1).inner_text() == "Nothing here"
    page.screenshot(path=shots / "audit-nothing.png", full_page=True)
    page.goto(f"{scene.service.url}datasets/sea/tides")
    assert page.get_by_text("Nobody accessed it, as far as you may see.").is_visible()


def test_by_keyboard_only(open_page: Any) -> None:
    page = open_page("stew")

    def focused() -> str:
        found: str = page.evaluate(
            "(document.activeElement.innerText || document.activeElement.id || '').trim()"
        )
        return found

    def tab_to(text: str) -> None:
        for _ in range(40):
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
    tab_to("tides")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datasets/sea/tides")
    tab_to("Search")
    page.keyboard.press("Enter")
    page.wait_for_url("**/events")
    tab_to("person")
    page.keyboard.type("ada")
    page.keyboard.press("Enter")
    page.wait_for_url("**person=ada**")
    tab_to("The same as a table")
    page.keyboard.press("Enter")
    assert page.get_by_role("columnheader", name="From (UTC)").is_visible()
    tab_to("Follow live")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Stop following")
    assert button.get_attribute("aria-pressed") == "true"
    assert "Following" in page.get_by_role("status").inner_text()


def test_live_events_come_on_top_and_hostile_names_do_nothing(
    open_page: Any, scene: Scene, shots: Path
) -> None:
    page = open_page("hana")
    page.goto(f"{scene.service.url}events?verb=audit.*")
    page.get_by_role("button", name="Follow live").click()
    page.get_by_text("Following. New events come on top.").wait_for()
    hostile = "<img src=x onerror=alert(1)>\"'"
    answer = scene.ask("hana", "api/events", params={"person": hostile, "contest": "sea"})
    assert answer.status_code == 200, answer.text
    fresh = page.locator("tr.fresh").filter(has_text=hostile)
    fresh.wait_for()
    page.get_by_text("since you began to follow.").wait_for()
    page.screenshot(path=shots / "audit-live.png", full_page=True)
    page.reload()
    assert page.locator("#events tbody tr").filter(has_text=hostile).count() == 1
    page.locator("#events tbody tr").filter(has_text=hostile).get_by_role("link").click()
    assert page.get_by_text(hostile).count() == 1
    assert page.said == []
    page.goto(f"{scene.service.url}events?person=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert page.locator("main script").count() == 0
    assert not [text for text in page.said if "422" not in text]


def test_on_a_phone_nothing_is_cut_off(open_page: Any, scene: Scene, shots: Path) -> None:
    page = open_page("hana", viewport={"width": 360, "height": 740}, color_scheme="dark")
    for path in ("", "events?limit=20", "datasets/sea/tides", "events/20"):
        page.goto(f"{scene.service.url}{path}")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= 360, f"{path or 'start'} is {width} wide"
        name = path.split("?")[0].replace("/", "-") or "start"
        page.screenshot(path=shots / f"audit-phone-{name}.png", full_page=True)


def test_without_scripts_it_works_too(open_page: Any, scene: Scene) -> None:
    page = open_page("ada", java_script_enabled=False)
    page.goto(f"{scene.service.url}events")
    page.get_by_label("Team").fill("ocean")
    page.get_by_role("button", name="Search").click()
    assert page.locator("#events tbody tr").count() > 0
    assert page.get_by_role("button", name="Follow live").is_hidden()
