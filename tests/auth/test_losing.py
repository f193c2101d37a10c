"""What a member loses with a team, with servers that run: on the embedded cluster, a real hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.auth.conftest import Browser, person
from tests.auth.test_team_authenticator import until
from tests.hub.conftest import Embedded
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

_SETTINGS = """
from tests.auth.paper_authenticator import PaperAuthenticator
c.JupyterHub.authenticator_class = PaperAuthenticator
c.PaperAuthenticator.file = {people!r}
c.TeamAuthenticator.rules_file = {rules!r}
c.TeamAuthenticator.watch_interval = 1
c.TeamAuthenticator.max_staleness = {max_staleness}
c.TeamAuthenticator.close_when_stale = "all"
c.Authenticator.auth_refresh_age = 1
c.Authenticator.allow_all = False
c.Spawner.poll_interval = 3600  # the watcher alone ends servers here
c.JupyterHub.load_roles = [
    *c.JupyterHub.load_roles,
    {{"name": "more", "services": ["admin"], "scopes": ["shares", "read:shares", "read:metrics"]}},
]
"""
_RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - issuer: paper
    group: {like: "team-{team}"}
    gives: {team: "{team}"}
"""
MAX_STALENESS_S = 3


class Ground:
    """A hub, and the paper its people are on."""

    def __init__(self, hub: RunningHub) -> None:
        self.hub = hub
        self.people: dict[str, Any] = {}

    def write(self, *, down: bool = False, **people: Any) -> None:
        self.people |= people
        known = {name: said for name, said in self.people.items() if said is not None}
        text = json.dumps({"people": known, "down": down})
        (self.hub.folder / "people.json").write_text(text)

    def log_in(self, name: str) -> Browser:
        browser = Browser(self.hub.api_url.removesuffix("/api"))
        assert browser.log_in(name).status_code == 302
        return browser

    def start(self, name: str, team: str, server: str = "") -> str:
        """Start a server; its pod's server credential."""
        answer = self.hub.spawn(name, server, team=team)
        assert answer.status_code in (201, 202), answer.text
        self.hub.wait_ready(name, server)
        return str(answer.status_code)

    def is_running(self, name: str, server: str = "") -> bool:
        found = self.hub.server(name, server)
        return bool(found.get("ready") or found.get("pending"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    found = Embedded(tmp_path_factory.mktemp("embedded"))
    found.start_api()
    found.start_node()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def ground(cluster: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder: Path = tmp_path_factory.mktemp("losing")
    (folder / "rules.yaml").write_text(_RULES)
    settings = _SETTINGS.format(
        people=str(folder / "people.json"),
        rules=str(folder / "rules.yaml"),
        max_staleness=MAX_STALENESS_S,
    )
    hub = RunningHub(
        folder=folder,
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="losing", namespace_prefix="losing-"),
        more=settings,
    )
    made = Ground(hub)
    made.write()
    hub.start()
    try:
        hub.make_contest("sea", CONTEST)
        for team in ("ocean", "reef"):
            hub.make_team(team, TEAM)
            hub.provision(team)
        yield made
    finally:
        hub.close()


def test_a_team_lost_takes_its_servers_and_shares_and_no_others(ground: Ground) -> None:
    both = ("team-ocean", "team-reef")
    ground.write(ada=person("1", *both), bob=person("2", *both))
    browsers = [ground.log_in("ada"), ground.log_in("bob")]
    ground.start("ada", "ocean", "sea")
    ground.start("ada", "reef", "corals")
    ground.start("bob", "ocean")
    share = {"user": "bob"}
    for server in ("sea", "corals"):
        assert ground.hub.api("POST", f"shares/ada/{server}", json=share).status_code == 200
    assert ground.hub.api("POST", "shares/bob/", json={"user": "ada"}).status_code == 200

    ground.write(ada=person("1", "team-reef"))
    until(lambda: not ground.is_running("ada", "sea"))
    assert ground.is_running("ada", "corals")
    assert ground.is_running("bob")
    shared = ground.hub.api("GET", "shares/ada").json()["items"]
    assert {s["server"]["name"] for s in shared} == {"corals"}
    assert ground.hub.api("GET", "shares/bob").json()["items"] == []
    # What is left works on, and the lost team is refused.
    refused = ground.hub.spawn("ada", "again", team="ocean")
    assert refused.status_code in (400, 403), refused.text
    assert all(browser.status() == 200 for browser in browsers)
    for browser in browsers:
        browser.client.close()
    for name, server in (("ada", "corals"), ("bob", "")):
        ground.hub.stop_server(name, server)
        ground.hub.wait_stopped(name, server)


def test_a_share_never_leads_out_of_a_team(ground: Ground) -> None:
    """JupyterHub lets members share a server with anybody."""
    ground.write(fay=person("6", "team-ocean"), gus=person("7", "team-reef"))
    browsers = [ground.log_in("fay"), ground.log_in("gus")]
    ground.start("fay", "ocean")
    assert ground.hub.api("POST", "shares/fay/", json={"user": "gus"}).status_code == 200
    until(lambda: ground.hub.api("GET", "shares/fay").json()["items"] == [])
    assert ground.is_running("fay")
    for browser in browsers:
        browser.client.close()
    ground.hub.stop_server("fay")
    ground.hub.wait_stopped("fay")


def test_who_is_gone_from_the_source_is_gone_from_here(ground: Ground) -> None:
    ground.write(cora=person("3", "team-ocean"))
    browser = ground.log_in("cora")
    ground.start("cora", "ocean")
    token = ground.hub.api("POST", "users/cora/tokens", json={}).json()["token"]
    ground.write(cora=None)
    until(lambda: not ground.is_running("cora"))
    assert ground.hub.api("GET", "user", token=token).status_code == 403
    assert browser.status() == 302
    assert ground.hub.api("GET", "users/cora").json()["groups"] == []
    assert ground.hub.api("GET", "users/cora/tokens").json()["api_tokens"] == []
    browser.client.close()


def test_an_outage_closes_those_without_a_server_too(ground: Ground) -> None:
    ground.write(gwen=person("8", "team-ocean"))
    browser = ground.log_in("gwen")
    ground.write(down=True)
    until(lambda: "Protected access of" in ground.hub.log)

    def is_refused() -> bool:
        return "could not be asked for too long" in ground.hub.spawn("gwen", team="ocean").text

    until(is_refused)
    assert browser.status() == 200
    ground.write()
    assert ground.log_in("gwen").client.close() is None
    answer = ground.hub.spawn("gwen", team="ocean")
    assert answer.status_code in (201, 202), "a log-in opens at once"
    ground.hub.wait_ready("gwen")
    ground.hub.stop_server("gwen")
    ground.hub.wait_stopped("gwen")
    browser.client.close()


def test_a_lasting_outage_closes_and_opens_again(ground: Ground) -> None:
    ground.write(dora=person("4", "team-ocean"))
    browser = ground.log_in("dora")
    ground.start("dora", "ocean")
    ground.write(down=True)
    until(lambda: not ground.is_running("dora"), timeout_s=MAX_STALENESS_S + 12)
    assert ground.hub.api("GET", "users/dora").json()["groups"] == ["ocean"], "no loss"
    assert browser.status() == 200
    refused = ground.hub.spawn("dora", team="ocean")
    assert "could not be asked for too long" in refused.text
    metrics = ground.hub.api("GET", "../metrics").text
    assert 'collab_source_up{source="paper"} 0.0' in metrics
    assert "collab_source_staleness_seconds" in metrics
    ground.write()
    until(lambda: ground.hub.spawn("dora", team="ocean").status_code in (201, 202))
    ground.hub.wait_ready("dora")
    ground.hub.stop_server("dora")
    ground.hub.wait_stopped("dora")
    browser.client.close()


def test_what_a_killed_hub_left_half_done_is_finished(ground: Ground) -> None:
    ground.write(emma=person("5", "team-ocean", "team-reef"))
    browser = ground.log_in("emma")
    browser.client.close()
    ground.start("emma", "ocean")
    ground.hub.kill()
    ground.write(emma=person("5", "team-reef"))
    ground.hub.start()
    until(lambda: not ground.is_running("emma"), timeout_s=30)
    assert ground.hub.api("GET", "users/emma").json()["groups"] == ["reef"]
