"""The clients in docs/auth-portal.md, run as they stand there, against a real hub."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from traitlets import import_item

from jupyterhub_collab.hub.auth.team_authenticator import TeamAuthenticator
from tests.auth.portals import PortalHub
from tests.auth.test_portal import SCOPES, prepare
from tests.real_hub import ROOT, find_free_port

PAGE = (ROOT / "docs" / "auth-portal.md").read_text()


def block(language: str, holding: str) -> str:
    found = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (wanted,) = [text for text in found if holding in text]
    return wanted


def short_names() -> dict[str, str]:
    """What setup.py installs, so that tests need no installation of their own."""
    text = (ROOT / "setup.py").read_text()
    found = re.findall(r'"(collab-\w+) = ([\w.]+):(\w+)"', text)
    return {name: f"{module}.{attribute}" for name, module, attribute in found}


def environment(folder: Path) -> dict[str, str]:
    """With `jupyterhub-collab` as it is installed for others."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    program = programs / "jupyterhub-collab"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m jupyterhub_collab.cli.main "$@"\n')
    program.chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def run(script: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=folder,
        env={**environment(folder), **more},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PortalHub, Path]]:
    """A hub configured as the page says, with the page's own portal."""
    folder = tmp_path_factory.mktemp("documented")
    run(block("sh", "--new-key"), folder)
    assert (folder / "portal.pem").stat().st_mode & 0o777 == 0o600
    (folder / "portal.py").write_text(block("python", "class Portal"))
    port = find_free_port()
    hub = PortalHub(folder=folder / "hub", scopes=SCOPES)
    lines = block("python", "PortalAuthenticator.name").replace(
        "https://hub.example.org/", hub.public_url
    )
    lines = lines.replace(
        "https://portal.example.org/hub-login", f"http://127.0.0.1:{port}/hub-login"
    )
    lines = lines.replace(
        "https://portal.example.org/keys.json", f"http://127.0.0.1:{port}/keys.json"
    )
    lines = lines.replace('"collab-portal"', repr(short_names()["collab-portal"]))
    rules = hub.folder / "documented.yaml"
    rules.write_text(block("yaml", "kind: Entitlements"))
    assert yaml.safe_load(rules.read_text())
    lines = lines.replace("/etc/jupyterhub/entitlements.yaml", str(rules))
    hub.more += (
        "c.PortalAuthenticator.key_file = ''\nc.PortalAuthenticator.name_prefix = ''\n" + lines
    )
    portal = subprocess.Popen(
        [sys.executable, "-I", "portal.py", "portal.pem", hub.public_url, str(port)], cwd=folder
    )
    try:
        deadline = time.monotonic() + 15
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/keys.json").status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline
                assert portal.poll() is None
                time.sleep(0.05)
        hub.start()
        prepare(hub)
        yield hub, folder
    finally:
        hub.kill()
        portal.terminate()
        portal.wait(15)


def fields(page: str) -> dict[str, Any]:
    inputs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page)
    return {name: unescape(value) for name, value in inputs}


def test_the_portal_in_python(documented: tuple[PortalHub, Path]) -> None:
    hub, _ = documented
    browser = hub.browser()
    page = browser.client.get("login").text
    assert "Sign in with Ocean Prize" in page
    to_portal = browser.client.get("portal/xprize/start?contest=ocean-2027&next=/hub/token")
    assert httpx.get(f"{to_portal.headers['Location'].split('?')[0]}?hub=x").status_code == 400
    form = httpx.get(to_portal.headers["Location"])
    assert form.status_code == 200, form.text
    action = re.search(r'action="([^"]+)"', form.text)
    assert action is not None
    # From another site, over http: no cookie comes with it, and the hub asks for one more click.
    more = httpx.post(action[1], data=fields(form.text))
    again = re.search(r'action="(/hub/portal[^"]+)"', more.text)
    assert again is not None
    done = browser.client.post(f"{hub.public_url.rstrip('/')}{again[1]}", data=fields(more.text))
    assert done.headers["Location"] == "/hub/token"
    assert hub.groups_of("ada") == ["ocean"]
    assert browser.status() == 200


def test_by_hand_with_curl(documented: tuple[PortalHub, Path]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("NOT PROVED: the page's curl lines (no curl here)")
    hub, folder = documented
    url = hub.public_url.rstrip("/")
    done = run(block("sh", "--revoke"), folder, HUB=url, KEY="portal.pem")
    first, second = done.stdout.splitlines()
    assert first == f"302 {url}/hub/spawn"
    assert second == '{"named": 1, "ended": 1}'
    assert hub.groups_of("person-8") == []
    assert not done.stderr
    assert not (folder / "jar").exists()


def test_short_names_are_of_sources() -> None:
    found = short_names()
    assert {"collab-portal", "collab-several"} <= set(found)
    for path in found.values():
        assert issubclass(import_item(path), TeamAuthenticator)
