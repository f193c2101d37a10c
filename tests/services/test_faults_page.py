"""docs/faults.md names a test for every fault, and every test of faults to order has a line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
#: Whose every test has to have a line.
TOLD = (
    "tests/campaign/test_clock_steps.py",
    "tests/campaign/test_etcd_restored.py",
    "tests/campaign/test_faults_to_order.py",
    "tests/campaign/test_token.py",
    "tests/services/test_faults.py",
    "tests/services/test_rotation.py",
)


def read_tests(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name for node in tree.body if isinstance(node, kinds) and node.name.startswith("test_")
    }


def read_cases() -> set[str]:
    """Names of the faults to order."""
    tree = ast.parse((ROOT / "tests/campaign/test_faults_to_order.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "CASES":
            assert isinstance(node.value, ast.Dict)
            return {ast.literal_eval(key) for key in node.value.keys if key is not None}
    raise AssertionError("no CASES")


def named() -> list[tuple[str, str, str]]:
    """File, test and parameter."""
    found = re.findall(r"`(tests/[\w/.]+)::(\w+)(?:\[([\w-]+)\])?`", PAGE.read_text())
    assert len(found) > 40
    return found


@pytest.mark.parametrize(("file", "test", "case"), named())
def test_every_test_that_is_named_is_there(file: str, test: str, case: str) -> None:
    assert test in read_tests(file)
    assert not case or case in read_cases()


def test_every_fault_has_its_line() -> None:
    lines = {(file, test) for file, test, _ in named()}
    there = {(file, test) for file in TOLD for test in read_tests(file)}
    assert there - lines == set()
    assert {case for _, _, case in named() if case} == read_cases()


def test_every_line_names_a_test() -> None:
    table = PAGE.read_text().split("## Figures")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    without = [row for row in rows[1:] if "`tests/" not in row]
    assert without == []
