"""The login page of a hub with several sources, and a portal on another site, in a real browser."""

from __future__ import annotations

import asyncio
import html
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.conftest import person
from tests.auth.portals import Started
from tests.auth.several import SeveralHub
from tests.auth.test_portal import SCOPES, prepare
from tests.identity.publishing import make_certificate
from tests.real_hub import find_free_port
from tests.walk.browsing import browser, shots

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser", "shots"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


@contextmanager
def running(hub: SeveralHub, port: int) -> Iterator[None]:
    """The hub, and a portal that knows one person. It is `localhost`: another site than the hub."""

    class Portal(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()}
            token = hub.sign_in(Started(self.path, query), "7", "team-ocean", username="grace")
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(
                f"""<!doctype html><title>Portal</title>
                <form method="post" action="{html.escape(query["return_to"])}">
                <input type="hidden" name="token" value="{token}">
                <input type="hidden" name="state" value="{html.escape(query["state"])}">
                <button>To the hub</button></form>""".encode()
            )

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Portal)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        hub.start()
        prepare(hub)
        yield
    finally:
        hub.kill()
        server.shutdown()
        server.server_close()
        serving.join()


@contextmanager
def https_before(port: int, own_port: int, tls: ssl.SSLContext) -> Iterator[None]:
    """What an ingress does: TLS here, plain to the hub."""
    loop = asyncio.new_event_loop()
    opened: list[asyncio.StreamWriter] = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        opened.extend((writer, ours))

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            except (OSError, ssl.SSLError):
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, ours), pump(theirs, writer))

    async def serve(stopping: asyncio.Event) -> None:
        async with await asyncio.start_server(relay, "127.0.0.1", own_port, ssl=tls):
            started.set()
            await stopping.wait()
            for writer in opened:
                writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    stopping, started = asyncio.Event(), threading.Event()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve(stopping))
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


def make_hub(folder: Path, port: int, **more: Any) -> SeveralHub:
    hub = SeveralHub(
        folder=folder, scopes=SCOPES, login_url=f"http://localhost:{port}/login", **more
    )
    hub.write_people("jena", {"ada": person("1", "team-river", password="a password")})
    return hub


def through_the_portal(page: Page) -> None:
    page.get_by_role("link", name="Sign in with Ocean Prize").click()
    page.get_by_role("link", name="sea", exact=True).click()
    page.get_by_role("button", name="To the hub").click()


def test_the_login_page(browser: Browser, tmp_path: Path, shots: Path) -> None:
    port = find_free_port()
    hub = make_hub(tmp_path / "hub", port)
    with running(hub, port):
        context = browser.new_context(viewport={"width": 1000, "height": 900})
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(f"{hub.public_url}hub/login?next=/hub/token")
        page.screenshot(path=shots / "several-login.png", full_page=True)
        page.set_viewport_size({"width": 360, "height": 800})
        page.screenshot(path=shots / "several-login-narrow.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        # By keyboard alone, by what a screen reader reads out.
        institution = page.get_by_label("Institution")
        assert institution.evaluate("element => element === document.activeElement")
        for _ in range(2):
            page.keyboard.press("ArrowDown")
        assert institution.input_value() == "jena"
        page.keyboard.press("Tab")
        page.keyboard.type("ada")
        page.keyboard.press("Tab")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        page.get_by_text("Invalid username or password").wait_for()
        page.screenshot(path=shots / "several-refused.png", full_page=True)
        assert institution.input_value() == "jena"
        page.get_by_label("Password:").fill("a password")
        page.keyboard.press("Enter")
        page.wait_for_url("**/hub/token")
        assert hub.groups_of("j-ada") == ["river"]
        assert not wrong
        # Without scripts, too.
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(f"{hub.public_url}hub/login")
        plain.get_by_label("Institution").select_option("jena")
        plain.get_by_label("Username:").fill("ada")
        plain.get_by_label("Password:").fill("a password")
        plain.get_by_role("button", name="Sign in").click()
        plain.wait_for_url("**/hub/spawn")
        context.close()


def test_the_portal_over_http(browser: Browser, tmp_path: Path, shots: Path) -> None:
    port = find_free_port()
    hub = make_hub(tmp_path / "hub", port)
    with running(hub, port):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{hub.public_url}hub/login?next=/hub/token")
        through_the_portal(page)
        page.screenshot(path=shots / "portal-continue.png", full_page=True)
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url("**/hub/token")
        assert hub.groups_of("p-grace") == ["ocean"]
        context.close()


def test_the_portal_over_https(browser: Browser, tmp_path: Path, shots: Path) -> None:
    """The cookie of the login comes back with the other site's post: no click more."""
    port, tls_port = find_free_port(), find_free_port()
    hub = make_hub(tmp_path / "hub", port, scheme_and_host=f"https://127.0.0.1:{tls_port}/")
    tls, _ = make_certificate(tmp_path)
    with running(hub, port), https_before(hub.port, tls_port, tls):
        context = browser.new_context(ignore_https_errors=True)
        page = context.new_page()
        page.goto(f"{hub.public_url}hub/login?next=/hub/token")
        # Two tabs, begun one after the other and ended the other way round.
        other = context.new_page()
        other.goto(f"{hub.public_url}hub/login?next=/hub/home")
        for tab in (page, other):
            tab.get_by_role("link", name="Sign in with Ocean Prize").click()
            tab.get_by_role("link", name="sea", exact=True).click()
        for tab, to in ((other, "home"), (page, "token")):
            tab.get_by_role("button", name="To the hub").click()
            tab.wait_for_url(f"**/hub/{to}")
        assert hub.groups_of("p-grace") == ["ocean"]
        cookies = {c["name"]: c for c in context.cookies()}
        assert not [name for name in cookies if name.startswith("collab-portal")]
        context.close()
