"""What is Active Directory's own, from a real Samba domain controller to a real hub's teams."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from jupyterhub_collab.identity.directory_errors import SAME_WORDS
from tests.identity import samba


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One start of the server, and two of a hub, for all."""
    why = samba.missing()
    if why:
        pytest.skip(f"NOT PROVED: Active Directory at a hub's login page ({why})")
    folder = tmp_path_factory.mktemp("samba")
    samba.provision(folder)
    done = subprocess.run(
        [str(samba.find("unshare")), "-n", sys.executable, "-m", "tests.auth.samba_hub",
         str(folder)],
        capture_output=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    answers = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(answers, dict)
    return answers


@pytest.mark.parametrize(
    "how", ["search, ad-chain", "typed NAME@DOMAIN", "DOMAIN\\NAME, token-groups"]
)
def test_nested_groups_and_the_primary_one_give_teams(said: dict[str, Any], how: str) -> None:
    assert said[how]["status"] == 302
    assert said[how]["teams"] == ["ocean", "river"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dave", "Your account is disabled"),
        ("erin", "Your account has expired"),
        ("frank", "change your password"),
    ],
)
def test_what_is_wrong_with_an_account_reads_who_knows_its_password(
    said: dict[str, Any], name: str, words: str
) -> None:
    assert said[f"right {name}"]["status"] == said[f"wrong {name}"]["status"] == 403
    assert words in said[f"right {name}"]["text"]
    assert SAME_WORDS in said[f"wrong {name}"]["text"]


def test_leaving_a_nested_group_and_being_disabled_are_lost_by_the_watcher_alone(
    said: dict[str, Any],
) -> None:
    assert said["left"] is True
    assert said["disabled"] is True
    assert said["after"] == [], "the primary group's team too"
