"""Campaigns use the provisioner's fixture, and tell how long each fault took to heal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.services.conftest import make_provisioner

__all__ = ["make_provisioner"]

_HEALED: list[tuple[str, float]] = []


@pytest.fixture
def healed(request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Told the seconds from the end of a fault until all stood again."""
    return lambda seconds: _HEALED.append((request.node.name, seconds))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _HEALED:
        return
    terminalreporter.section("healing: from the end of a fault until all stood again")
    for name, seconds in _HEALED:
        terminalreporter.write_line(f"{seconds:8.1f} s  {name}")
    longest = max(_HEALED, key=lambda pair: pair[1])
    count = len(_HEALED)
    terminalreporter.write_line(f"{count} faults, the longest {longest[1]:.1f} s ({longest[0]})")
