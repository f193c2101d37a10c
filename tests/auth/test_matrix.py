"""Who may do what at the hub: every role against every resource, a status for each cell.

Roles are the product's: who is captain, judge, host or data steward has no more rights at the hub
than any member, for these are roles of ours and not JupyterHub's. `none` is somebody whom the hub's
own settings let in and who is in nothing; `river` is in another team than the rest. Pages are asked
for with a browser's cookie, the API with a token that may all that its owner may.

A cell says the status: 302 is the way to the login page, and 404 is also said of what there is and
may not be known. For starting a server it says `may` or `not`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.auth.conftest import Browser, person
from tests.hub.conftest import Embedded
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

ROLES = ("stranger", "none", "member", "captain", "judge", "host", "steward", "river", "admin")
_RULES = """
apiVersion: jupyterhub-collab.org/v1alpha1
kind: Entitlements
rules:
  - {issuer: paper, group: {like: "team-{team}"}, gives: {team: "{team}"}}
  - {issuer: paper, group: captains, gives: {team: ocean, role: captain}}
  - {issuer: paper, group: judges, gives: {contest: sea, role: judge}}
  - {issuer: paper, group: hosts, gives: {contest: sea, role: host}}
  - {issuer: paper, group: stewards, gives: {contest: sea, dataset: sst, role: data-steward}}
  - {issuer: paper, group: admins, gives: {role: admin}}
"""
_GROUPS = {
    "none": [],
    "member": ["team-ocean"],
    "captain": ["captains"],
    "judge": ["judges"],
    "host": ["hosts"],
    "steward": ["stewards"],
    "river": ["team-river"],
    "admin": ["admins"],
    "tara": ["team-ocean"],  # to whom it is done
}
_SETTINGS = """
from tests.auth.paper_authenticator import PaperAuthenticator
c.JupyterHub.authenticator_class = PaperAuthenticator
c.PaperAuthenticator.file = {people!r}
c.TeamAuthenticator.rules_file = {rules!r}
c.Authenticator.allow_all = False
c.Authenticator.allowed_users = {{"none"}}
"""
_DATASET = {"title": "S", "size": "1Gi", "nfs": {"server": "nfs.example.org", "path": "/s"}}


class Actor:
    """Somebody with a browser and a token; the stranger has neither."""

    def __init__(self, hub: RunningHub, name: str) -> None:
        self.hub, self.name = hub, name
        self.browser = Browser(hub.api_url.removesuffix("/api"))
        self.token = ""
        self.log_in()

    def log_in(self) -> None:
        if self.name != "stranger":
            assert self.browser.log_in(self.name).status_code == 302
            made = self.hub.api("POST", f"users/{self.name}/tokens", json={})
            self.token = made.json()["token"]

    def api(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """By the token alone: a browser's cookie would be looked at as well."""
        headers = {"Authorization": f"token {self.token}"} if self.token else {}
        url = f"{self.hub.api_url}/{path.format(me=self.name)}"
        return httpx.request(method, url, headers=headers, json=body, timeout=60, verify=False)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    cluster = Embedded(tmp_path_factory.mktemp("embedded"))
    cluster.start_api()
    folder = tmp_path_factory.mktemp("matrix")
    people = {n: person(f"s-{n}", *groups) for n, groups in _GROUPS.items()}
    (folder / "people.json").write_text(json.dumps({"people": people}))
    (folder / "rules.yaml").write_text(_RULES)
    settings = _SETTINGS.format(
        people=str(folder / "people.json"), rules=str(folder / "rules.yaml")
    )
    hub = RunningHub(
        folder=folder,
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="matrix", namespace_prefix="matrix-"),
        readiness_timeout_s=1,
        more=settings,
    )
    hub.start()
    hub.make_contest("sea", {**CONTEST, "datasets": {"sst": _DATASET}})
    for team in ("ocean", "river"):
        hub.make_team(team, TEAM)
    yield hub
    hub.close()
    cluster.stop()


@pytest.fixture(scope="module")
def actors(hub: RunningHub) -> Iterator[dict[str, Actor]]:
    made = {name: Actor(hub, name) for name in (*ROLES, "tara")}  # tara is a user from now on
    yield made
    for actor in made.values():
        actor.browser.client.close()


Try = Callable[[Actor], "int | str"]


def do(method: str, path: str, body: Any = None) -> Try:
    return lambda actor: actor.api(method, path, body).status_code


def page(path: str) -> Try:
    return lambda actor: actor.browser.status(path)


def spawn(team: str) -> Try:
    """`may`: all that is in the way is that the team has no space on this cluster."""

    def attempt(actor: Actor) -> str:
        answer = actor.api("POST", "users/{me}/servers/x", {"team": team})
        return _to_word(answer.status_code, answer.text)

    return attempt


def spawn_by_form(team: str) -> Try:
    def attempt(actor: Actor) -> str:
        client = actor.browser.client
        client.get("home")
        form = {"team": team, "_xsrf": client.cookies.get("_xsrf") or ""}
        answer = client.post("spawn", data=form)
        is_started = "/hub/spawn-pending/" in answer.headers.get("Location", "")
        return "may" if is_started else _to_word(answer.status_code, answer.text)

    return attempt


def _to_word(status: int, said: str) -> str:
    if status == 400 and ("You are not a member of a team" in said or "in no team" in said):
        return "not"
    if status == 503 and "not ready" in said:
        return "may"
    return f"{status}: {said[-300:]}" if status != 403 else "403"


def with_spare(method: str, path: str, body: Any = None) -> Try:
    """Of a user and a group that are there, and nobody's."""

    def attempt(actor: Actor) -> int:
        for spare in ("users/spare", "groups/spare"):
            assert actor.hub.api("POST", spare, json={}).status_code in (201, 409)
        return actor.api(method, path, body).status_code

    return attempt


def share(actor: Actor) -> int:
    """Of a server of tara's that there is."""
    actor.hub.spawn("tara", "x", team="ocean")
    return actor.api("POST", "shares/tara/x", {"user": "river"}).status_code


def log_out_self(actor: Actor) -> int:
    answer = actor.api("POST", "collab/logout", {})
    if actor.name != "stranger":
        assert actor.browser.status() == 302, "the session is over"
        assert actor.api("GET", "user").status_code == 403, "and so is the token"
        actor.log_in()
    return answer.status_code


TRIES: dict[str, Try] = {
    "page home": page("home"),
    "page access": page("access"),
    "page token": page("token"),
    "page admin": page("admin"),
    "page metrics": page("metrics"),
    "page spawn": page("spawn"),
    "page of tara's spawn": page("spawn/tara"),
    "page of tara's server": page("user/tara/"),
    "spawn ocean, form": spawn_by_form("ocean"),
    "spawn river, form": spawn_by_form("river"),
    "spawn ocean": spawn("ocean"),
    "spawn river": spawn("river"),
    "spawn nowhere": spawn("nowhere"),
    "spawn as tara": do("POST", "users/tara/servers/y", {"team": "river"}),
    "stop tara's server": do("DELETE", "users/tara/server"),
    "who am I": do("GET", "user"),
    "read self": do("GET", "users/{me}"),
    "read tara": do("GET", "users/tara"),
    "list users": do("GET", "users"),
    "make a user": do("POST", "users/made-by-{me}"),
    "delete a user": with_spare("DELETE", "users/spare"),
    "make self admin": do("PATCH", "users/{me}", {"admin": True}),
    "list groups": do("GET", "groups"),
    "read own group": do("GET", "groups/ocean"),
    "make a group": do("POST", "groups/made-by-{me}"),
    "write properties": with_spare("PUT", "groups/spare/properties", {}),
    "join a group": with_spare("POST", "groups/spare/users", {"users": ["spare"]}),
    "leave a group": with_spare("DELETE", "groups/spare/users", {"users": ["spare"]}),
    "delete a group": with_spare("DELETE", "groups/spare"),
    "who decides": do("GET", "collab/membership"),
    "project rosters": do("POST", "collab/membership", {"teams": ["ocean"]}),
    "standing of self": do("GET", "collab/membership/{me}"),
    "standing of tara": do("GET", "collab/membership/tara"),
    "standing of nobody": do("GET", "collab/membership/nobody"),
    "log out self": log_out_self,
    "log out tara": do("POST", "collab/logout", {"name": "tara"}),
    "tokens of self": do("GET", "users/{me}/tokens"),
    "tokens of tara": do("GET", "users/tara/tokens"),
    "make tara a token": do("POST", "users/tara/tokens", {}),
    "shares of self": do("GET", "shares/{me}"),
    "shares of tara": do("GET", "shares/tara"),
    "shared with tara": do("GET", "users/tara/shared"),
    "share tara's server": share,
    "share codes of tara": do("GET", "share-codes/tara/x"),
    "introspect": do("POST", "collab/introspect", {"token": "x"}),
    "strays": do("GET", "collab/strays"),
    "adopt": do("POST", "collab/adopt", {}),
    "jwks": do("GET", "collab/jwks"),
    "services": do("GET", "services"),
    "proxy": do("GET", "proxy"),
    "shutdown": do("POST", "shutdown", {"proxy": "nonsense"}),
}

EXPECTED = """
                       stranger none     member   captain  judge    host     steward  river    admin
page home              302      200      200      200      200      200      200      200      200
page access            302      200      200      200      200      200      200      200      200
page token             302      200      200      200      200      200      200      200      200
page admin             302      403      403      403      403      403      403      403      200
page metrics           403      403      403      403      403      403      403      403      200
page spawn             302      200      200      200      200      200      200      200      200
page of tara's spawn   302      404      404      404      404      404      404      404      200
page of tara's server  302      404      404      404      404      404      404      404      424
spawn ocean, form      403      not      may      may      not      not      not      not      not
spawn river, form      403      not      not      not      not      not      not      may      not
spawn ocean            403      not      may      may      not      not      not      not      not
spawn river            403      not      not      not      not      not      not      may      not
spawn nowhere          403      not      not      not      not      not      not      not      not
spawn as tara          403      404      404      404      404      404      404      404      400
stop tara's server     403      404      404      404      404      404      404      404      204
who am I               403      200      200      200      200      200      200      200      200
read self              403      200      200      200      200      200      200      200      200
read tara              403      404      404      404      404      404      404      404      200
list users             403      403      403      403      403      403      403      403      200
make a user            403      403      403      403      403      403      403      403      201
delete a user          403      403      403      403      403      403      403      403      204
make self admin        403      403      403      403      403      403      403      403      200
list groups            403      403      403      403      403      403      403      403      200
read own group         403      403      403      403      403      403      403      403      200
make a group           403      403      403      403      403      403      403      403      201
write properties       403      403      403      403      403      403      403      403      200
join a group           403      403      403      403      403      403      403      403      200
leave a group          403      403      403      403      403      403      403      403      200
delete a group         403      403      403      403      403      403      403      403      204
who decides            403      403      403      403      403      403      403      403      200
project rosters        403      403      403      403      403      403      403      403      204
standing of self       403      200      200      200      200      200      200      200      200
standing of tara       403      404      404      404      404      404      404      404      200
standing of nobody     403      404      404      404      404      404      404      404      404
log out self           403      204      204      204      204      204      204      204      204
log out tara           403      403      403      403      403      403      403      403      204
tokens of self         403      200      200      200      200      200      200      200      200
tokens of tara         403      404      404      404      404      404      404      404      200
make tara a token      403      403      403      403      403      403      403      403      201
shares of self         403      200      200      200      200      200      200      200      200
shares of tara         403      404      404      404      404      404      404      404      200
shared with tara       403      404      404      404      404      404      404      404      200
share tara's server    403      403      403      403      403      403      403      403      200
share codes of tara    403      404      404      404      404      404      404      404      200
introspect             403      403      403      403      403      403      403      403      403
strays                 403      403      403      403      403      403      403      403      200
adopt                  403      403      403      403      403      403      403      403      400
jwks                   200      200      200      200      200      200      200      200      200
services               403      403      403      403      403      403      403      403      200
proxy                  403      403      403      403      403      403      403      403      200
shutdown               403      403      403      403      403      403      403      403      400
"""


def read_expected() -> dict[str, dict[str, str]]:
    head, *lines = EXPECTED.strip("\n").splitlines()
    width = len(max(TRIES, key=len)) + 2
    assert tuple(head.split()) == ROLES
    return {
        line[:width].strip(): dict(zip(ROLES, line[width:].split(), strict=True)) for line in lines
    }


CELLS = read_expected()


def test_every_try_has_its_row() -> None:
    assert list(CELLS) == list(TRIES)


@pytest.mark.parametrize("name", TRIES)
def test_who_may(name: str, actors: dict[str, Actor]) -> None:
    found = {role: str(TRIES[name](actors[role])) for role in ROLES}
    assert found == CELLS[name]
