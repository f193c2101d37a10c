"""Notices in a real JupyterLab: its server asks the hub, its page shows them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from jupyterhub_collab.singleuser.jupyter_settings import config_environment
from tests.notice_service import NoticeService, notice, serving
from tests.real_hub import ROOT, find_free_port
from tests.walk.browsing import browser, shots

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser", "shots"]
TOKEN = "token-of-the-page"
HUB_TOKEN = "token-of-the-server"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, NoticeService]]:
    """Address of a JupyterLab that is set up as in a member's pod, and the hub that it asks."""
    home = tmp_path_factory.mktemp("lab")
    port = find_free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    with serving() as hub:
        environ = {
            **kept,
            "HOME": str(home),
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(ROOT),
            "JUPYTERHUB_API_URL": f"{hub.url}/hub/api",
            "JUPYTERHUB_API_TOKEN": HUB_TOKEN,
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        settings = [f"--port={port}", f"--IdentityProvider.token={TOKEN}"]
        with (home / "lab.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *settings],
                cwd=home,
                env={**environ, **config_environment(environ, home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        url = f"http://127.0.0.1:{port}"
        try:
            _await(url, process, home / "lab.log")
            yield url, hub
        finally:
            process.kill()
            process.wait(20)


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx.get(f"{url}/api?token={TOKEN}", timeout=2, verify=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.mark.browser
def test_a_notice_is_a_notification(
    lab: tuple[str, NoticeService], browser: Browser, shots: Path
) -> None:
    url, hub = lab
    hub.notices = [notice(f"Round 1 closes in 24 h. {HOSTILE}", id="7", team="ocean")]
    page = browser.new_page()
    said: list[str] = []
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(f"{url}/lab?token={TOKEN}")
    shown = page.get_by_text(f"Team ocean: Round 1 closes in 24 h. {HOSTILE}")
    shown.first.wait_for(timeout=60_000)
    page.screenshot(path=shots / "notice-lab.png")
    assert hub.asked[-1][0] == "/hub/api/collab/notices"
    assert hub.asked[-1][2] == f"token {HUB_TOKEN}", "the server's own token, not the page's"
    assert said == [], "text is only ever text"
    page.reload()
    page.get_by_role("menubar").first.wait_for()
    page.wait_for_timeout(2000)
    assert page.get_by_text("Round 1 closes in 24 h.").count() == 0, "once is enough"
    page.close()


def test_nobody_reads_them_without_the_server_s_token(lab: tuple[str, NoticeService]) -> None:
    url, hub = lab
    before = len(hub.asked)
    answer = httpx.get(f"{url}/collab/notices", follow_redirects=False)
    assert answer.status_code == 403
    assert len(hub.asked) == before
