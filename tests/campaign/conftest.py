"""Campaigns use the provisioner's fixture, and tell how long each fault took to heal."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.conftest import make_provisioner
from tests.storage.conftest import postgresql, postgresql_url, url

__all__ = ["make_provisioner", "postgresql", "postgresql_url", "url"]

_HEALED: list[tuple[str, float]] = []
_FIGURES: list[str] = []


@pytest.fixture
def healed(request: pytest.FixtureRequest) -> Callable[[float], None]:
    """Told the seconds from the end of a fault until all stood again."""
    return lambda seconds: _HEALED.append((request.node.name, seconds))


@pytest.fixture
def figures() -> list[str]:
    """Lines that are shown at the end of all."""
    return _FIGURES


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the clock of all programs started from now on, in seconds off the true time."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler on Linux: clock steps were not shown")
    library, file = tmp_path / "clock_step.so", tmp_path / "offset"
    source = Path(__file__).with_name("clock_step.c")
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    file.write_bytes(struct.pack("=q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("COLLAB_TEST_CLOCK", str(file))

    def step(offset_s: int) -> None:
        with file.open("r+b") as found:
            found.write(struct.pack("=q", offset_s))

    return step


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _FIGURES:
        terminalreporter.section("figures")
        for line in _FIGURES:
            terminalreporter.write_line(line)
    if not _HEALED:
        return
    terminalreporter.section("healing: from the end of a fault until all stood again")
    for name, seconds in _HEALED:
        terminalreporter.write_line(f"{seconds:8.1f} s  {name}")
    longest = max(_HEALED, key=lambda pair: pair[1])
    count = len(_HEALED)
    terminalreporter.write_line(f"{count} faults, the longest {longest[1]:.1f} s ({longest[0]})")
