"""Whatever is done to the rows that searches go along, or to their mark, a check tells.

Here some events meet all ways; `make campaign` does each event and each place of the mark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.index_mutations import MARK, SIZE, IndexScene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[IndexScene]:
    scene = IndexScene(tmp_path)
    yield scene
    scene.close()


def test_rows_of_events_on_both_sides_of_the_mark(scene: IndexScene) -> None:
    scene.check_control()
    events = (1, 2, 257, 500, MARK - 1, MARK, MARK + 1, MARK + 2, 1100, SIZE - 1, SIZE)
    assert sum(scene.check_rows(event) for event in events) > 100
    assert len(scene.found) == 20
    scene.check_control()


def test_the_mark_at_another_place(scene: IndexScene) -> None:
    for to in (-(2**63), -1, 0, 1, 256, MARK - 1, MARK + 1, SIZE - 1, SIZE, SIZE + 1, 2**63 - 1):
        scene.check_mark(to)
    scene.check_control()
