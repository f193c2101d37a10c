"""Pytest plugin: a real hub, one for each test that asks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real_hub import RealHub


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
