"""Starting and stopping clusters, from the side of whoever wants one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.cluster import images, node_level, programs_build
from tests.cluster.address_plan import AddressPlan
from tests.cluster.errors import ClusterError
from tests.cluster.pins import REPOSITORY
from tests.cluster.record import RECORD_FILE, Level, Record, read_record

#: Kept in the cluster's folder; the keeper's own words, with the reason if it fails.
KEEPER_LOG: Final = "keeper.log"
POLL_S: Final = 0.02
#: A keeper kills its programs at once; more than this means that it hangs.
STOP_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Keeper:
    """A started keeper, whose standard input ties a cluster to this process."""

    directory: Path
    process: subprocess.Popen[bytes]
    record: Record

    def end(self) -> None:
        """Take the cluster down, delete its folder and wait for the keeper."""
        stop(self.directory)
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=STOP_TIMEOUT_S)

    def let_go(self) -> None:
        """Let a detached cluster outlive this process without a word."""
        self.process.returncode = 0


def start(level: Level, directory: Path, *, is_detached: bool, store: Path | None = None) -> Keeper:
    """Start a cluster in `directory` (new or empty) and wait until it is ready.

    A cluster that is not detached goes down with the calling process, however that ends. A node
    has the images of `store`, or those of now, which are built if need be.

    Raises
    ------
    CannotHave
        If this machine cannot have the level, with what to do about it.
    ClusterError
        If the start fails, with the reason and the end of the log concerned.
    """
    if level is Level.NODE:
        node_level.check_machine()
    binaries = programs_build.find_programs(level)
    old = read_record(directory)
    if old is not None and old.is_alive():
        raise ClusterError(f"a cluster runs in {directory} already; stop it first")
    if old is not None:
        remove_folder(directory)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ClusterError(f"{directory} is not empty and not a cluster's; name another folder")
    command = [sys.executable, "-m", "tests.cluster.keeper", str(directory), str(binaries)]
    command += ["--level", level.value] + ([] if is_detached else ["--tied"])
    if level is Level.NODE:
        store = store or images.ensure_store(images.ensure_images())
        command += ["--store", str(store)]
    with (directory / KEEPER_LOG).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL if is_detached else subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Keeper(directory, process, wait_until_ready(directory, process))


def wait_until_ready(directory: Path, process: subprocess.Popen[bytes]) -> Record:
    """Wait for the keeper to say that its cluster is ready (it has a time limit of its own)."""
    while True:
        record = read_record(directory)
        if record is not None and record.is_ready:
            return record
        if process.poll() is not None:
            log = (directory / KEEPER_LOG).read_text(errors="replace").strip()
            raise ClusterError(f"the cluster did not start: {log[-4000:]}")
        time.sleep(POLL_S)


def stop(directory: Path, *, should_forget: bool = False) -> bool:
    """Take down the cluster in `directory` and delete that folder; False if there was none.

    `should_forget` also removes the route that lets clients of a node that is gone fail at once:
    only when no client is left.
    """
    record = read_record(directory)
    if record is None:
        return False
    if record.is_alive():
        os.kill(record.keeper, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while record.is_alive() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        if record.is_alive():
            os.kill(record.keeper, signal.SIGKILL)
    if record.index is not None:
        node_level.sweep(AddressPlan(record.index), should_forget=should_forget)
    remove_folder(directory)
    return True


def remove_folder(directory: Path) -> None:
    """Delete a cluster's folder, and refuse any other."""
    if not (directory / RECORD_FILE).is_file():
        raise ClusterError(f"{directory} is not a cluster's folder; nothing was deleted")
    shutil.rmtree(directory)
