"""A whole contest of 200 teams on a real node, while its programs are killed with SIGKILL.

The script is that of the embedded rehearsal (tests/walk). The contests service is killed at every
step of its courses (`killer`), provisioner and hub in the middle of their work; the end is checked
as if nothing had been. Beside it another contest has a member at work, and notices nothing.
"""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from jupyterhub_collab.cli.up.data_folder import DataFolder
from jupyterhub_collab.models.contest_life import Step
from tests.campaign.killer import RARE, SERVICE, Killer
from tests.campaign.visitor import Probe, Visitor
from tests.cluster.cluster import Cluster
from tests.walk.contest_script import BESIDE, Play, Scale, beside
from tests.walk.ground import Run, running
from tests.walk.node import arrange
from tests.walk.rehearsal import CONTEST, Rehearsal
from tests.walk.stages import NodeStage

pytestmark = [pytest.mark.campaign, pytest.mark.node, pytest.mark.timeout(5400)]

#: How many register; with fewer it is quicker.
TEAMS: Final = int(os.environ.get("COLLAB_REHEARSAL_TEAMS", "200"))
SCALE: Final = Scale(
    teams=TEAMS,
    cuts=(TEAMS // 4, max(2, TEAMS // 20), 1),
    workers=(max(3, min(12, TEAMS // 10)), 4, 4),
    export_window_s=300,
    patience_s=1800,
)
ALSO: Final = (
    (("admit", "await-ready"), "provisioner"),
    (("eliminate", "drain"), "hub"),
    (("destroy", "archive"), "provisioner"),
)
SEED: Final = int(os.environ.get("COLLAB_REHEARSAL_SEED", "1"))


def start_beside(run: Run) -> Visitor:
    """A member of the other contest is at work."""
    ada = Visitor("ada", url=run.url, accounts=DataFolder(run.data).accounts)
    ada.sign_in()
    ada.start("payrolls")
    ada.write_file("team/own.txt", "ada's")
    return ada


def test_a_contest_of_200_teams_under_kills(
    node_cluster: Cluster, tmp_path: Path, figures: list[str]
) -> None:
    with running(tmp_path / "data", *arrange(node_cluster, tmp_path / "credentials")) as run:
        stage = NodeStage(node_cluster)
        with (
            closing(Rehearsal(run, stage.kubeconfig)) as rehearsal,
            closing(start_beside(run)) as ada,
        ):
            rehearsal.until_quiet(BESIDE, timeout_s=120)
            before = beside(rehearsal)
            play = Play(rehearsal, stage, SCALE, tmp_path)
            killer = Killer(rehearsal.folder, CONTEST, also=ALSO, seed=SEED)
            # Two processors are shared with a dozen servers that start: late is not gone.
            with Probe(ada, every_s=1, timeout_s=60) as probe:
                with killer:
                    play.assemble()
                    play.go_through_rounds()
                    play.tear_down()
                play.check_end()
            figures += [f"{seconds:8.1f} s  {act}" for act, seconds in play.took.items()]
            figures += tell(killer, play, probe)
            assert probe.asked > 60
            assert probe.failed == 0, f"{probe.failed} of {probe.asked}"
            assert beside(rehearsal) == before, "the other contest never noticed"
    # So few teams are through with a step before there is a kill for it.
    assert killer.steps >= (RARE if TEAMS < 100 else {step.value for step in Step})
    assert [kill.part for kill in killer.kills if kill.part != SERVICE].count("hub") == 1
    assert not killer.left


def tell(killer: Killer, play: Play, probe: Probe) -> list[str]:
    """What was killed, and what was done all the same."""
    parts = [kill.part for kill in killer.kills]
    copies = play.rows(
        "select count(*), sum(bytes) from contest_archives where contest = ?", CONTEST
    )
    ((count, size),) = copies
    return [
        f"killed: the service {parts.count(SERVICE)} times, at {len(killer.steps)} of {len(Step)} "
        f"steps and {len(killer.covered)} pairs of course and step; the provisioner "
        f"{parts.count('provisioner')} times, the hub {parts.count('hub')} times",
        f"copied: {count} volumes, {size} bytes",
        f"beside: {probe.asked} requests to a server of the other contest, {probe.failed} failed",
    ]
