"""Writes docs/embedded.md from the contract suite: ``python -m tests.contract.docs``.

Statements are the docstrings of the tests; what the embedded cluster does not keep is what bears
the mark `embedded_excused`, with its reason. Nothing else is known here, so the page cannot say
more than the tests do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jupyterhub_collab import embedded

SUITE: Final = Path(__file__).parent
PAGE: Final = SUITE.parents[1] / "docs" / "embedded.md"

_HEAD: Final = """\
# The embedded cluster

*This page is generated from the contract suite: `python -m tests.contract.docs`.*

The embedded cluster is a stand-in for Kubernetes on one's own machine: an API server and a node,
in Python alone, without root and without containers. `jupyterhub-collab up` starts it when it is
given no other cluster. Each pod is a local process.

> **{warning}**

Volumes and pods that bear the label `{label}: "true"` are refused.

## What it does not keep

Each of these holds on a real Kubernetes, where a test shows it; on the embedded cluster it does
not. The same tests run there too, and fail as soon as one of them begins to hold.

| On a real Kubernetes | On the embedded cluster |
|---|---|
"""
_MIDDLE: Final = """
## What it keeps

Each statement is a test that runs on a real API server (or node) and on the embedded cluster.
What is not in this list it need not do.
"""


@dataclass(frozen=True)
class Statement:
    """One contract: what it says, and why the embedded cluster is excused, if it is."""

    chapter: str
    text: str
    excuse: str | None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _excuse(test: ast.AsyncFunctionDef | ast.FunctionDef) -> str | None:
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("embedded_excused"):
            return str(ast.literal_eval(mark.args[0]))
    return None


def read_statements() -> Iterator[Statement]:
    """All statements of the suite, in order."""
    for file in sorted(SUITE.glob("test_*.py")):
        tree = ast.parse(file.read_text())
        chapter = (ast.get_docstring(tree) or "").splitlines()[0].rstrip(".")
        for node in tree.body:
            is_test = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            if is_test and node.name.startswith("test_"):  # type: ignore[attr-defined]
                assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                text = ast.get_docstring(node)
                assert text, f"{file.name}: {node.name} states nothing"
                yield Statement(chapter, _one_line(text), _excuse(node))


def make_page() -> str:
    """The whole page."""
    statements = list(read_statements())
    page = _HEAD.format(warning=embedded.WARNING, label=embedded.PROTECTED_LABEL)
    for statement in (s for s in statements if s.excuse):
        page += f"| {statement.text} | {statement.excuse} |\n"
    page += _MIDDLE
    for chapter in dict.fromkeys(s.chapter for s in statements):
        kept = [s for s in statements if s.chapter == chapter and not s.excuse]
        page += f"\n### {chapter}\n\n" + "".join(f"- {s.text}\n" for s in kept) if kept else ""
    return page


if __name__ == "__main__":
    PAGE.write_text(make_page())
    print(f"wrote {PAGE}")
