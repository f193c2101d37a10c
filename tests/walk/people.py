"""What a person does in a browser: signs in, chooses a team, works in JupyterLab, stops.

Everything goes through the pages as they are; where a page's own JavaScript is asked something, it
is asked in the page, with the person's cookies.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, expect

PAGE_TIMEOUT_MS = 60_000  # a busy machine of two cores
START_TIMEOUT_MS = 120_000
LAB_TIMEOUT_MS = 60_000
NOTEBOOK_TIMEOUT_MS = 120_000
FETCH_TIMEOUT_MS = 20_000
expect.set_options(timeout=PAGE_TIMEOUT_MS)
_OBSERVE_PROGRESS = """
document.addEventListener("DOMContentLoaded", () => {
  const log = document.getElementById("progress-log");
  if (!log) return;
  document.getElementById("progress-details").open = true;
  new MutationObserver((changes) => {
    for (const change of changes)
      for (const node of change.addedNodes) window.collabProgress(node.textContent);
  }).observe(log, {childList: true});
});
"""


@dataclass
class Person:
    """One person, with a browser profile of their own.

    Attributes
    ----------
    hub
        The hub's public URL.
    password
        Empty: the login page shows the person's account.
    progress
        What the last start said, with seconds since it began.
    """

    name: str
    hub: str
    page: Page
    shots: Path
    password: str = ""
    progress: list[tuple[float, str]] = field(default_factory=list)
    _began: float = 0.0

    @property
    def server(self) -> str:
        """URL of the person's server, on a subdomain of its own."""
        scheme, _, rest = self.hub.partition("://")
        return f"{scheme}://{self.name}.{rest}/user/{self.name}"

    def shoot(self, what: str) -> None:
        """Keep a screenshot."""
        self.page.screenshot(path=self.shots / f"{what}.png")

    def sign_in(self) -> None:
        """With a password, or else the button beside the person's demo account."""
        self.page.goto(self.hub)
        if self.password:
            self.page.locator("#username_input").fill(self.name)
            self.page.locator("#password_input").fill(self.password)
            self.page.locator("#login_submit").click()
            self.page.wait_for_url(lambda url: "/hub/login" not in url)
            return
        expect(self.page.get_by_role("heading", name="Demo accounts")).to_be_visible()
        self.page.get_by_role("button", name=f"Sign in as {self.name}").click()
        self.page.wait_for_url(lambda url: "/hub/login" not in url)

    def start(self, team: str | None = None) -> None:
        """Start a server from the spawn page and wait for JupyterLab.

        Parameters
        ----------
        team
            Which to choose; None where there is no choice.
        """
        self.progress.clear()
        self.page.goto(f"{self.hub}/hub/spawn")
        if team is not None:
            self.page.locator(f"input[name=team][value={team}]").check()
            self.shoot(f"chooser-{self.name}")
        self._began = time.monotonic()
        self.page.locator("#spawn_form button[type=submit]").click()
        self.page.wait_for_url(re.compile("spawn-pending"))
        expect(self.page.locator("#progress-log > div").first).to_be_visible(
            timeout=START_TIMEOUT_MS
        )
        self.page.wait_for_timeout(800)  # for the picture only
        self.shoot(f"starting-{self.name}")
        self.page.wait_for_url(re.compile(r"/user/.*/lab"), timeout=START_TIMEOUT_MS)
        expect(self.page.locator(".jp-DirListing-content")).to_be_visible(timeout=LAB_TIMEOUT_MS)
        expect(self.entry("team")).to_be_visible(timeout=LAB_TIMEOUT_MS)
        self.check_not_asked_about_news()

    def check_not_asked_about_news(self) -> None:
        """JupyterLab was told not to ask, and does not."""
        self.page.wait_for_timeout(500)  # it would ask once it has read its settings
        config = json.loads(self.page.locator("#jupyter-config-data").text_content() or "{}")
        assert config["news"] == {"disabled": True}
        expect(self.page.get_by_text("official Jupyter news")).to_have_count(0)

    def entry(self, name: str) -> Any:
        """A row of the file browser."""
        exact = re.compile(rf"^{re.escape(name)}$")
        text = self.page.locator(".jp-DirListing-itemText", has_text=exact)
        return self.page.locator(".jp-DirListing-item").filter(has=text)

    def open(self, *path: str) -> None:
        """Open a file by double clicks, from the home."""
        self.page.locator(".jp-BreadCrumbs-home").first.click()
        for name in path:
            expect(self.entry(name)).to_be_visible()
            self.entry(name).dblclick()

    def run_notebook(self, name: str, *, last_words: str) -> None:
        """Run a notebook from top to bottom, in the user interface, and save it."""
        page = self.page
        self.open(name)
        expect(page.locator(".jp-Notebook")).to_be_visible(timeout=LAB_TIMEOUT_MS)
        # The indicator beside the kernel's name is "idle" also before there is a kernel.
        expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.locator('.lm-Menu-item[data-command="runmenu:run-all"]').click()
        outputs = page.locator(".jp-OutputArea-output")
        panel = page.locator(".jp-WindowedPanel-outer").first
        deadline = time.monotonic() + NOTEBOOK_TIMEOUT_MS / 1000
        while not outputs.filter(has_text=last_words).count():
            assert time.monotonic() < deadline, outputs.all_inner_texts()
            assert not page.locator(".jp-RenderedText[data-mime-type*=stderr]").count()
            panel.evaluate("panel => panel.scrollTo(0, panel.scrollHeight)")
            page.wait_for_timeout(200)
        page.get_by_role("menuitem", name="File", exact=True).click()
        page.locator('.lm-Menu-item[data-command="docmanager:save"]').click()
        panel.evaluate("panel => panel.scrollTo(0, 700)")  # to the plot, for the picture
        expect(page.locator(".lm-TabBar-tab.jp-mod-current.jp-mod-dirty")).to_have_count(0)

    def read(self, *path: str) -> str:
        """Open a text file in JupyterLab's editor and read what it shows."""
        self.open(*path)
        editor = self.page.locator(".jp-FileEditor:visible .cm-content")
        expect(editor).to_contain_text(re.compile(r"\S"))  # it is drawn before the file is read
        return str(editor.inner_text())

    def fetch(
        self, url: str, *, timeout_ms: int = FETCH_TIMEOUT_MS, **options: Any
    ) -> tuple[int, str]:
        """What the page itself gets from a URL: status and text."""
        script = """async ([url, options, timeout]) => {
          const xsrf = (document.cookie.match(/(?:^|; )_xsrf=([^;]*)/) || [])[1];
          const headers = {...(options.headers || {}), ...(xsrf ? {"X-XSRFToken": xsrf} : {})};
          const signal = AbortSignal.timeout(timeout);
          try {
            const answer = await fetch(url, {...options, headers, signal});
            return [answer.status, await answer.text()];
          } catch (error) {
            throw new Error(`${url}: ${error}`);
          }
        }"""
        status, text = self.page.evaluate(script, [url, options, timeout_ms])
        return status, text

    def list_folder(self, path: str) -> list[str]:
        """Names in a folder of the person's server."""
        status, text = self.fetch(f"{self.server}/api/contents/{quote(path)}")
        assert status == 200, text
        return sorted(entry["name"] for entry in json.loads(text)["content"])

    def read_file(self, path: str) -> str:
        """Text of a file of the person's server."""
        status, text = self.fetch(f"{self.server}/api/contents/{quote(path)}?type=file&format=text")
        assert status == 200, text
        return str(json.loads(text)["content"])

    def write_file(self, path: str, text: str) -> None:
        """Put a file onto the person's server, as an upload does."""
        body = json.dumps({"type": "file", "format": "text", "content": text})
        status, answer = self.fetch(
            f"{self.server}/api/contents/{quote(path)}",
            method="PUT",
            body=body,
            headers={"Content-Type": "application/json"},
        )
        assert status in (200, 201), answer

    def type_in_terminal(
        self, command: str, *, until: Callable[[], bool], timeout_s: float
    ) -> None:
        """Type a command into a new JupyterLab terminal and wait for its effect."""
        with self.page.expect_websocket(
            lambda socket: "/terminals/websocket/" in socket.url, timeout=LAB_TIMEOUT_MS
        ) as opened:
            self.page.get_by_role("menuitem", name="File", exact=True).click()
            self.page.locator(".lm-Menu-item[data-type=submenu]", has_text="New").first.hover()
            self.page.locator('.lm-Menu-item[data-command="terminal:create-new"]').click()
        # The prompt is drawn on a canvas; what is typed before it comes is lost.
        opened.value.wait_for_event(
            "framereceived", predicate=lambda frame: "stdout" in str(frame), timeout=LAB_TIMEOUT_MS
        )
        screen = self.page.locator(".jp-Terminal:visible .xterm-screen")
        expect(screen).to_be_visible(timeout=LAB_TIMEOUT_MS)
        screen.click()
        self.page.keyboard.type(command + "\n")
        deadline = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < deadline, f"no effect of: {command}"
            self.page.wait_for_timeout(300)

    def stop(self) -> None:
        """Stop the server on the hub's home page."""
        # A click before the page's script has run has no effect.
        self.page.goto(f"{self.hub}/hub/home", wait_until="networkidle")
        self.page.locator("#stop").click()
        expect(self.page.locator("#start")).to_contain_text(
            "Start My Server", timeout=START_TIMEOUT_MS
        )
        expect(self.page.locator("#stop")).to_be_hidden(timeout=START_TIMEOUT_MS)

    def told(self, text: str) -> None:
        """Note one line of the spawn page's log."""
        self.progress.append((time.monotonic() - self._began, text))


def meet(browser: Browser, name: str, *, hub: str, shots: Path, password: str = "") -> Person:
    """A person who has just opened a browser."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(PAGE_TIMEOUT_MS)
    person = Person(name=name, hub=hub, page=page, shots=shots, password=password)
    page.expose_function("collabProgress", person.told)
    page.add_init_script(_OBSERVE_PROGRESS)
    return person
