"""docs/node-faults.md names a test for every fault, and every such test is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "node-faults.md"
FILES = ("tests/in_cluster/test_faults.py", "tests/campaign/test_node_faults.py")


def read_tests(file: str) -> set[str]:
    names = re.findall(r"^def (test_\w+)\(", (ROOT / file).read_text(), re.MULTILINE)
    return {f"{file}::{name}" for name in names}


def test_every_line_names_a_test_and_every_test_has_a_line() -> None:
    named = set(re.findall(r"`(tests/[\w/.]+::\w+)`", PAGE.read_text()))
    assert named == set.union(*map(read_tests, FILES))
