"""Where somebody stands, as the hub tells a service."""

from __future__ import annotations

from typing import Any

from tests.audit_reading.conftest import SERVICE_TOKEN, Scene


def _ask(scene: Scene, name: str, *, token: str = SERVICE_TOKEN) -> Any:
    return scene.hub.api("GET", f"collab/standing/{name}", token=token)


def test_teams_roles_and_data_sets_are_told(scene: Scene) -> None:
    ada = _ask(scene, "ada").json()["standing"]
    teams = {team["team"]: team for team in ada["teams"]}
    assert set(teams) == {"ocean", "river"}
    assert (teams["ocean"]["captain"], teams["river"]["captain"]) == (True, False)
    assert teams["ocean"]["contest"] == "sea"
    assert ada["contests"] == []
    assert ada["admin"] is False
    [hosted] = _ask(scene, "hana").json()["standing"]["contests"]
    assert hosted["host"] is True
    assert hosted["datasets"] == ["salt", "tides"]
    [kept] = _ask(scene, "stew").json()["standing"]["contests"]
    assert kept["keeps"] == ["tides"]
    [judged] = _ask(scene, "jude").json()["standing"]["contests"]
    assert (judged["judge"], judged["host"], judged["datasets"]) == (True, False, [])
    root = _ask(scene, "root").json()["standing"]
    assert root["admin"] is True
    assert {c["contest"] for c in root["contests"]} == {"sea", "ice"}
    assert not any(c["host"] for c in root["contests"])


def test_nobody_is_told_to_whom_it_is_not_said(scene: Scene) -> None:
    assert _ask(scene, "zoe").json() == {"standing": None}
    assert _ask(scene, "nobody").json()["standing"]["teams"] == []
    for token in (scene.token("ada"), scene.token("root"), scene.hub.token, "wrong"):
        assert _ask(scene, "ada", token=token).status_code == 403


def test_what_somebody_loses_is_not_in_the_next_answer(scene: Scene) -> None:
    from tests.audit_reading.conftest import GROUPS

    scene.write({**GROUPS, "cyd": []})
    try:
        browser = scene.hub.browser()
        browser.log_in("cyd")
        assert _ask(scene, "cyd").json()["standing"]["teams"] == []
    finally:
        scene.write(GROUPS)
        assert scene.hub.browser().log_in("cyd").status_code == 302
    assert _ask(scene, "cyd").json()["standing"]["teams"][0]["captain"] is True
