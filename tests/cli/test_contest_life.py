"""`jupyterhub-collab contest ...` as a host types it, against a real hub and a real service."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from jupyterhub_collab.cli.contest_tables import make_status_tables, make_teams_table
from jupyterhub_collab.cli.main import app
from jupyterhub_collab.errors import CollabError
from tests.services.contests.manifests import manifest
from tests.services.contests.running import MANAGER_TOKEN, ContestsService
from tests.services.running import wait_until


@dataclass(frozen=True)
class Said:
    """What a command said. `stderr` is the sentence that `main` prints."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Said]


@pytest.fixture
def run(contests: ContestsService, monkeypatch: pytest.MonkeyPatch) -> Run:
    """In this process: a Python for each command would take longer than the command."""
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setenv("JUPYTERHUB_COLLAB_CONTESTS_URL", contests.url)

    def run(*arguments: object, token: str = MANAGER_TOKEN) -> Said:
        monkeypatch.setenv("JUPYTERHUB_COLLAB_TOKEN", token)
        result = CliRunner().invoke(app, ["contest", *map(str, arguments)])
        expected = isinstance(result.exception, (CollabError, SystemExit, type(None)))
        assert expected, result.exception
        return Said(result.exit_code, result.stdout, f"{result.stderr}{result.exception or ''}")

    return run


def put(service: ContestsService, contest: str, *teams: str, **more: Any) -> None:
    """A contest with these teams, all of them at work."""
    listed = {team: {"tier": "small", "members": [f"{team}-m"]} for team in teams}
    wanted = manifest(contest, teams=listed, **more)
    answer = service.request("PUT", f"api/contests/{contest}/manifest", json=wanted)
    assert answer.is_success, answer.text

    def are_active() -> bool:
        counts = service.request("GET", f"api/contests/{contest}").json()["teams"]
        return counts == {"active": len(teams)}

    wait_until(are_active, timeout_s=30, what=lambda: service.log[-2000:])


def test_rounds(run: Run, contests: ContestsService, tmp_path: Path) -> None:
    put(contests, "rounds", "rounds-a", "rounds-b", "rounds-c")
    dry = run("start", "rounds", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.splitlines()[1].split()[:4] == ["contest", "draft", "running", "1"]
    assert contests.request("GET", "api/contests/rounds").json()["state"] == "draft"

    asked = run("start", "rounds")
    assert asked.returncode == 1
    assert "nothing was done: add --yes" in asked.stderr
    started = run("start", "rounds", "--yes", "--wait")
    assert started.returncode == 0, started.stderr
    assert "start rounds is done, asked for by service:manager." in started.stdout

    assert run("close-round", "rounds", "--notice", "0", "--yes", "--wait").returncode == 0
    best = tmp_path / "best"
    best.write_text("rounds-c  # the winner\n\nrounds-a\nrounds-b\n")
    assert run("rank", "rounds", best).stdout == "3 teams ranked.\n"
    dry = run("advance", "rounds", "--keep", "top:1", "--dry-run", "--json")
    plan = json.loads(dry.stdout)
    assert {t["team"] for t in plan["transitions"] if t["after"] == "eliminated"} == {
        "rounds-a",
        "rounds-b",
    }
    kept = tmp_path / "kept"
    kept.write_text("rounds-c\nrounds-a\n")
    assert run("advance", "rounds", "--keep", kept, "--yes").returncode == 0

    def states() -> dict[str, str]:
        found = json.loads(run("teams", "rounds", "--json").stdout)
        return {team["id"]: team["state"] for team in found}

    assert states() == {"rounds-a": "active", "rounds-b": "eliminated", "rounds-c": "active"}
    table = run("status", "rounds").stdout
    assert "2 of 2" in table
    refused = run("start", "rounds", "--yes")
    assert refused.returncode == 1
    assert "What is possible now:" in refused.stderr


def test_two_hosts(run: Run, contests: ContestsService) -> None:
    endings = {"noticeSeconds": 0, "twoPersons": True}
    put(contests, "two", "two-a", endings=endings)
    assert run("start", "two", "--yes").returncode == 0
    one, other = contests.issue_token("host-two"), contests.issue_token("other-two")
    asked = run("eliminate", "two", "--team", "two-a", "--yes", token=one)
    assert asked.returncode == 0, asked.stderr
    assert "Another host has to approve this before anything is done." in asked.stdout
    number = asked.stdout.split("contest approve ")[1].strip()
    assert "Waits for a second host." in run("status", "two").stdout
    own = run("approve", number, "--yes", token=one)
    assert own.returncode == 1
    assert "Another host has to approve it" in own.stderr
    approved = run("approve", number, "--yes", token=other)
    assert approved.returncode == 0, approved.stderr
    assert f"Operation {number}: eliminate two-a two is running" in approved.stdout
    assert "approved by other-two" in approved.stdout
    late = run("decline", number, token=other)
    assert late.returncode == 1


def test_what_is_typed_wrongly_is_said_before_anything(run: Run, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("fine\nNot Fine\n")
    cases = [
        (("start", "Not-An-Id", "--yes"), "is no id: a lower-case letter"),
        (("eliminate", "reef", "--yes"), "say which with --team TEAM"),
        (("advance", "reef", "--team", "a", "--yes"), "leave --team out"),
        (("advance", "reef", "--keep", "top:x", "--yes"), "write top:N"),
        (("advance", "reef", "--keep", bad, "--yes"), "bad:2: 'Not Fine' is no team"),
        (("advance", "reef", "--keep", tmp_path / "none", "--yes"), "cannot be read"),
        (("freeze", "reef", "--notice", "soon", "--yes"), "is no time"),
        (("status", "nowhere"), "There is no contest 'nowhere', or it is not for you."),
        (("certificate", "nowhere"), "There is no contest 'nowhere', or it is not for you."),
    ]
    for arguments, said in cases:
        result = run(*arguments)
        assert result.returncode == 1
        assert said in result.stderr
        assert "Traceback" not in result.stderr


def test_rebuild_and_list(run: Run, contests: ContestsService) -> None:
    put(contests, "listed", "listed-a")
    assert "listed" in run("list").stdout
    assert run("rebuild", "listed").returncode == 0
    refused = run("rebuild", "listed", token=contests.issue_token("host-listed"))
    assert refused.returncode == 1
    assert "takes: admin of the hub" in refused.stderr


def test_several_teams_at_once(run: Run, contests: ContestsService) -> None:
    """What one of them is refused stops no other, and is said."""
    put(contests, "many", "many-a", "many-b", "many-c")
    assert run("start", "many", "--yes", "--wait").returncode == 0
    chosen = [word for team in ("many-a", "many-x", "many-b") for word in ("--team", team)]
    dry = run("eliminate", "many", *chosen, "--notice", "0", "--dry-run")
    assert dry.returncode == 1
    assert "many-x: " in dry.stderr
    assert "many-a, many-b" in dry.stdout
    done = run("eliminate", "many", *chosen, "--notice", "0", "--yes")
    assert done.returncode == 1
    assert done.stdout.count("is running, asked for by") == 2
    again = run("freeze", "many", "--team", "many-c", "--yes", "--json")
    assert json.loads(again.stdout)["request"]["team"] == "many-c"
    three = ["--team", "many-a", "--team", "many-x", "--team", "many-b", "--json"]
    unsure = run("restore", "many", *three)
    assert unsure.returncode == 1
    assert unsure.stdout == ""
    assert "with --json nobody is asked" in unsure.stderr
    restored = json.loads(run("restore", "many", *three, "--yes").stdout)
    assert restored[0]["request"]["team"] == "many-a"
    assert restored[1]["team"] == "many-x"
    assert "many-x" in restored[1]["refused"]
    assert restored[2]["request"]["team"] == "many-b"
    none = run("lift", "many", "--team", "many-x", "--team", "many-y", "--dry-run")
    assert (none.returncode, none.stdout) == (1, "")
    nobody = run("lift", "many", *three[2:4], "--team", "many-y", "--json", "--dry-run")
    assert [one["team"] for one in json.loads(nobody.stdout)] == ["many-x", "many-y"]
    stranger = run("lift", "many", *three, "--yes", token="nobody-s")
    assert stranger.returncode == 1
    assert stranger.stderr.count("many-x") == 0


def test_what_the_hosts_page_shows(run: Run, contests: ContestsService) -> None:
    """One team, what happened, what was asked for, what was said to teams."""
    put(contests, "shown", "shown-a", "shown-b")
    assert run("start", "shown", "--yes", "--wait").returncode == 0
    assert run("freeze", "shown", "--team", "shown-a", "--notice", "1h", "--yes").returncode == 0
    team = run("team", "shown-a").stdout
    assert "shown-a-m" in team
    assert "freeze" in team
    assert "could be done" in team
    assert json.loads(run("team", "shown-b", "--json").stdout)["members"]
    history = run("history", "shown").stdout
    assert "the contest" in history
    assert "service:manager" in history
    mine = json.loads(run("history", "shown", "--team", "shown-b", "--json").stdout)["transitions"]
    assert {one["team"] for one in mine} == {"shown-b"}
    assert "start" in run("operations", "shown", "--limit", "500").stdout
    few = json.loads(run("operations", "shown", "--limit", "1", "--json").stdout)["operations"]
    assert [one["request"]["action"] for one in few] == ["freeze"]

    told = run("notify", "shown", "The round closes\non Friday.", "--days", "3")
    assert told.stdout.startswith("Told all teams, until ")
    one = run("notify", "shown", "[bold]You[/bold]", "--team", "shown-b", "--json")
    assert json.loads(one.stdout)["team"] == "shown-b"
    notices = run("notices", "shown").stdout
    assert "The round closes on Friday." in notices
    assert "[bold]You[/bold]" in notices
    two = run("notify", "shown", "Well done.", "--team", "shown-a", "--team", "shown-b")
    assert two.stdout.count("Told shown-") == 2
    refused = run("notify", "shown", "  ")
    assert refused.returncode == 1
    assert "text" in refused.stderr
    assert run("notify", "shown", "x", "--team", "nobody").returncode == 1


def test_what_others_wrote_is_shown_as_text() -> None:
    """Neither markup nor terminal codes of titles and reasons have any effect."""
    team = {"id": "a", "title": "[red]x\x1b[2J", "state": "active", "round": 0, "gate": "open"}
    waits = {"team": "a", "step": "drain", "attempts": 1, "why": "\x1b[2J[bold]"}
    progress = {
        "teams": {},
        "courses": [],
        "stuck": [waits],
        "problems": [],
        "calendar": [],
        "deadlines": [],
    }
    with open(os.devnull, "w") as file:
        console = Console(width=120, record=True, file=file, force_terminal=True)
        console.print(make_teams_table([{**team, "captain": None}]))
        for table in make_status_tables(progress):
            console.print(table)
        text = console.export_text()
    assert "[red]x" in text
    assert "[bold]" in text
    assert "\x1b" not in text
