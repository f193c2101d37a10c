"""Pytest plugin: real hubs.

`clean_hub` is one for the whole session, without groups: for tests that only call its API.
`real_hub` is a test's own, which it may kill; `start_real_hub` starts more, with settings.
All hubs of a test run leave out what makes a start slow and nobody asks for (`tests/quick_start`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.hubapi.client import HubClient
from tests.real_hub import ROOT, RealHub


def pytest_configure() -> None:
    # Benchmarks have theirs whole.
    RealHub.python_path = (ROOT / "tests" / "quick_start", ROOT)
    RealHub.program = "quick_hub"


@pytest.fixture
def start_real_hub(tmp_path: Path) -> Iterator[Callable[..., RealHub]]:
    """Start hubs with settings of the test's own (`RealHub`'s fields); all end with the test."""
    hubs: list[RealHub] = []

    def start(**settings: Any) -> RealHub:
        hub = RealHub(tmp_path / f"hub{len(hubs)}", **settings)
        hubs.append(hub)
        hub.start()
        return hub

    yield start
    for hub in hubs:
        hub.kill()


@pytest.fixture
def real_hub(start_real_hub: Callable[..., RealHub]) -> RealHub:
    """A hub whose service `registry` may write groups and users."""
    return start_real_hub()


@pytest.fixture(scope="session")
def lasting_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHub]:
    """The session's hub; take `clean_hub` instead."""
    hub = RealHub(tmp_path_factory.mktemp("lasting-hub"))
    hub.start()
    yield hub
    hub.kill()


@pytest.fixture
def clean_hub(lasting_hub: RealHub) -> RealHub:
    """The session's hub without any group. Users of earlier tests may be there; do not stop it."""

    async def clear() -> None:
        async with HubClient(lasting_hub.api_url, lasting_hub.token) as hub:
            for name in await hub.list_groups():
                await hub.delete_group(name)

    asyncio.run(clear())
    return lasting_hub
