"""The audit service with a full disk, without its database, with a clock that is set; and programs
whose own disk is full. Run by ``make campaign``.

While it lasts what is protected is refused and everything else waits; then all is there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.campaign.audit_scene import Scene, assert_nothing_lost, playing
from tests.services.running import wait_until

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(300)]

HOUR_S: Final = 3600
SIZE_BYTES: Final = 48 * 1024 * 1024


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own, mounted there."""
    if os.geteuid() != 0:
        pytest.skip("not root: it was not shown what a full disk does")
    folder.mkdir(exist_ok=True)
    options = f"size={SIZE_BYTES},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    """Take all the room on a disk; the file that has it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return ballast


def until_more(scene: Scene, name: str, more: int) -> None:
    """Wait until each program noted so many more lines."""
    wanted = {program.name: len(program.lines(name)) + more for program in scene.programs}
    wait_until(
        lambda: all(len(one.lines(name)) >= wanted[one.name] for one in scene.programs),
        timeout_s=60,
        what=lambda: scene.service.log[-3000:],
    )


def until_done(scene: Scene) -> None:
    """Wait until every program does protected things."""
    until_more(scene, "done", 10)


def until_refused(scene: Scene) -> None:
    """Wait until none does any more."""
    until_more(scene, "refused", 10)
    done = [program.lines("done") for program in scene.programs]
    until_more(scene, "refused", 10)
    assert [program.lines("done") for program in scene.programs] == done


def test_the_services_disk_is_full(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def prepare(scene: Scene) -> None:
            stack.enter_context(small_disk(scene.service.sqlite.parent))

        with playing(tmp_path, before=prepare) as scene:
            until_done(scene)
            ballast = fill(scene.service.sqlite.parent)
            until_refused(scene)
            ballast.unlink()
            until_done(scene)
            ballast = fill(scene.service.sqlite.parent)
            until_refused(scene)
            scene.kill_service()
            ballast.unlink()
            scene.service.start_and_wait()
            until_done(scene)
            scene.deliver_all()
            found = assert_nothing_lost(scene)
        assert found.refused >= 40


def test_a_programs_disk_is_full(tmp_path: Path) -> None:
    with ExitStack() as stack:

        def prepare(scene: Scene) -> None:
            for program in scene.programs:
                stack.enter_context(small_disk(program.folder / "spool"))

        with playing(tmp_path, before=prepare) as scene:
            until_done(scene)
            ballasts = [fill(program.folder / "spool") for program in scene.programs]
            until_refused(scene)
            for ballast in ballasts:
                ballast.unlink()
            until_done(scene)
            scene.deliver_all()
            assert_nothing_lost(scene)
            for program in scene.programs:
                said = (program.folder / "log").read_text()
                assert said.count("cannot be spooled") == 1
                assert "lost=0" in said


def processes_of(url: str) -> list[int]:
    """The postmaster of a PostgreSQL server, and its children."""
    (folder,) = parse_qs(urlsplit(url).query)["host"]
    postmaster = int((Path(folder) / "data" / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [postmaster, *map(int, children)]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_the_database_is_away(tmp_path: Path, url: str) -> None:
    with playing(tmp_path, url) as scene:
        until_done(scene)
        stopped = processes_of(url)
        for number in stopped:
            os.kill(number, signal.SIGSTOP)
        try:
            until_refused(scene)
        finally:
            for number in stopped:
                os.kill(number, signal.SIGCONT)
        until_done(scene)
        for number in processes_of(url)[1:]:  # a crash: the postmaster starts all anew
            os.kill(number, signal.SIGKILL)
        until_done(scene)
        scene.deliver_all()
        found = assert_nothing_lost(scene)
    assert found.refused >= 40


def test_clocks_are_set(tmp_path: Path, clock: Callable[[int], None]) -> None:
    with playing(tmp_path) as scene:
        until_done(scene)
        for offset_s in (HOUR_S, -HOUR_S, 24 * HOUR_S, 0):
            clock(offset_s)
            time.sleep(0.5)
            until_done(scene)
        scene.deliver_all()
        found = assert_nothing_lost(scene)
        log = scene.log()
    assert found.refused == 0
    stored = [one["stored"] for one in log]
    assert stored == sorted(stored)  # the log's own time never goes back
    assert len({one["time"][:13] for one in log}) >= 3  # and the programs' did
