"""JupyterLab asks nobody about news and looks for no updates, unless somebody wants it to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterhub_collab.singleuser.jupyter_settings import config_environment

#: JupyterLab itself, linked to a server as it is when that starts.
READ = """
import json, sys
from jupyterlab.labapp import LabApp
app = LabApp.initialize_server(argv=["--no-browser", "--allow-root"])
lab = app.extension_manager.extension_apps["jupyterlab"]
(lab,) = lab
from jupyterlab_server.settings_utils import _get_overrides
defaults, error = _get_overrides(lab.app_settings_dir)
assert not error
asks = defaults.get("@jupyterlab/apputils-extension:notification", {}).get("fetchNews", "none")
print(json.dumps([lab.news_url, lab.check_for_updates_class.__name__, asks]))
"""
QUIET = [None, "NeverCheckForUpdate", "false"]


def read(home: Path, **more: str) -> list[str | None]:
    """What JupyterLab makes of its settings in this home."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
    given = {**kept, "HOME": str(home), "PYTHONWARNINGS": "ignore", **more}
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env={**given, **config_environment(given, home)},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: list[str | None] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_without_a_word_of_anybodys(tmp_path: Path) -> None:
    assert read(tmp_path) == QUIET


@pytest.mark.parametrize("file", ["jupyter_lab_config.py", "jupyter_server_config.py"])
def test_a_member_s_own_settings_win(tmp_path: Path, file: str) -> None:
    (tmp_path / ".jupyter").mkdir()
    (tmp_path / ".jupyter" / file).write_text("c.LabApp.news_url = 'https://news.example.org'\n")
    assert read(tmp_path) == ["https://news.example.org", *QUIET[1:]]


def test_what_the_image_points_to_comes_first(tmp_path: Path) -> None:
    given = tmp_path / "given"
    given.mkdir()
    settings = {"LabApp": {"news_url": "https://image.example.org"}}
    (given / "jupyter_lab_config.json").write_text(json.dumps(settings))
    (given / "labconfig").mkdir()
    defaults = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "true"}}
    (given / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(defaults))
    found = read(tmp_path, JUPYTER_CONFIG_PATH=str(given))
    assert found == ["https://image.example.org", "NeverCheckForUpdate", "true"]
    path = config_environment({"JUPYTER_CONFIG_PATH": str(given)}, tmp_path)["JUPYTER_CONFIG_PATH"]
    assert path.split(os.pathsep)[:2] == [str(given), str(tmp_path / ".jupyter")]
