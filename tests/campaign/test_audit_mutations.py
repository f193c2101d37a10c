"""All ways of tampering with each event of a log are found: tens of thousands of tampered logs.

How long at most: AUDIT_MUTATIONS_SECONDS (40 minutes); what was reached is printed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyterhub_collab.policy.audit_finding import Kind
from tests.policy.audit_logs import Log
from tests.policy.test_audit_mutations import ANCHORED, Scene, run_all
from tests.storage.index_mutations import MARK, SIZE, IndexScene

SECONDS = float(os.environ.get("AUDIT_MUTATIONS_SECONDS", "2400"))


@pytest.mark.campaign
@pytest.mark.timeout(3600)
def test_every_row_that_searches_go_along_and_each_place_of_the_mark(tmp_path: Path) -> None:
    scene = IndexScene(tmp_path)
    for event in range(1, SIZE + 1):
        scene.check_rows(event)
    for to in range(SIZE + 2):
        if to != MARK:
            scene.check_mark(to)
    scene.check_control()
    print(f"\n{dict(scene.found)}")
    scene.close()


@pytest.mark.campaign
@pytest.mark.timeout(SECONDS + 1200)
def test_every_tampering_with_every_event() -> None:
    scene = Scene()
    for length in range(ANCHORED):
        cut = Log(scene.log.rows[:length], (), scene.log.tiles)
        first = scene.checker.check(cut, scene.with_tiles).first_bad
        assert first is not None
        assert (first.kind, first.first) == (Kind.CUT, length + 1)
    tried = run_all(scene, SECONDS)
    print(f"\ncut at {ANCHORED} lengths; {dict(tried)}; found as {dict(scene.found)}")
    assert tried["events"] > 0
