"""What all tests share: the clusters, suites in order, how long each took, what went unproved.

A suite is a folder below ``tests`` (or a file right in it). The tables at the end are part of the
result: a skipped test stands there with what it would have proved.
"""

from __future__ import annotations

import gc
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in each run: only a change makes a test fail. `make campaign` draws new ones.
# No deadlines: how long an example takes says how busy the machine is.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("default", deadline=None)
settings.load_profile("same")

TESTS = Path(__file__).parent
pytest_plugins = [
    name
    for name in (
        "tests.cluster.fixtures",
        "tests.contract.plugin",
        "tests.hub_fixtures",
        "tests.orderly_end",
        "tests.services.contests.fixtures",
    )
    if find_spec(name)
]


@pytest.fixture(autouse=True, scope="module")
def _leave_nothing_open() -> Iterator[None]:
    """What a module forgot to close is found at its end, not somewhere later."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _keep_log() -> Iterator[None]:
    """An authenticator made in a test has our log join the hub's: not for the tests after it."""
    ours = logging.getLogger("jupyterhub_collab")
    before = ours.handlers[:], ours.propagate, ours.level
    yield
    ours.handlers[:], ours.propagate = before[:2]
    ours.setLevel(before[2])


def _suite(nodeid: str) -> str:
    path = nodeid.split("::")[0].removeprefix("tests/")
    return path.split("/")[0].removesuffix(".py")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DURATIONS] = defaultdict(float)
    config.stash[_OUTCOMES] = defaultdict(Counter)


_DURATIONS = pytest.StashKey[dict[str, float]]()
_OUTCOMES = pytest.StashKey[dict[str, Counter[str]]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Campaigns run when asked for by name only: they are long."""
    if config.option.markexpr:
        return
    campaign = [item for item in items if item.get_closest_marker("campaign")]
    if campaign:
        config.hook.pytest_deselected(items=campaign)
        items[:] = [item for item in items if not item.get_closest_marker("campaign")]


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through it at each module's end took half a minute."""
    gc.collect()
    gc.freeze()


class _Clock:
    """Adds up what each suite took and how its tests ended."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        suite = _suite(report.nodeid)
        self._config.stash[_DURATIONS][suite] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self._config.stash[_OUTCOMES][suite][report.outcome] += 1


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.pluginmanager.register(_Clock(session.config), "suite-clock")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    config = terminalreporter.config
    durations = config.stash[_DURATIONS]
    if not durations:
        return
    terminalreporter.section("suites")
    for suite, seconds in sorted(durations.items(), key=lambda pair: -pair[1]):
        counts = ", ".join(
            f"{n} {how}" for how, n in sorted(config.stash[_OUTCOMES][suite].items())
        )
        terminalreporter.write_line(f"{seconds:8.1f} s  {suite:28s} {counts}")
    terminalreporter.write_line(f"{sum(durations.values()):8.1f} s  in all")
