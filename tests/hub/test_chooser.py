"""The spawn page: what it offers, what comes back, and what it says when it will not do."""

from html.parser import HTMLParser
from types import SimpleNamespace

import httpx
import pytest

from jupyterhub_collab.errors import UserError
from jupyterhub_collab.hub.chooser import form_of, make_form, to_raw_options
from jupyterhub_collab.hub.teams import Titles
from jupyterhub_collab.kube.kinds import POD
from tests.hub.conftest import kube
from tests.hub.samples import TEAM


class Fields(HTMLParser):
    """Inputs, labels and the page's text."""

    def __init__(self, text):
        super().__init__()
        self.inputs, self.labels, self.text, self.legends = [], set(), "", 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag == "input":
            self.inputs.append(found)
        if tag == "label":
            self.labels.add(found.get("for"))
        self.legends += tag == "legend"

    def handle_data(self, data):
        self.text += data

    def chosen(self):
        return {f["name"]: f["value"] for f in self.inputs if "checked" in f}


@pytest.fixture
def browser(hub):
    def log_in(user):
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{hub.port}", follow_redirects=False, verify=False
        )
        client.get("/hub/login")
        form = {"username": user, "password": hub.password, "_xsrf": client.cookies["_xsrf"]}
        answer = client.post("/hub/login", data=form)
        assert answer.status_code == 302, answer.text
        clients.append(client)
        return client

    clients = []
    yield log_in
    for client in clients:
        client.close()


def xsrf(client):
    return next(c.value for c in client.cookies.jar if c.name == "_xsrf" and c.path == "/hub/")


def test_the_page_offers_what_the_teams_have(hub, browser):
    page = browser("ada").get("/hub/spawn/ada")
    assert page.status_code == 200
    fields = Fields(page.text)
    radios = [f for f in fields.inputs if f.get("type") == "radio"]
    assert [f["value"] for f in radios if f["name"] == "team"] == ["ocean", "reef"]
    assert fields.chosen() == {
        "team": "ocean",
        "image--ocean": "basic",
        "profile--ocean": "small",
        "image--reef": "basic",
        "profile--reef": "small",
    }
    # Whoever cannot see the page hears of every field what it is and what group it is in.
    assert {f["id"] for f in radios} <= fields.labels
    assert fields.legends == 5
    disabled = [f for f in radios if "disabled" in f]
    assert {f["value"] for f in disabled} == {"huge"}
    assert "needs 16 CPUs, and team ocean may use 1 in all" in fields.text
    assert "Contest Sea (sea)" in fields.text


def test_a_team_is_called_by_its_title(hub, browser):
    hub.set_properties("ocean", {**TEAM, "title": "The <Ocean> & us"})
    try:
        page = browser("ada").get("/hub/spawn/ada")
    finally:
        hub.set_properties("ocean", TEAM)
    assert "The <Ocean> & us ocean" in Fields(page.text).text
    assert "<Ocean>" not in page.text
    assert "<strong>reef</strong>" in page.text  # it has no title


def test_what_is_chosen_starts_and_is_remembered(hub, cluster, browser):
    client = browser("ada")
    client.get("/hub/spawn/ada")
    form = {
        "team": "reef",
        "image--ocean": "basic",
        "profile--ocean": "small",
        "image--reef": "extra",
        "profile--reef": "small",
    }
    answer = client.post("/hub/spawn/ada", params={"_xsrf": xsrf(client)}, data=form)
    assert answer.status_code == 302, answer.text
    assert "/hub/spawn-pending/ada" in answer.headers["Location"]
    hub.wait_ready("ada")
    (pod,) = kube(cluster, "list", POD, namespace="team-reef")
    assert pod["spec"]["containers"][0]["image"] == "registry.example.org/extra:2.0"
    hub.stop_server("ada")
    hub.wait_stopped("ada")
    fields = Fields(client.get("/hub/spawn/ada").text)
    assert fields.chosen()["team"] == "reef"
    assert fields.chosen()["image--reef"] == "extra"
    assert fields.chosen()["image--ocean"] == "basic"


def test_query_parameters(hub, cluster, browser):
    client = browser("ada")
    answer = client.get("/hub/spawn/ada", params={"opt-team": "reef", "opt-profile": "large"})
    assert answer.status_code == 302, answer.text
    hub.wait_ready("ada")
    (pod,) = kube(cluster, "list", POD, namespace="team-reef")
    assert pod["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "1"
    hub.stop_server("ada")
    hub.wait_stopped("ada")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"opt-team": "nowhere"}, "You are not a member of a team"),
        ({"opt-team": "ocean", "opt-cpu": "64"}, "There is no option"),
        ({"opt-team": ["ocean", "reef"]}, "must be sent once"),
        ({"opt-team": "ocean", "opt-profile": "huge"}, "Choose a smaller one"),
    ],
)
def test_a_refusal_is_a_sentence_on_the_page(hub, browser, query, sentence):
    page = browser("ada").get("/hub/spawn/ada", params=query)
    assert page.status_code == 400
    text = Fields(page.text).text
    assert sentence in text
    assert "SpawnRefusedError" not in text
    assert "Which team is it for?" in text


def test_a_file_is_no_option(hub, browser):
    client = browser("ada")
    client.get("/hub/spawn/ada")
    answer = client.post(
        "/hub/spawn/ada",
        params={"_xsrf": xsrf(client)},
        data={"team": "ocean"},
        files={"image": ("x.txt", b"data")},
    )
    assert answer.status_code == 400
    assert "must be sent once, as text" in Fields(answer.text).text


def test_somebody_in_no_team_is_told(hub, browser):
    page = browser("carl").get("/hub/spawn/carl")
    assert "You are not in a team yet" in Fields(page.text).text


def group(name, properties):
    return SimpleNamespace(name=name, properties=properties)


def test_titles_are_text_not_markup(monkeypatch):
    from jupyterhub_collab.hub import chooser
    from jupyterhub_collab.policy.spec import merge_team_spec
    from tests.hub.samples import CONTEST

    evil = "<script>alert(1)</script>"
    contest = {**CONTEST, "images": {"basic": {"title": evil, "image": "r/x:1"}},
               "profiles": {"small": {"title": evil, "description": evil, "cpu": 1,
                                      "memory": "1Gi"}}}  # fmt: skip
    spec = merge_team_spec("ocean", {"collab": TEAM}, {"collab": contest})
    monkeypatch.setattr(chooser, "team_spec", lambda user, team: spec)
    monkeypatch.setattr(chooser, "titles_of", lambda user, team: Titles(evil, evil))
    user = SimpleNamespace(groups=[group("ocean", {"collab": TEAM})])
    html = make_form(user, {})
    assert evil not in html
    assert html.count("&lt;script&gt;") == 5


@pytest.mark.parametrize(
    "last", [{}, {"team": ["x"]}, {"team": {"a": 1}}, {"image": 7, "profile": None}, {"x": "y"}]
)
def test_whatever_was_kept_from_the_last_start_makes_a_form(last):
    user = SimpleNamespace(groups=[])
    assert "not in a team yet" in make_form(user, last)


@pytest.mark.parametrize("last", [b"x", "x", ["team"], 7, None])
async def test_what_is_no_mapping_in_the_database_makes_a_form(last):
    row = SimpleNamespace(user_options=last)
    user = SimpleNamespace(groups=[])
    spawner = SimpleNamespace(orm_spawner=row, user=user, last_end="")
    assert "not in a team yet" in await form_of(spawner)


async def test_the_end_of_the_last_server_is_told():
    user = SimpleNamespace(groups=[])
    spawner = SimpleNamespace(orm_spawner=None, user=user, last_end="It <ended> by itself.")
    assert "The last time: It &lt;ended&gt; by itself." in await form_of(spawner)
    assert "The last time" not in make_form(user, {})


@pytest.mark.parametrize(
    "form",
    [
        {"team": []},
        {"team": ["a", "b"]},
        {"team": "ocean"},
        {"team": [b"x"]},
        {"team_file": [{"filename": "x"}]},
    ],
)
def test_forms_of_another_shape(form):
    with pytest.raises(UserError):
        to_raw_options(form)


def test_fields_of_other_teams_do_not_count():
    form = {"team": ["a"], "image--a": ["x"], "image--b": ["y"], "profile--b": ["z"]}
    assert to_raw_options(form) == {"team": "a", "image": "x"}
