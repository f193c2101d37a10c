"""Settings, and the example configuration: what is wrong is one sentence."""

import json
from pathlib import Path

import pytest
from jupyterhub.app import JupyterHub
from traitlets import TraitError
from traitlets.config import Config

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.hub import INTROSPECT_SCOPE, TEMPLATES, configure
from jupyterhub_collab.hub.notices import NoticeSettings
from jupyterhub_collab.hub.settings import settings_of
from jupyterhub_collab.hub.spawner import TeamSpawner
from tests.hub.samples import platform

EXAMPLE = Path(__file__).parents[2] / "config" / "jupyterhub_config.py"


def load_example(monkeypatch):
    for name in ("COLLAB_PROVISIONER_TOKEN", "PROVISIONER_API_TOKEN", "CONTESTS_API_TOKEN"):
        monkeypatch.setenv(name, f"token-{name}")
    c = Config()
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), {"get_config": lambda: c})
    return c


def test_the_example_configuration(monkeypatch):
    c = load_example(monkeypatch)
    assert c.JupyterHub.spawner_class == "collab"
    assert c.JupyterHub.concurrent_spawn_limit == 0, "it would count starts that wait"
    assert {"name": "spawner", "api_token": "token-COLLAB_PROVISIONER_TOKEN"} in (
        c.JupyterHub.services
    )
    used = {scope for role in c.JupyterHub.load_roles for scope in role["scopes"]}
    custom = {scope for scope in used if scope.startswith("custom:")}
    assert custom <= set(c.JupyterHub.custom_scopes.to_dict()["update"])


def test_the_example_lets_nobody_in_before_it_is_changed(monkeypatch):
    c = load_example(monkeypatch)
    assert "allow_all" not in c.Authenticator
    hub = JupyterHub(config=Config({"JupyterHub": {"log_level": 50}}))
    with pytest.raises(TraitError, match="CHANGE: how people sign in"):
        hub.update_config(c)


def test_what_was_configured_before_stays():
    c = Config()
    c.JupyterHub.extra_handlers = [("/mine", object)]
    c.JupyterHub.custom_scopes = {"custom:mine": {"description": "x"}}
    configure(c, platform_file="p.json")
    paths = [path for path, *_ in c.JupyterHub.extra_handlers]
    assert paths[0] == "/mine"
    assert {"/api/collab/introspect", "/api/collab/jwks"} <= set(paths[1:])
    assert set(c.JupyterHub.custom_scopes) >= {"custom:mine", INTROSPECT_SCOPE}


def test_notices_come_from_the_contests_service():
    c = Config()
    configure(c, platform_file="p", contests_url="http://c/", contests_token="t")
    found = NoticeSettings(config=c)
    assert (found.contests_url, found.contests_token) == ("http://c/", "t")
    with pytest.raises(TraitError, match="contests_url must begin with"):
        NoticeSettings(contests_url="ftp://c/")


@pytest.mark.parametrize("given", [None, ["/mine"]])
def test_pages_stand_before_jupyterhub_s_and_after_an_admin_s_own(given):
    c = Config()
    if given:
        c.JupyterHub.template_paths = list(given)
    configure(c, platform_file="p")
    hub = JupyterHub(config=c)
    paths = [path for path in hub.template_paths if path != "/mine"]
    assert paths[0] == str(TEMPLATES)
    assert hub.template_paths[: len(given or [])] == (given or [])


def test_handlers_see_the_spawners_settings(tmp_path):
    file = tmp_path / "platform.json"
    file.write_text(json.dumps(platform(hub_id="hub-7")))
    c = Config()
    c.TeamSpawner.platform_file = str(file)
    c.TeamSpawner.credential_key_file = str(tmp_path / "key")
    found = settings_of(c)
    assert found.platform.hub_id == "hub-7"
    assert found.issuer.to_jwks()["keys"]
    assert found.issuer is settings_of(c).issuer


def test_settings_from_the_environment(monkeypatch):
    monkeypatch.setenv("COLLAB_PLATFORM_FILE", "x.json")
    monkeypatch.setenv("COLLAB_PROVISIONER_URL", "http://p/")
    monkeypatch.setenv("COLLAB_PROVISIONER_TOKEN", "t")
    found = settings_of(Config())
    assert (found.platform_file, found.provisioner_url, found.provisioner_token) == (
        "x.json",
        "http://p/",
        "t",
    )


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"hub_api": 1, "proxy": 2}'])
def test_a_wrong_platform_file_is_one_sentence(tmp_path, text):
    file = tmp_path / "platform.json"
    if text is not None:
        file.write_text(text)
    c = Config()
    c.TeamSpawner.platform_file = str(file)
    with pytest.raises(PermanentError, match=str(file)):
        _ = settings_of(c).platform


def test_no_platform_file_says_what_to_set():
    with pytest.raises(PermanentError, match=r"c\.TeamSpawner\.platform_file"):
        _ = settings_of(Config()).platform


def test_a_url_that_is_none_is_refused():
    c = Config()
    c.TeamSpawner.provisioner_url = "provisioner:8085"
    with pytest.raises(TraitError, match="http://"):
        settings_of(c)


def test_jupyterhub_finds_the_spawner_by_name():
    from importlib.metadata import entry_points

    (found,) = entry_points(group="jupyterhub.spawners", name="collab")
    assert found.load() is TeamSpawner
