"""kill -9 of the audit service and of programs under audit, under load, at random moments.

What was acknowledged is in the log, each event is there once, no number is missing, and nothing
protected ever happened without its event. Run by ``make campaign``.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.audit_scene import Scene, assert_nothing_lost, playing
from tests.services.running import wait_until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(3600)]

KILLS = int(os.environ.get("CAMPAIGN_AUDIT_KILLS", "200"))


@pytest.fixture
def scene(tmp_path: Path, url: str) -> Iterator[Scene]:
    with playing(tmp_path, url) as found:
        yield found


def kill_at_random(scene: Scene, kills: int, chance: random.Random) -> None:
    """Half of the kills hit the service, the others programs; one in four while it starts."""
    for _ in range(kills):
        time.sleep(chance.uniform(0.02, 0.4))  # the moment is what is drawn
        if chance.random() < 0.5:
            if chance.random() < 0.75:
                wait_until(
                    scene.service.is_up, timeout_s=60, what=lambda: scene.service.log[-3000:]
                )
                time.sleep(chance.uniform(0.0, 2.0))
            scene.kill_service()
            scene.service.start()
        else:
            program = chance.choice(scene.programs)
            scene.kill_program(program)
            program.start()


def test_kills(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    kill_at_random(scene, KILLS, random.Random(20270131))
    wait_until(scene.service.is_up, timeout_s=60, what=lambda: scene.service.log[-3000:])
    scene.deliver_all()
    found = assert_nothing_lost(scene)
    assert sum(scene.alive.values()) >= 0.9 * KILLS
    assert found.done > KILLS  # the load was real
    with capsys.disabled():
        took_s = time.monotonic() - start
        print(f"\n{dict(scene.alive)} killed alive in {took_s:.0f} s; {found}")
