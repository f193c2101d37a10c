"""What a platform's settings make of a run's ground."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jupyterhub_collab.cli.up.ground import Ground, find_archives_url, make_platform
from jupyterhub_collab.models import Platform

PEER = {"cidr": "10.0.0.5/32"}
CONTESTS = {"host": "contests.internal", "address": "10.0.0.5", "port": 8087, "peer": PEER}


def settle(folder: Path, said: object, *, address: str, embedded: bool) -> tuple[Ground, Platform]:
    extra = folder / "platform.json"
    extra.write_text(json.dumps(said))
    ground = Ground(Path(), Path(), address, embedded=embedded)
    platform = make_platform(
        ground,
        hub_port=1,
        port=2,
        public_url="http://hub.localhost:2",
        extra=extra,
        image="registry.example.org/basic:1",
        contests_port=3,
    )
    return ground, platform


@pytest.mark.parametrize(
    ("said", "address", "url"),
    [
        ({}, "10.0.0.5", ""),
        ({"contests": CONTESTS}, "10.0.0.5", "http://10.0.0.5:8087"),
        ({"contests": {**CONTESTS, "targetPort": 9000}}, "10.0.0.5", "http://10.0.0.5:9000"),
        # What pods call it is another's business: it listens where they come to this machine.
        ({"contests": {**CONTESTS, "address": "10.96.0.9"}}, "10.0.0.5", "http://10.0.0.5:8087"),
        ({"contests": CONTESTS}, "fd00::5", "http://[fd00::5]:8087"),
    ],
)
def test_archive_jobs_of_a_real_cluster_have_an_address(
    tmp_path: Path, said: object, address: str, url: str
) -> None:
    assert find_archives_url(*settle(tmp_path, said, address=address, embedded=False)) == url


def test_on_the_embedded_cluster_they_find_the_service_where_it_is(tmp_path: Path) -> None:
    ground, platform = settle(tmp_path, {"contests": CONTESTS}, address="127.0.0.1", embedded=True)
    assert find_archives_url(ground, platform) == ""
