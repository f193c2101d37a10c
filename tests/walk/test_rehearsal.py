"""A whole contest on the embedded cluster: twenty teams, three cuts, an appeal, and teardown.

Each step is a host's or a team's; what follows from it is waited for and looked at. Beside it
another contest's teams stay as they were. The same with 200 teams, on a real node and under kills:
tests/campaign/test_rehearsal.py.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from tests.walk.contest_script import BESIDE, Play, Scale, beside
from tests.walk.ground import running
from tests.walk.rehearsal import Rehearsal
from tests.walk.stages import EmbeddedStage

pytestmark = pytest.mark.timeout(900)
SCALE = Scale(teams=20, cuts=(6, 3, 1), workers=(3, 3, 2), export_window_s=3600, patience_s=300)


def test_a_contest_from_draft_to_certificate(tmp_path: Path) -> None:
    with running(tmp_path / "data") as run:
        stage = EmbeddedStage(run)
        with closing(Rehearsal(run, stage.kubeconfig)) as rehearsal:
            rehearsal.until_quiet(BESIDE, timeout_s=120)
            before = beside(rehearsal)
            assert before[0], "the other contest has something to lose"  # type: ignore[index]
            play = Play(rehearsal, stage, SCALE, tmp_path)
            play.assemble()
            play.go_through_rounds()
            play.tear_down()
            play.check_end()
            assert beside(rehearsal) == before, "the other contest never noticed"
