"""Several sources at one hub. Each test that begins with `test_absent_` shows that a weakness of
the field's usual way to combine authenticators is not here: its name says which.

1. One name at two directories is one account. 2. Refreshing is not delegated, so nobody ever loses
anything. 3. Handlers collide, or one source's handler uses another's settings. 4. Allowed, blocked
and admin users of one source leak to another, or the hub's own do not count. 5. Logging out is not
delegated. 6. Labels go into the page unescaped. 7. What a source keeps of a session is lost.
8. A name under another source's prefix can be had.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.auth.conftest import person
from tests.auth.several import SeveralHub, log_in
from tests.auth.test_portal import SCOPES, has_session, prepare, until


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeveralHub]:
    hub = SeveralHub(
        folder=tmp_path_factory.mktemp("several"),
        scopes=SCOPES,
        genoa='admin_users={"eve", "j-eve"}, allowed_users={"flo", "j-flo"}, '
        'blocked_users={"gus", "j-gus"}, ',
        sources_more='c.SeveralAuthenticators.blocked_users = {"j-mal", "p-mal", "mal"}\n'
        'c.SeveralAuthenticators.admin_users = {"j-root"}\n',
    )
    hub.start()
    prepare(hub)
    yield hub
    hub.kill()


def test_one_page_for_all(several: SeveralHub) -> None:
    page = several.browser().client.get("login", params={"next": "/hub/token?a=b"}).text
    assert '<option value="genoa">University of Genoa</option>' in page
    assert "Sign in with Ocean Prize" in page
    assert "/hub/portal/xprize/start?next=%2Fhub%2Ftoken%3Fa%3Db" in page
    assert page.count("<h1>") == 1


def test_each_source_lets_its_own_people_in(several: SeveralHub) -> None:
    several.write_people("genoa", {"ada": person("1", "team-ocean")})
    several.write_people("jena", {"bob": person("1", "team-river", password="other")})
    assert log_in(several.browser(), "genoa", "ada").status_code == 302
    assert log_in(several.browser(), "jena", "bob", "other").status_code == 302
    assert several.person().log_in("1", "team-ocean").status_code == 302
    for name, source, team in (
        ("ada", "genoa", "ocean"),
        ("j-bob", "jena", "river"),
        ("p-1", "xprize", "ocean"),
    ):
        assert several.groups_of(name) == [team]
        assert several.api("GET", f"collab/membership/{name}").json()["issuer"] == source
    said = several.api("GET", "collab/membership").json()
    assert said["sources"] == ["genoa", "jena", "xprize"]


@pytest.mark.parametrize("source", [None, "", "nowhere", "xprize", "several", "Genoa"])
def test_no_source_is_guessed(several: SeveralHub, source: str | None) -> None:
    several.write_people("genoa", {"ada": person("1", "team-ocean")})
    answer = log_in(several.browser(), source, "ada")
    assert answer.status_code == 400
    assert "Choose your institution" in answer.text
    assert not has_session(answer)


def test_a_wrong_password_is_told_and_the_choice_is_kept(several: SeveralHub) -> None:
    several.write_people("jena", {"bob": person("1", "team-river", password="other")})
    answer = log_in(several.browser(), "jena", "bob", "wrong")
    assert answer.status_code == 403
    assert "Invalid username or password" in answer.text
    assert '<option value="jena" selected>' in answer.text


@pytest.mark.parametrize("missing", ["username", "password"])
def test_half_a_form_is_no_error_of_the_hub(several: SeveralHub, missing: str) -> None:
    client = several.browser().client
    client.get("login")
    form = {"username": "a", "password": "b", "source": "genoa", "_xsrf": client.cookies["_xsrf"]}
    del form[missing]
    assert client.post("login", data=form).status_code == 400


def test_a_token_for_a_name_and_password_through_the_api(several: SeveralHub) -> None:
    several.write_people("jena", {"api": person("40", "team-river")})
    auth = {"username": "api", "password": "pw", "source": "jena"}
    url = f"{several.api_url}/users/j-api/tokens"
    assert log_in(several.browser(), "jena", "api").status_code == 302
    assert httpx.post(url, json={"auth": auth}).status_code == 201
    wrong = httpx.post(url, json={"auth": {**auth, "password": "no"}})
    assert wrong.status_code == 403
    assert httpx.post(url, json={"auth": {**auth, "source": "genoa"}}).status_code == 403


# -- absent weaknesses ----------------------------------------------------------------------------


def test_absent_1_one_name_at_two_directories_is_one_account(several: SeveralHub) -> None:
    several.write_people("genoa", {"sam": person("2", "team-ocean")})
    several.write_people("jena", {"sam": person("2", "team-river")})
    assert log_in(several.browser(), "genoa", "sam").status_code == 302
    assert log_in(several.browser(), "jena", "sam").status_code == 302
    assert several.person().log_in("2", username="sam").status_code == 403  # in no team
    assert several.groups_of("sam") == ["ocean"]
    assert several.groups_of("j-sam") == ["river"]


def test_absent_2_refreshing_is_not_delegated(several: SeveralHub) -> None:
    several.write_people("genoa", {"tom": person("3", "team-ocean", "team-river")})
    several.write_people("jena", {"tom": person("3", "team-ocean")})
    here, there = several.browser(), several.browser()
    assert log_in(here, "genoa", "tom").status_code == 302
    assert log_in(there, "jena", "tom").status_code == 302
    # The one directory takes a team away, the other is down: each is asked about its own.
    several.write_people("genoa", {"tom": person("3", "team-river")})
    several.write_people("jena", {}, down=True)
    until(lambda: (here.status(), several.groups_of("tom"))[1] == ["river"])
    assert there.status() == 200
    assert several.groups_of("j-tom") == ["ocean"]
    several.write_people("jena", {})
    until(lambda: (there.status(), several.groups_of("j-tom"))[1] == [])
    until(lambda: there.status() == 302)
    assert here.status() == 200


def test_absent_2b_a_page_of_one_source_refreshes_by_another(several: SeveralHub) -> None:
    several.write_people("genoa", {"uma": person("4", "team-ocean", "team-river")})
    browser = several.browser()
    assert log_in(browser, "genoa", "uma").status_code == 302
    several.write_people("genoa", {"uma": person("4", "team-river")})

    def visit() -> bool:
        browser.client.get("portal/xprize/start", params={"contest": "sea"})
        return several.groups_of("uma") == ["river"]

    until(visit)
    assert browser.status() == 200


def test_absent_3_handlers_collide(tmp_path: Path) -> None:
    twice = """
c.SeveralAuthenticators.authenticators = [portal,
    {"class": PortalAuthenticator, "config": {"name": "second", "name_prefix": "s-", "slug": %s}}]
"""
    hub = SeveralHub(folder=tmp_path / "same", sources_more=twice % '"xprize"')
    with pytest.raises(AssertionError, match="did not start"):
        hub.start()
    assert "'xprize' and 'second' both want the address /portal/xprize/start" in hub.log


def test_absent_3b_a_handler_uses_another_sources_settings(tmp_path: Path) -> None:
    two = """
c.SeveralAuthenticators.authenticators = [portal,
    {"class": PortalAuthenticator, "config": {
        "name": "second", "name_prefix": "s-", "portal_issuer": "https://second.example.org",
        "portal_login_url": "https://second.example.org/in", "contests": ["lake"]}}]
"""
    hub = SeveralHub(folder=tmp_path / "two", scopes=SCOPES, sources_more=two)
    try:
        hub.start()
        prepare(hub)
        client = hub.browser().client
        to = client.get("portal/second/start").headers["Location"]
        assert to.startswith("https://second.example.org/in?")
        assert client.get("portal/second/start?contest=sea").status_code == 404
        one = hub.person()
        started = one.start()
        assert started.url.startswith("https://portal.example.org/login")
        # What the one portal signs is nothing at the other's address, though the keys are the same.
        token = hub.sign_in(started, "1", "team-ocean")
        form = {"token": token, "state": started.state, "again": "yes"}
        assert one.client.post("portal/second/callback", data=form).status_code == 403
        assert one.post(token, started.state).status_code == 302
        # Nor is a revocation by the one of the other's people.
        url = f"{hub.api_url}/collab/portal/second/revocations"
        revocation = hub.revocation("1", issuer="https://second.example.org")
        assert httpx.post(url, json={"token": revocation}).json() == {"named": 1, "ended": 0}
        assert one.status() == 200
    finally:
        hub.kill()


def test_absent_4_settings_of_one_source_leak(several: SeveralHub) -> None:
    """Genoa names hub users of its own and of Jena's: those of Jena's are none of its business."""
    for source in ("genoa", "jena"):
        people = {
            "eve": person("5", "team-ocean"),
            "flo": person("6"),
            "gus": person("7", "team-ocean"),
        }
        several.write_people(source, people)
    browsers = {s: several.browser() for s in ("genoa", "jena")}
    assert log_in(browsers["genoa"], "genoa", "eve").status_code == 302
    assert log_in(browsers["jena"], "jena", "eve").status_code == 302
    assert several.api("GET", "users/eve").json()["admin"] is True
    assert several.api("GET", "users/j-eve").json()["admin"] is False
    assert log_in(several.browser(), "genoa", "flo").status_code == 302  # allowed_users
    assert log_in(several.browser(), "jena", "flo").status_code == 403
    assert log_in(several.browser(), "genoa", "gus").status_code == 403  # blocked_users
    assert log_in(several.browser(), "jena", "gus").status_code == 302


def test_absent_4b_the_hubs_own_settings_do_not_count(several: SeveralHub) -> None:
    for source in ("genoa", "jena"):
        people = {"mal": person("8", "team-ocean"), "root": person("9", "team-ocean")}
        several.write_people(source, people)
        assert log_in(several.browser(), source, "mal").status_code == 403
        assert log_in(several.browser(), source, "root").status_code == 302
    assert several.person().log_in("8", "team-ocean", username="mal").status_code == 403
    assert several.api("GET", "users/root").json()["admin"] is False
    assert several.api("GET", "users/j-root").json()["admin"] is True


def test_absent_5_logging_out_is_not_delegated(several: SeveralHub) -> None:
    several.write_people("genoa", {"vic": person("10", "team-ocean")})
    several.write_people("jena", {"vic": person("10", "team-ocean")})
    for source, to in (("genoa", "https://sso.genoa.example.org/bye"), ("jena", "/hub/login")):
        browser = several.browser()
        assert log_in(browser, source, "vic").status_code == 302
        answer = browser.client.get("logout")
        assert answer.headers["Location"] == to
        assert browser.status() == 302
    assert several.browser().client.get("logout").headers["Location"] == "/hub/login"


def test_absent_6_labels_are_not_escaped(several: SeveralHub) -> None:
    page = several.browser().client.get("login", params={"source": '"><script>x'}).text
    assert "Universität &lt;Jena&gt;" in page
    assert '"><script>x' not in page


def test_absent_8_a_name_under_anothers_prefix_can_be_had(several: SeveralHub) -> None:
    several.write_people("genoa", {"j-zoe": person("11", "team-ocean")})
    several.write_people("jena", {"zoe": person("11", "team-river")})
    assert log_in(several.browser(), "genoa", "j-zoe").status_code == 403
    assert log_in(several.browser(), "jena", "zoe").status_code == 302
    assert several.groups_of("j-zoe") == ["river"]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ('[paper("genoa"), paper("genoa", name_prefix="x-")]', "called 'genoa'"),
        ('[paper("genoa"), paper("jena")]', "name_prefix ''"),
        ('[paper("a", name_prefix="J-"), paper("b", name_prefix="j-")]', "name_prefix 'j-'"),
        ('[paper("a", name_prefix="j-"), paper("b", name_prefix="j-x-")]', "begin alike"),
        ("[]", "at least one source"),
        ('[{"class": "collab-nothing"}]', "collab-nothing"),
        ('[{"class": "jupyterhub.auth.DummyAuthenticator"}]', "no source of this project"),
        ('[{"class": SeveralAuthenticators}]', "no source of this project"),
        ('[{"klass": PortalAuthenticator}]', "needs class"),
        ('[paper("a", fil="x")]', "has no setting 'fil'"),
        ('[paper("a", rules_file="x")]', "rules_file is one for the whole hub"),
    ],
)
def test_sources_that_cannot_be_told_apart_are_refused_at_the_start(
    tmp_path: Path, sources: str, words: str
) -> None:
    from traitlets.config import Config

    from jupyterhub_collab.hub.auth.portal import PortalAuthenticator
    from jupyterhub_collab.hub.auth.several import SeveralAuthenticators

    def paper(name: str, **more: str) -> dict[str, object]:
        kind = "tests.auth.paper_authenticator.PaperAuthenticator"
        return {"class": kind, "config": {"paper_name": name, **more}}

    known = {
        "paper": paper,
        "PortalAuthenticator": PortalAuthenticator,
        "SeveralAuthenticators": SeveralAuthenticators,
    }
    from traitlets import TraitError

    config = Config()
    config.SeveralAuthenticators.authenticators = eval(sources, known)
    with pytest.raises(TraitError, match=words):
        SeveralAuthenticators(config=config)


def test_what_a_source_keeps_of_a_session_is_kept(tmp_path: Path) -> None:
    """7. The hub keeps auth_state as soon as one source does."""
    from traitlets.config import Config

    from jupyterhub_collab.hub.auth.several import SeveralAuthenticators

    kind = "tests.auth.paper_authenticator.PaperAuthenticator"
    for keeps in (False, True):
        entries = [
            {"class": kind, "config": {"paper_name": "a"}},
            {"class": kind, "config": {"paper_name": "b", "name_prefix": "b-"}},
        ]
        entries[1]["config"]["enable_auth_state"] = keeps  # type: ignore[index]
        config = Config()
        config.SeveralAuthenticators.authenticators = entries
        assert SeveralAuthenticators(config=config).enable_auth_state is keeps


# -- linking --------------------------------------------------------------------------------------


def identity(source: str, subject: str) -> dict[str, str]:
    return {"issuer": source, "subject": subject}


def test_two_accounts_are_one_person_where_an_admin_says_so(several: SeveralHub) -> None:
    several.write_people("genoa", {"lia": person("20", "team-ocean")})
    assert log_in(several.browser(), "genoa", "lia").status_code == 302
    link = {"name": "lia", **identity("xprize", "lia@portal")}
    for status in (201, 200):
        answer = several.api("POST", "collab/identities", json=link)
        assert answer.status_code == status
    both = [identity("genoa", "20"), identity("xprize", "lia@portal")]
    assert several.api("GET", "collab/identities?name=lia").json()["identities"] == both
    there = several.person()
    assert there.log_in("lia@portal", "team-river", username="other").status_code == 302
    assert several.groups_of("lia") == ["river"]  # the whole of it: by whoever let them in last
    assert several.api("GET", "users/p-other").status_code == 404
    # It is somebody now, and cannot be somebody else too.
    several.write_people("jena", {"max": person("21", "team-ocean")})
    assert log_in(several.browser(), "jena", "max").status_code == 302
    taken = {**link, "name": "j-max"}
    assert several.api("POST", "collab/identities", json=taken).status_code == 409
    # Away again, and what was had by it.
    answer = several.api("DELETE", "collab/identities", json=identity("xprize", "lia@portal"))
    assert answer.status_code == 204
    assert there.status() == 302
    assert several.groups_of("lia") == []
    answer = several.api("DELETE", "collab/identities", json=identity("xprize", "lia@portal"))
    assert answer.status_code == 404
    assert log_in(several.browser(), "genoa", "lia").status_code == 302
    assert several.groups_of("lia") == ["ocean"]


def test_an_identity_can_be_linked_before_anybody_came(several: SeveralHub) -> None:
    assert several.api("POST", "users/nia").status_code == 201
    link = {"name": "nia", **identity("jena", "22")}
    assert several.api("POST", "collab/identities", json=link).status_code == 201
    several.write_people("jena", {"somebody": person("22", "team-ocean")})
    assert log_in(several.browser(), "jena", "somebody").status_code == 302
    assert several.groups_of("nia") == ["ocean"]
    several.write_people("genoa", {"nia": person("23", "team-ocean")})
    assert log_in(several.browser(), "genoa", "nia").status_code == 403


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 404),
        ({"name": "nobody-here", "issuer": "genoa", "subject": "1"}, 404),
        ({"name": "lia2", "issuer": "nowhere", "subject": "1"}, 400),
        ({"name": "lia2", "issuer": "genoa", "subject": ""}, 400),
        ({"name": "lia2", "issuer": "genoa", "subject": 5}, 400),
        ({"name": "lia2", "issuer": "genoa", "subject": "x" * 600}, 400),
        ({"name": "lia2", "issuer": "genoa", "subject": "\x00"}, 400),
        ([], 400),
    ],
    ids=range(8),
)
def test_links_that_make_no_sense(several: SeveralHub, body: object, status: int) -> None:
    several.api("POST", "users/lia2")
    assert several.api("POST", "collab/identities", json=body).status_code == status


def test_nobody_links_who_may_not(several: SeveralHub) -> None:
    several.write_people(
        "genoa", {"own": person("24", "team-ocean"), "boss": person("25", "admins")}
    )
    assert log_in(several.browser(), "genoa", "own").status_code == 302
    assert log_in(several.browser(), "genoa", "boss").status_code == 302
    token = several.api("POST", "users/own/tokens", json={}).json()["token"]
    mine = {"name": "own", **identity("xprize", "own")}
    for method in ("GET", "POST", "DELETE"):
        answer = several.api(method, "collab/identities?name=own", token=token, json=mine)
        assert answer.status_code == 403
    # Who may change users, and is no admin, does not become one.
    admins = {"name": "boss", **identity("xprize", "own")}
    assert several.api("POST", "collab/identities", json=admins).status_code == 403
    gone = several.api("DELETE", "collab/identities", json=identity("genoa", "25"))
    assert gone.status_code == 403


def test_a_deleted_users_name_is_free_and_nothing_of_it_is_left(several: SeveralHub) -> None:
    several.write_people("genoa", {"pat": person("26", "team-ocean")})
    assert log_in(several.browser(), "genoa", "pat").status_code == 302
    several.write_people("genoa", {"pat": person("27", "team-river")})
    assert log_in(several.browser(), "genoa", "pat").status_code == 403
    assert several.api("DELETE", "users/pat").status_code == 204
    assert several.api("GET", "collab/membership/pat").status_code == 404
    assert log_in(several.browser(), "genoa", "pat").status_code == 302
    assert several.groups_of("pat") == ["river"]
    said = several.api("GET", "collab/identities?name=pat").json()
    assert said["identities"] == [identity("genoa", "27")]


def test_the_watcher_asks_each_source_about_its_own(tmp_path: Path) -> None:
    hub = SeveralHub(
        folder=tmp_path / "hub",
        scopes=SCOPES,
        sources_more="c.TeamAuthenticator.watch_interval = 1.0",
    )
    try:
        hub.start()
        prepare(hub)
        hub.write_people("genoa", {"ada": person("1", "team-ocean")})
        hub.write_people("jena", {"ada": person("1", "team-ocean")})
        assert log_in(hub.browser(), "genoa", "ada").status_code == 302
        assert log_in(hub.browser(), "jena", "ada").status_code == 302
        assert hub.person().log_in("1", "team-ocean", username="ada").status_code == 302
        hub.write_people("genoa", {}, down=True)
        hub.write_people("jena", {})
        until(lambda: hub.groups_of("j-ada") == [])
        assert hub.groups_of("ada") == hub.groups_of("p-ada") == ["ocean"]
    finally:
        hub.kill()
