"""The data folder and its leases: whole, in use, somebody else's, cut short."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jupyterhub_collab.cli.up.child import EXIT_LEASE_HELD
from jupyterhub_collab.cli.up.data_folder import (
    TOKENS,
    DataFolder,
    choose_ports,
    open_data_folder,
    write_file,
)
from jupyterhub_collab.cli.up.lease import Lease, LeaseHeldError, end_leftover, read_live_holder
from jupyterhub_collab.cli.up.ports import check_port, find_free_port
from jupyterhub_collab.errors import UserError
from tests.cli.ports import listening

CHILD = [sys.executable, "-m", "jupyterhub_collab.cli.up.child"]


@contextmanager
def holding(path: Path, *, program: str = "import sys; sys.stdin.read()") -> Iterator[int]:
    """A process that holds a lease, as a program that `up` started does."""
    command = [*CHILD, str(path), "hub", str(os.getpid()), sys.executable, "-c"]
    script = f"print('on', flush=True); {program}"
    with subprocess.Popen(
        [*command, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        try:
            yield process.pid
        finally:
            if process.poll() is None:
                process.kill()


def test_first_start_makes_a_whole_folder_that_only_its_owner_can_read(tmp_path: Path) -> None:
    opened = open_data_folder(tmp_path / "data")
    folder = opened.folder
    assert opened.notes == ()
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    tokens = {folder.read_token(name) for name in TOKENS}
    assert len(tokens) == len(TOKENS)
    assert all(len(token) == 64 for token in tokens)
    for secret in (folder.root / "secrets").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    opened.lease.release()


def test_second_start_finds_the_same_secrets(tmp_path: Path) -> None:
    first = open_data_folder(tmp_path / "data")
    before = [first.folder.read_token(name) for name in TOKENS]
    first.lease.release()
    second = open_data_folder(tmp_path / "data")
    assert [second.folder.read_token(name) for name in TOKENS] == before
    assert second.notes == ()
    second.lease.release()


def test_a_folder_in_use_is_refused_with_the_process_that_uses_it(tmp_path: Path) -> None:
    opened = open_data_folder(tmp_path / "data")
    with pytest.raises(UserError, match=f"already runs on .* as process {os.getpid()}; stop it"):
        open_data_folder(tmp_path / "data")
    opened.lease.release()


def test_a_stale_lock_is_told_apart_from_a_live_one(tmp_path: Path) -> None:
    root = tmp_path / "data"
    open_data_folder(root).lease.release()
    # As a killed process leaves it: its text is there, its lock is not.
    (root / "up.lock").write_text(json.dumps({"pid": 999_999_999, "name": "up"}))
    opened = open_data_folder(root)
    assert opened.notes == (
        "The last run (process 999999999) ended without an orderly stop; "
        "going on from what it left.",
    )
    opened.lease.release()


def test_a_first_start_cut_short_anywhere_is_completed(tmp_path: Path) -> None:
    root = tmp_path / "data"
    whole = open_data_folder(root)
    kept = whole.folder.read_token("proxy")
    whole.lease.release()
    # As after a kill between the first secret and the marker.
    (root / "collab.json").unlink()
    (root / ".preparing").touch()
    whole.folder.secret("spawner-token").unlink()
    again = open_data_folder(root)
    assert again.notes == ("The first start in this folder was cut short; completing it.",)
    assert again.folder.read_token("proxy") == kept
    assert again.folder.read_token("spawner")
    assert not (root / ".preparing").exists()
    again.lease.release()


def test_a_folder_of_somebody_elses_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match=r"holds other files \(thesis\.tex\); choose an empty"):
        open_data_folder(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "lost", ["secrets/proxy-token", "secrets/contests-token", "hub", "cluster"]
)
def test_a_folder_that_lost_something_is_refused_not_patched(tmp_path: Path, lost: str) -> None:
    root = tmp_path / "data"
    open_data_folder(root).lease.release()
    (root / lost).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"is incomplete .*{Path(lost).name} missing"):
        open_data_folder(root)
    assert not (root / lost).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x01"])
def test_a_damaged_marker_is_one_sentence(tmp_path: Path, text: str) -> None:
    root = tmp_path / "data"
    open_data_folder(root).lease.release()
    (root / "collab.json").write_text(text)
    with pytest.raises(UserError, match=r"is damaged \(collab\.json cannot be read\)"):
        open_data_folder(root)


def test_a_folder_of_a_later_format_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "data"
    open_data_folder(root).lease.release()
    (root / "collab.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(UserError, match="was written in format 2 and this version reads format 1"):
        open_data_folder(root)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be used \((Not a directory|File exists)\)"):
        open_data_folder(tmp_path / "file" / "data")


def test_write_file_replaces_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    write_file(target, "old")

    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_file(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_inner_ports_stay_the_same_until_one_is_taken(tmp_path: Path) -> None:
    opened = open_data_folder(tmp_path / "data")
    wanted = {"hub": "127.0.0.1", "provisioner": "127.0.0.1"}
    first = choose_ports(opened.folder, wanted, public_port=8000)
    assert choose_ports(opened.folder, wanted, public_port=8000) == first
    with listening(first["hub"]):
        moved = choose_ports(opened.folder, wanted, public_port=8000)
    assert moved["hub"] != first["hub"]
    assert moved["provisioner"] == first["provisioner"]
    assert len({*moved.values(), 8000}) == 3
    opened.lease.release()


def test_a_busy_port_names_who_has_it() -> None:
    port = find_free_port("127.0.0.1")
    check_port("127.0.0.1", port, option="--port")  # the allowed twin
    with (
        listening(port),
        pytest.raises(
            UserError, match=rf"Port {port} is taken by .+ \(process {os.getpid()}\); stop it, or"
        ),
    ):
        check_port("127.0.0.1", port, option="--port")


def test_a_lease_outlives_the_change_into_another_program_and_dies_with_it(tmp_path: Path) -> None:
    lock = tmp_path / "hub.lock"
    assert read_live_holder(lock) is None
    with holding(lock) as pid:
        holder = read_live_holder(lock)
        assert holder is not None
        assert (holder.pid, holder.name) == (pid, "hub")
        with pytest.raises(LeaseHeldError):
            Lease(lock).take("hub")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert read_live_holder(lock) is None
        previous = Lease(lock).take("hub")
        assert previous is not None
        assert previous.pid == pid


def test_a_second_program_of_one_name_says_who_is_there(tmp_path: Path) -> None:
    lock = tmp_path / "hub.lock"
    with holding(lock) as pid:
        second = subprocess.run(
            [*CHILD, str(lock), "hub", str(os.getpid()), "true"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert second.returncode == EXIT_LEASE_HELD
    assert second.stderr == f"hub already runs on this data folder as process {pid}.\n"


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(300)",
        "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, [15]); s.pause()",
    ],
    ids=["obedient", "deaf to SIGTERM"],
)
def test_what_a_dead_supervisor_left_is_ended(tmp_path: Path, program: str) -> None:
    lock = tmp_path / "hub.lock"
    with holding(lock, program=program) as pid:
        ended = end_leftover(lock, timeout_s=0.5)
        assert ended is not None
        assert ended.pid == pid
        assert read_live_holder(lock) is None
    assert end_leftover(lock) is None


def test_paths_lie_in_the_folder(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    for path in (folder.hub, folder.cluster, folder.accounts, folder.lease("hub"), folder.logs):
        assert path.is_relative_to(tmp_path)
