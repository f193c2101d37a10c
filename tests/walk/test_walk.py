"""The main job, walked through in a real browser, on the embedded cluster and on a real node.

ada is in two teams. She chooses one, watches her server start, runs the starter notebook to its
end, saves for the team, stops. grace, of the same team, reads it. alan, of another, cannot.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser, Error, expect  # noqa: E402

from jupyterhub_collab.cli.up.lease import read_live_holder  # noqa: E402
from tests.cluster.cluster import Cluster  # noqa: E402
from tests.walk.ground import Run, running  # noqa: E402
from tests.walk.job import NOTEBOOK, share_and_refuse, work_and_save  # noqa: E402
from tests.walk.node import arrange  # noqa: E402
from tests.walk.people import Person, meet  # noqa: E402
from tests.walk.walls import (  # noqa: E402
    check_healing,
    check_memory_limit,
    check_walls,
    wait_until_reached,
)

# The whole job, three servers started and stopped, on a machine that may be busy.
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_walk_on_the_embedded_cluster(browser: Browser, tmp_path: Path, shots: Path) -> None:
    with running(tmp_path / "data") as run:
        assert "isolates nothing" in run.out.read_text()
        ada = meet(browser, "ada", hub=run.url, shots=shots)
        ada.page.goto(run.url)
        expect(ada.page.get_by_role("note")).to_contain_text("isolates nothing")
        work_and_save(ada, run)
        grace, alan = share_and_refuse(browser, run, shots)
        results = run.data / "cluster/volumes/team-ocean/team/results"
        assert (results / "summary.txt").read_text() == grace.read_file("team/results/summary.txt")
        assert not (run.data / "cluster/volumes/team-forest/team/results").exists()
        alan.page.context.close()
        run.kill()
    survive(grace, run, tmp_path)
    come_back(browser, run, tmp_path, shots)


@pytest.mark.node
def test_walk_on_a_real_node(
    browser: Browser, node_cluster: Cluster, tmp_path: Path, shots: Path
) -> None:
    shots = shots / "node"
    shots.mkdir(exist_ok=True)
    with running(tmp_path / "data", *arrange(node_cluster, tmp_path / "credentials")) as run:
        assert "isolates nothing" not in run.out.read_text()
        ada = meet(browser, "ada", hub=run.url, shots=shots)
        work_and_save(ada, run)
        grace, alan = share_and_refuse(browser, run, shots)
        check_walls(alan, cluster=node_cluster, run=run)
        check_healing(alan, cluster=node_cluster, run=run)
        alan.page.context.close()
        wait_until_reached(grace)
        # In two teams, with a server in the other one.
        ada = meet(browser, "ada", hub=run.url, shots=shots)
        ada.sign_in()
        ada.start("payrolls")
        assert ada.list_folder("team") == []
        assert ada.list_folder("data") == ["us-employment"]
        check_walls(ada, cluster=node_cluster, run=run)
        assert grace.list_folder("team/results")  # the twin: who may, can, at the same time
        check_memory_limit(ada, cluster=node_cluster)


def survive(grace: Person, run: Run, tmp_path: Path) -> None:
    """After kill -9 of `up` her server runs on, and the next start leads her to it again."""
    port = int(run.url.rpartition(":")[2])
    with running(tmp_path / "data", port=port) as again:
        said = again.out.read_text()
        assert "ended without an orderly stop; going on from what it left" in said
        assert "climatology" in grace.read_file("team/results/summary.txt")
        grace.page.goto(f"{run.url}/hub/home")
        expect(grace.page.locator("#stop")).to_be_visible()
        grace.page.goto(f"{grace.server}/lab")
        for program in ("proxy", "cluster-api", "cluster-node", "provisioner", "hub"):
            kill_alone(program, again)
            wait_for_answer(grace, "team/results/summary.txt")
        grace.page.context.close()


def kill_alone(program: str, run: Run) -> None:
    """kill -9 of one program; `up` says when it is back."""
    holder = read_live_holder(run.data / "leases" / f"{program}.lock")
    assert holder is not None
    said = run.out.read_text().count("is back.")
    os.kill(holder.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while run.out.read_text().count("is back.") == said:
        assert time.monotonic() < deadline, run.out.read_text()
        time.sleep(0.2)


def wait_for_answer(person: Person, path: str) -> None:
    """The person's server answers as before, at the latest when the hub wrote its routes anew."""
    deadline = time.monotonic() + 30
    while True:
        try:
            assert "climatology" in person.read_file(path)
            return
        except (AssertionError, Error):
            if time.monotonic() > deadline:
                raise
            person.page.wait_for_timeout(300)


def come_back(browser: Browser, run: Run, tmp_path: Path, shots: Path) -> None:
    """After a stop of everything: same accounts, same homes, same results."""
    port = int(run.url.rpartition(":")[2])
    with running(tmp_path / "data", port=port) as again:
        assert again.url == run.url
        ada = meet(browser, "ada", hub=again.url, shots=shots)
        ada.sign_in()
        ada.start("ocean")
        assert "climatology" in ada.read_file("team/results/summary.txt")
        saved = ada.fetch(f"{ada.server}/api/contents/{NOTEBOOK}")[1]
        assert "Saved for the team" in saved  # with its outputs, in her own home
