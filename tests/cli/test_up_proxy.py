"""The proxy: installed as pinned, whole or not at all, and no token on its command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyterhub_collab.cli.up import proxy
from jupyterhub_collab.cli.up.ports import find_free_port
from jupyterhub_collab.errors import UserError

PACKAGE = Path(proxy.__file__).parent / "proxy_package"


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_every_package_is_pinned_by_hash_and_by_no_host() -> None:
    lock = json.loads((PACKAGE / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert len(packages) > 20
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())
    wanted = json.loads((PACKAGE / "package.json").read_text())["dependencies"]
    assert (
        packages["node_modules/configurable-http-proxy"]["version"]
        == (wanted["configurable-http-proxy"])
    )


def test_no_way_to_the_registry_is_one_sentence_and_leaves_nothing(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = find_free_port("127.0.0.1")
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{closed}/")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(empty_cache / "npm"))
    with pytest.raises(UserError, match=r"npm registry cannot be reached\); the first start needs"):
        proxy.install_proxy(tell=lambda _: None)
    assert list(proxy.cache_folder().parent.iterdir()) == []


def test_an_installation_that_is_there_is_used(empty_cache: Path) -> None:
    script = proxy.cache_folder() / "node_modules/configurable-http-proxy/bin"
    script.mkdir(parents=True)
    (script / "configurable-http-proxy").touch()
    told: list[str] = []
    assert proxy.install_proxy(tell=told.append) == script / "configurable-http-proxy"
    assert told == []


def test_a_missing_node_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match=r"^Node\.js is missing; install it with `pip install"):
        proxy.find_node()


def test_the_token_is_not_on_the_command_line() -> None:
    command = proxy.proxy_command(
        Path("/p"), address="127.0.0.1", port=8000, api_port=8001, hub_url="http://127.0.0.1:81"
    )
    assert not any("token" in word for word in command)
    assert "--ip=127.0.0.1" in command
    assert "--host-routing" in command
