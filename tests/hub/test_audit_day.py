"""A user's whole day on a genuine hub, as the audit log is told of it."""

import json
import re

import pytest

from jupyterhub_collab import constants
from jupyterhub_collab.kube.kinds import POD
from tests.auth.conftest import RULES, Browser, person
from tests.hub.audit_service import LoggingService
from tests.hub.conftest import kube
from tests.hub.running import RunningHub
from tests.hub.samples import CONTEST, TEAM, platform

_PAPER = """
from tests.auth.paper_authenticator import PaperAuthenticator
c.JupyterHub.authenticator_class = PaperAuthenticator
c.PaperAuthenticator.file = {people!r}
c.TeamAuthenticator.rules_file = {rules!r}
c.TeamAuthenticator.watch_interval = 1.0
c.Authenticator.auth_refresh_age = 100000
c.Authenticator.refresh_pre_spawn = False
c.Authenticator.allow_all = False
c.JupyterHub.load_roles.append(
    {{"name": "user", "scopes": ["self", "shares!user", "read:users:name"]}})
c.JupyterHub.load_roles[0]["scopes"] += ["groups", "list:groups", "read:groups", "shares"]
"""
PASSWORD = "correct horse 4711"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    found = LoggingService(tmp_path_factory.mktemp("audit"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def hub(cluster, service, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audited-hub")
    (folder / "rules.yaml").write_text(RULES)
    write(folder, ada=person("1", "team-day", password=PASSWORD))
    settings = _PAPER.format(people=str(folder / "people.json"), rules=str(folder / "rules.yaml"))
    found = RunningHub(
        folder=folder,
        kubeconfig=cluster.paths.kubeconfig,
        platform=platform(hub_id="audited", namespace_prefix="audited-"),
        more=settings + service.settings(),
    )
    found.start()
    try:
        found.make_contest("sea", CONTEST)
        found.make_team("day", TEAM)
        found.provision("day")
        yield found
    finally:
        found.close()


def write(folder, **people):
    text = json.dumps({"people": people, "down": False})
    (folder / "people.json").write_text(text)


@pytest.fixture
def browser(hub):
    made = []

    def make():
        made.append(Browser(hub.api_url.removesuffix("/api")))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


def post(browser, path, **json_body):
    """As the hub's pages call its API."""
    headers = {"X-XSRFToken": browser.client.cookies["_xsrf"]}
    return browser.client.post(f"api/{path}", json=json_body, headers=headers)


def delete(browser, path):
    headers = {"X-XSRFToken": browser.client.cookies["_xsrf"]}
    return browser.client.delete(f"api/{path}", headers=headers)


def test_a_whole_day(hub, service, cluster, browser):
    people = {
        "ada": person("1", "team-day", password=PASSWORD),
        "root": person("2", "admins", password=PASSWORD),
        "bob": person("3", "team-day", password=PASSWORD),
    }
    write(hub.folder, **people)
    secrets = [PASSWORD, "wrong horse 0815", hub.token, hub.gateway_token, service.token]

    # The morning: a wrong password, under a name that there is not, then one that there is.
    ada = browser()
    assert ada.log_in("ada", "wrong horse 0815").status_code == 403
    failed = service.one("login", outcome="refused")
    assert "name" not in failed["subject"]
    assert failed["subject"]["address"] == "127.0.0.1"
    assert ada.log_in("ada", PASSWORD).status_code == 302
    login = service.one("login", outcome="succeeded")
    assert login["subject"] == {
        "name": "ada",
        "roles": ["member of team day"],
        "issuer": "paper",
        "subject": "1",
        "address": "127.0.0.1",
        "agent": login["subject"]["agent"],
    }
    assert "python-httpx" in login["subject"]["agent"]
    made = service.one("user.change", subject="ada", reason="created")
    gained = service.one("access.change", subject="ada", reason="gained")
    assert (gained["team"], gained["contest"]) == ("day", "sea")
    assert login["correlation"] == made["correlation"] == gained["correlation"]
    assert ada.log_in("ada", "wrong horse 0815").status_code == 403
    again = service.one("login", outcome="refused", subject="ada")
    assert again["correlation"] not in (failed["correlation"], login["correlation"])

    # She starts a server, and makes a token for a program.
    assert post(ada, "users/ada/server", team="day").status_code in (201, 202)
    hub.wait_ready("ada")
    allowed = service.one("server.start", outcome="allowed")
    started = service.one("server.start", outcome="succeeded")
    assert allowed["thing"] == started["thing"]
    assert allowed["correlation"] == started["correlation"]
    for event in (allowed, started):
        assert (event["team"], event["contest"]) == ("day", "sea")
        assert event["subject"]["name"] == "ada"
        assert event["subject"]["address"] == "127.0.0.1"
        assert "actor" not in event
        assert event["details"]["image"] == "registry.example.org/basic:1.0"
        assert event["details"]["profile"] == "small"
        assert event["details"]["team_volume"] == "read-write"
    (pod,) = kube(cluster, "list", POD, namespace="audited-day")
    annotations = pod["metadata"]["annotations"]
    assert annotations[constants.ANNOTATION_CORRELATION] == started["correlation"]
    assert annotations[constants.ANNOTATION_SERVER_ID] == started["thing"]
    token = post(ada, "users/ada/tokens", note="for my phone 555-1234").json()
    secrets.append(token["token"])
    told = service.one("token.create", kind="program", subject="ada")
    assert (told["thing"], told["subject"]["name"]) == (token["id"], "ada")
    assert "actor" not in told
    assert service.one("token.create", kind="server")["subject"]["name"] == "ada"

    # She shares it with bob, who comes and goes in; root goes in as an admin.
    bob, root = browser(), browser()
    assert bob.log_in("bob", PASSWORD).status_code == 302
    assert root.log_in("root", PASSWORD).status_code == 302
    admin = service.one("role.change", subject="root", role="admin")
    assert admin["reason"] == "gained"
    share = post(ada, "shares/ada/", user="bob")
    assert share.status_code == 200, share.text
    shared = service.one("share.create", subject="ada", recipient="bob")
    assert (shared["team"], shared["thing"]) == ("day", started["thing"])
    assert visit(bob).status_code in (200, 302)
    accept(bob)
    by_share = service.one("impersonate", reason="shared")
    assert by_share["subject"]["name"] == "ada"
    assert by_share["actor"]["name"] == "bob"
    assert by_share["actor"]["address"] == "127.0.0.1"
    assert by_share["thing"] == started["thing"]
    accept(root)
    by_admin = service.one("impersonate", reason="admin-access")
    assert (by_admin["subject"]["name"], by_admin["actor"]["name"]) == ("ada", "root")
    assert by_admin["actor"]["roles"] == ["admin of the hub"]
    assert by_admin["team"] == "day"

    # A stranger to her server is refused, and that is told too.
    hub.api("DELETE", "shares/ada/")
    unshared = service.one("share.delete", subject="ada", recipient="bob")
    assert unshared["actor"]["name"] == "admin"
    assert unshared["actor"]["roles"] == ["service of the hub"]
    assert visit(bob, force=True).status_code == 403
    refused = service.one("impersonate", outcome="refused")
    assert refused["actor"]["name"] == "bob"

    # The admin stops her server; she starts it anew, and stops it herself.
    assert delete(root, "users/ada/server").status_code in (202, 204)
    hub.wait_stopped("ada")
    stopped = service.one("server.stop")
    assert (stopped["reason"], stopped["thing"]) == ("asked-by-other", started["thing"])
    assert (stopped["subject"]["name"], stopped["actor"]["name"]) == ("ada", "root")
    gone = service.one("token.delete", kind="server")
    assert gone["correlation"] == stopped["correlation"]
    post(ada, "users/ada/server", team="day")
    hub.wait_ready("ada")
    delete(ada, "users/ada/server")
    hub.wait_stopped("ada")
    own = service.one("server.stop", reason="asked")
    assert "actor" not in own
    assert own["thing"] != started["thing"]

    # What she may not start, is told with the reason.
    answer = post(ada, "users/ada/server", team="nope")
    assert answer.status_code == 400
    refusal = service.one("server.start", outcome="refused")
    assert refusal["team"] == "nope"
    assert "member" in refusal["subject"]["note"]

    # She loses her team while her server runs.
    post(ada, "users/ada/server", team="day")
    hub.wait_ready("ada")
    write(hub.folder, **{**people, "ada": person("1", password=PASSWORD)})
    lost = service.one("access.change", subject="ada", reason="lost", team="day")
    assert lost["details"]["cause"] == "refresh"
    assert "actor" not in lost
    ended = service.one("server.stop", reason="access-lost")
    assert ended["subject"]["name"] == "ada"
    assert "actor" not in ended
    hub.wait_stopped("ada")
    assert service.one("logout", subject="ada", reason="all-sessions")

    # Bob goes home. The admin deletes ada.
    bob.client.get("logout")
    out = service.one("logout", subject="bob")
    assert out["subject"]["address"] == "127.0.0.1"
    assert delete(root, "users/ada").status_code == 204
    deleted = service.one("user.change", subject="ada", reason="deleted")
    assert deleted["actor"]["name"] == "root"

    check_all(service, hub, secrets)


def visit(browser, *, force=False):
    """What a browser does that is sent to log in at ada's server."""
    query = {
        "client_id": "jupyterhub-user-ada",
        "redirect_uri": "/user/ada/oauth_callback",
        "response_type": "code",
        "state": "x",
    }
    return browser.client.get("api/oauth2/authorize", params=query)


def accept(browser):
    """Says yes on the page that asks, if one does."""
    page = visit(browser)
    if page.status_code == 302:
        return
    assert page.status_code == 200, page.text
    scopes = re.findall(r'name="scopes"[^>]*value="([^"]+)"', page.text)
    form = {"scopes": scopes or ["access:servers!server=ada/"]}
    form["_xsrf"] = browser.client.cookies["_xsrf"]
    answer = browser.client.post("api/oauth2/authorize", params=dict(page.url.params), data=form)
    assert answer.status_code == 302, answer.text


def check_all(service, hub, secrets):
    """No secret anywhere, nothing twice, nothing of which nobody knows where it belongs."""
    text = json.dumps(service.events)
    state = (hub.folder / "cookie_secret").read_text().strip()
    for secret in (*secrets, state):
        assert secret not in text
    assert "555-1234" not in text
    public = json.dumps(
        [
            {k: v for k, v in e.items() if k not in ("subject", "actor", "recipient")}
            for e in service.events
        ]
    )
    for name in ("ada", "bob", "root", "127.0.0.1"):
        assert f'"{name}"' not in public
        assert f"={name}" not in public
        assert f"-{name}" not in public
    seen = set()
    for event in service.events:
        known = json.dumps({k: v for k, v in event.items() if k != "time"}, sort_keys=True)
        assert known not in seen, known
        seen.add(known)


def test_the_configuration_in_force_is_the_first(hub, service):
    configured = service.some("configuration.load")[0]
    assert configured["details"]["hub_version"]
    assert configured["details"]["authenticator"].endswith("PaperAuthenticator")
    assert len(configured["details"]["platform_sha256"]) == 64
    assert "sqlite" in configured["details"]["database"]
    assert str(hub.folder) not in json.dumps(configured)


def test_a_hub_that_was_killed_tells_the_end_of_what_it_had_started(hub, service, browser):
    write(hub.folder, eve=person("9", "team-day", password=PASSWORD))
    eve = browser()
    assert eve.log_in("eve", PASSWORD).status_code == 302
    post(eve, "users/eve/server", team="day")
    hub.wait_ready("eve")
    started = service.one("server.start", outcome="succeeded", subject="eve")
    hub.kill()
    hub.start()
    hub.wait_ready("eve")
    service.until(lambda: len(service.find("configuration.load")) == 2, "a second start")
    hub.stop_server("eve")
    hub.wait_stopped("eve")
    stopped = service.one("server.stop", subject="eve")
    assert stopped["thing"] == started["thing"]
    assert (stopped["reason"], stopped["actor"]["name"]) == ("asked-by-service", "admin")
    assert service.one("server.start", outcome="succeeded", subject="eve") == started


def test_no_hub_starts_unrecorded_and_an_end_is_told(hub, service):
    hub.stop()
    assert service.one("hub.stop")["reason"] == "stopped"
    spool = hub.folder / "no-folder"
    spool.write_text("in the way")
    more = hub.more
    hub.more += f"\nc.AuditSettings.spool = {str(spool)!r}\n"
    with pytest.raises(AssertionError, match="The hub does not start unrecorded"):
        hub.start()
    hub.more = more
    hub.start()
