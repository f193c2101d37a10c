"""Two contests services on one registry: one works, the other stands by, whoever dies or sleeps."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.contests.manifests import manifest
from tests.services.contests.running import ContestsService
from tests.services.running import wait_until
from tests.storage.conftest import postgresql, postgresql_url, url

__all__ = ["postgresql", "postgresql_url", "url"]

CONTEST = "relay"


@pytest.fixture
def two(
    contests: ContestsService, url: str, tmp_path: Path
) -> Iterator[tuple[ContestsService, ContestsService]]:
    """Beside the session's own, on the same hub, with a registry of theirs."""
    both = tuple(
        ContestsService(
            contests.hub,
            tmp_path / name,
            database_url=url,
            provisioner_url=contests.provisioner_url,
        )
        for name in ("first", "second")
    )
    yield both  # type: ignore[misc]
    for service in both:
        if service.process is not None:
            service.process.send_signal(signal.SIGCONT)
        service.kill()
    headers = {"Authorization": f"token {contests.hub.token}"}
    httpx.delete(group_url(contests), headers=headers, verify=False)


def group_url(service: ContestsService) -> str:
    return f"{service.hub.api_url}/groups/contest.{CONTEST}"


def title_on_hub(service: ContestsService) -> str:
    """The contest's title, as the hub's group has it."""
    headers = {"Authorization": f"token {service.hub.token}"}
    answer = httpx.get(group_url(service), headers=headers, verify=False)
    if answer.status_code != 200:
        return ""
    return str(answer.json()["properties"].get("collab", {}).get("title", ""))


def figure(service: ContestsService, name: str, token: str) -> float:
    text = service.request("GET", "metrics", token=token).text
    found = re.search(rf"^collab_contests_{name} (\S+)$", text, re.MULTILINE)
    assert found is not None, text
    return float(found.group(1))


def put(service: ContestsService, title: str) -> None:
    wanted: dict[str, Any] = manifest(CONTEST)
    wanted["contest"]["title"] = title
    answer = service.request("PUT", f"api/contests/{CONTEST}/manifest", json=wanted)
    assert answer.is_success, answer.text


def test_one_works_and_the_other_takes_over(
    contests: ContestsService, two: tuple[ContestsService, ContestsService]
) -> None:
    first, second = two
    token = contests.issue_token("root")

    def holds(service: ContestsService, term: int) -> None:
        wait_until(
            lambda: figure(service, "holder", token) == 1,
            timeout_s=40,
            what=lambda: service.log[-3000:],
        )
        assert figure(service, "term", token) == term

    def written(title: str) -> None:
        wait_until(
            lambda: title_on_hub(contests) == title,
            timeout_s=40,
            what=lambda: first.log[-2000:] + second.log[-2000:],
        )

    first.start_and_wait()
    holds(first, 1)
    second.start_and_wait()
    put(second, "asked of the one that stands by")
    written("asked of the one that stands by")
    assert figure(second, "holder", token) == 0

    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    holds(second, 2)
    put(second, "while one sleeps")
    written("while one sleeps")
    first.process.send_signal(signal.SIGCONT)
    wait_until(
        lambda: "Another process does the contests' work" in first.log,
        timeout_s=40,
        what=lambda: first.log[-3000:],
    )
    assert figure(first, "holder", token) == 0
    assert figure(second, "holder", token) == 1
    assert title_on_hub(contests) == "while one sleeps"

    second.kill()
    holds(first, 3)
    put(first, "after a crash")
    written("after a crash")
    assert first.end() == 0, first.log[-3000:]
