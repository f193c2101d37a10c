"""Pytest plugin: the contract suite's excuses and its closing lines.

A contract that the embedded cluster is excused from runs there all the same, and must fail: an
excuse that is needed no more is an error. Where it cannot even run, the mark says ``run=False``.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import pytest

COUNTS: Final = pytest.StashKey[Counter[tuple[str, str]]]()


def _where(nodeid: str) -> str | None:
    if "tests/contract/" not in nodeid:
        return None
    name = nodeid.rpartition("[")[2]
    return next((w for w in ("real", "embedded") if w in name.rstrip("]").split("-")), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Turn excuses into expected failures, on the embedded cluster only."""
    for item in items:
        mark = item.get_closest_marker("embedded_excused")
        if mark is not None and _where(item.nodeid) == "embedded":
            run = mark.kwargs.get("run", True)
            item.add_marker(pytest.mark.xfail(reason=mark.args[0], run=run, strict=True))


class _Counter:
    def __init__(self, config: pytest.Config) -> None:
        self._counts = config.stash[COUNTS]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        where = _where(report.nodeid)
        if where is None or (report.when != "call" and report.passed):
            return
        excused = hasattr(report, "wasxfail") and report.skipped
        self._counts[where, "excused" if excused else report.outcome] += 1


def pytest_configure(config: pytest.Config) -> None:
    config.stash[COUNTS] = Counter()
    config.pluginmanager.register(_Counter(config), "contract-counter")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many statements held where, and how many the embedded cluster is excused from."""
    counts = config.stash[COUNTS]
    if not counts:
        return
    terminalreporter.section("contracts with Kubernetes")
    for where, what in (("real", "the real API server"), ("embedded", "the embedded cluster")):
        found = {how: n for (place, how), n in counts.items() if place == where}
        line = f"{found.get('passed', 0)} held on {what}"
        for how, words in (
            ("excused", "it is excused from"),
            ("failed", "did not hold"),
            ("skipped", "could not be tried"),
        ):
            line += f", {found[how]} {words}" if found.get(how) else ""
        terminalreporter.write_line(line)
