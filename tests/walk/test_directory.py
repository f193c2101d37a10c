"""`up --auth ldap`: the sample with a real directory. People log in, and are what it makes them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from tests.walk.ground import running

HAS_SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/bin:/sbin:/bin") is not None


@pytest.mark.skipif(not HAS_SLAPD, reason="NOT PROVED: the demo with a directory (no slapd)")
def test_people_log_in_through_a_real_directory(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--auth=ldap") as run:
        accounts = json.loads((run.data / "demo-accounts.json").read_text())
        page, home = _log_in(run.url, "ada", accounts["ada"])
        assert "ocean" in page, "the page shows accounts, with the teams of the rosters"
        assert accounts["ada"] in page
        assert home.status_code == 200
        token = (run.data / "secrets/contests-token").read_text().strip()
        address, port = run.hub
        api = f"http://{address}:{port}/hub/api"
        headers = {"Authorization": f"token {token}"}
        groups = httpx.get(f"{api}/groups", headers=headers).json()
        users = {user for group in groups for user in group["users"]}
        assert users == {"ada"}, "nobody is there before they come"
        _, refused = _log_in(run.url, "joan", accounts["ada"])
        assert refused.status_code == 302, "back to the login page"
        _, host = _log_in(run.url, "host", accounts["host"], path="/hub/admin")
        assert host.status_code == 200, "the directory's group of hosts makes the admin"
        # By the address, not the name: nobody is let in under a name that somebody else chose.
        assert "Demo accounts" not in httpx.get(f"http://127.0.0.1:{_port(run.url)}/hub/login").text


def _port(url: str) -> str:
    return url.rsplit(":", 1)[1]


def _log_in(
    url: str, name: str, password: str, *, path: str = "/hub/home"
) -> tuple[str, httpx.Response]:
    """The login page, and a page of the hub after the form."""
    # The name resolves to this machine in browsers; here it is said by hand.
    host = url.split("://")[1]
    base = f"http://127.0.0.1:{_port(url)}"
    with httpx.Client(base_url=base, headers={"Host": host}, timeout=60) as client:
        page = client.get("/hub/login")
        cookies = dict(page.cookies.items())
        form = {"username": name, "password": password, "_xsrf": cookies["_xsrf"]}
        answer = client.post("/hub/login", data=form, headers=_cookie(cookies))
        cookies |= dict(answer.cookies.items())
        return page.text, client.get(path, headers=_cookie(cookies))


def _cookie(cookies: dict[str, str]) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items())}
