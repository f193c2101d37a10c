"""Pytest plugin: one hub and one contests service for a whole session; each test has contests of
its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real_hub import RealHub, find_free_port
from tests.services.contests.provisioner import ReadyProvisioner
from tests.services.contests.running import ContestsService, hub_settings


@pytest.fixture(scope="session")
def contests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ContestsService]:
    folder: Path = tmp_path_factory.mktemp("contests")
    port = find_free_port()
    hub = RealHub(folder / "hub", **hub_settings(port))
    provisioner = ReadyProvisioner(hub)
    service = ContestsService(hub, folder / "service", port=port, provisioner_url=provisioner.url)
    try:
        hub.start()
        service.start_and_wait()
        yield service
        assert service.end() == 0, service.log[-3000:]
    finally:
        service.kill()
        hub.stop()
        provisioner.close()
