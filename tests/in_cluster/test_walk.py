"""The main job once more, with hub, proxy and provisioner as pods, as an admin would install them.

From a member's terminal the walls include the hub's own namespace: the hub's API answers, the
provisioner, the proxy's API and the name server do not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import Browser

from tests.in_cluster.home import Home
from tests.walk.job import share_and_refuse, work_and_save
from tests.walk.people import meet
from tests.walk.walls import check_walls

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.timeout(600)]


def test_walk_with_the_hub_in_the_cluster(browser: Browser, home: Home, shots: Path) -> None:
    shots = shots / "in-cluster"
    shots.mkdir(exist_ok=True)
    ada = meet(browser, "ada", hub=home.url, shots=shots, password=home.password)
    work_and_save(ada, home)
    grace, alan = share_and_refuse(browser, home, shots)
    check_walls(alan, cluster=home.cluster, run=home)
    assert grace.list_folder("team/results")  # the twin: who may, can, at the same time
    for person in (grace, alan):
        person.stop()
        person.page.context.close()
