"""The provisioner's archives and leftovers over its API, under its own rights on a real cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jupyterhub_collab import names
from jupyterhub_collab.constants import LABEL_CONTEST
from jupyterhub_collab.hubapi.client import HubClient
from tests.services.running import (
    CONTEST,
    READER_TOKEN,
    STRANGER_TOKEN,
    Provisioner,
    team,
    wait_until,
)

pytestmark = pytest.mark.api
CONTESTS = {
    "host": "contests.internal",
    "address": "10.9.8.7",
    "port": 8087,
    "peer": {"cidr": "10.9.8.7/32"},
}
ARCHIVING = {"archive_image": "registry.example.org/basic:1", "contests": CONTESTS}


def entry(of: str = "ocean", **more: str) -> dict[str, Any]:
    archive = names.archive_id(of, "team", 7)
    one = {
        "volume": "team",
        "archive": archive,
        "path": f"/services/contests/api/archives/{archive}",
        "token": "t" * 64,
        **more,
    }
    return {"archives": [one]}


@pytest.fixture(scope="module")
def archiving(make_provisioner: Callable[..., Provisioner]) -> Provisioner:
    """One that may archive, with the team ocean."""
    made = make_provisioner(platform=ARCHIVING)
    made.start()
    made.wait_healthy()
    return made


@pytest.fixture
async def ocean(archiving: Provisioner) -> Provisioner:
    async with HubClient(archiving.hub.api_url, archiving.hub.token) as hub:
        await hub.create_group("contest.reef")
        await hub.put_properties("contest.reef", {"collab": CONTEST})
        await hub.create_group("ocean")
        await hub.put_properties("ocean", team())
    archiving.wait_state("ocean", "ready")
    return archiving


async def test_a_job_is_made_under_the_provisioners_own_rights(ocean: Provisioner) -> None:
    for _ in range(2):
        answer = ocean.request("POST", "teams/ocean/archives", json=entry())
        assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [v["volume"] for v in found["volumes"]] == ["team"]
    [job] = found["jobs"]
    assert (job["work"], job["archive"]) == ("save", names.archive_id("ocean", "team", 7))
    assert job["state"] in ("waiting", "running")
    assert "t" * 64 not in answer.text
    assert "t" * 64 not in ocean.log

    def is_running() -> bool:
        seen = ocean.request("GET", "teams/ocean/archives", token=READER_TOKEN).json()
        return bool(seen["jobs"][0]["state"] == "running")

    wait_until(is_running, timeout_s=30, what=lambda: "the policies let no pod of the Job start")
    answer = ocean.request("POST", "teams/ocean/archives/restore", json=entry("river"))
    assert answer.status_code == 200, answer.text
    assert {job["work"] for job in answer.json()["jobs"]} == {"save", "restore"}


async def test_who_may_and_what_is_refused(ocean: Provisioner) -> None:
    post, path = "POST", "teams/ocean/archives"
    assert ocean.request(post, path, json=entry(), token=READER_TOKEN).status_code == 403
    assert ocean.request(post, path, json=entry(), token=STRANGER_TOKEN).status_code == 403
    assert ocean.request(post, path, json=entry(), token="").status_code == 401
    assert ocean.request("GET", "teams/nobody/archives").status_code == 404
    assert ocean.request("GET", "teams/NO!/archives").status_code == 404
    for wrong in (
        entry("river"),
        entry(path="//evil/x"),
        entry(path="/x?y"),
        entry(path="/../x y"),
        entry(token="short"),
        entry(archive="x"),
        entry(volume="../x"),
        {"archives": []},
        {},
    ):
        assert ocean.request(post, path, json=wrong).status_code == 422, wrong
    answer = ocean.request(post, path, json=entry(volume="personal-nobody"))
    assert answer.status_code == 409
    assert "first server" in answer.json()["message"]


async def test_jobs_that_have_ended_may_go(ocean: Provisioner) -> None:
    ended = {"ended": [names.archive_id("ocean", "team", 3)]}
    answer = ocean.request("POST", "teams/ocean/archives", json=ended)
    assert answer.status_code == 200, answer.text
    assert answer.json()["full"] is False


async def test_leftovers_are_asked_of_the_cluster(ocean: Provisioner) -> None:
    found = ocean.request("GET", "leftovers?contest=reef", token=READER_TOKEN).json()
    kinds = {leftover["kind"] for leftover in found["leftovers"]}
    assert {"Namespace", "NetworkPolicy", "PersistentVolumeClaim", "RoleBinding"} <= kinds
    assert "Job" in found["looked"]
    assert "Secret" in found["notLooked"]
    answer = ocean.request("POST", "leftovers", json={"contest": "lakes", "teams": ["ocean"]})
    assert [(f["kind"], f["team"]) for f in answer.json()["leftovers"]] == [("Namespace", "ocean")]
    assert ocean.request("GET", "leftovers?contest=lakes").json()["leftovers"] == []
    assert ocean.request("GET", "leftovers").status_code == 422
    assert ocean.request("GET", "leftovers?contest=NO!").status_code == 422
    assert LABEL_CONTEST in str(found)
