"""What is held outside: a folder, a log that was cut, an anchor that does not answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_collab.policy.checkpoint import LogSigner, LogVerifier
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from jupyterhub_collab.policy.tiles import Tile, TileHashes
from tests.services.audit.running import GATEWAY, AuditService, batch, event
from tests.services.running import wait_until

Make = Callable[..., AuditService]

GRANT = event("dataset.grant", outcome="allowed", contest="reef", datasets=["corals"])


@pytest.fixture
def service(make_service: Make, outside: Path) -> AuditService:
    """One with a folder outside; not started."""
    return make_service(anchors=[{"kind": "file", "folder": str(outside)}])


def open_newest(outside: Path, verifier: LogVerifier) -> Any:
    return verifier.open((outside / "checkpoint").read_text())


def wait_anchored(service: AuditService, outside: Path, size: int) -> None:
    """Until a folder holds so many events."""

    def is_held() -> bool:
        newest = outside / "checkpoint"
        return newest.exists() and open_newest(outside, service.signer.verifier).size >= size

    wait_until(is_held, timeout_s=15, what=lambda: service.log[-3000:])


def rows(service: AuditService) -> list[dict[str, Any]]:
    with sqlite3.connect(service.sqlite) as connection:
        found = connection.execute("SELECT body FROM audit_events ORDER BY sequence").fetchall()
    connection.close()
    return [json.loads(body) for (body,) in found]


def snapshot(service: AuditService, to: Path) -> None:
    """The database as it is now, while nobody writes."""
    to.mkdir()
    for file in service.sqlite.parent.glob("audit.sqlite*"):
        shutil.copy(file, to)


def restore(service: AuditService, of: Path) -> None:
    for file in service.sqlite.parent.glob("audit.sqlite*"):
        file.unlink()
    for file in of.iterdir():
        shutil.copy(file, service.sqlite.parent)


def fetch_from(folder: Path) -> Callable[[Tile], bytes | None]:
    """Tiles of a folder, as any tool reads them."""

    def fetch(tile: Tile) -> bytes | None:
        file = folder / tile.path
        return file.read_bytes() if file.exists() else None

    return fetch


def test_a_folder_holds_all_that_is_needed_to_check_the_log(
    service: AuditService, outside: Path
) -> None:
    service.start_and_wait()
    for first in range(1, 901, 300):
        service.post(batch(*[event()] * 300, first=first))
    service.post(batch(*[event()] * 77, first=901))
    assert service.end() == 0  # its last checkpoint is outside when it ends
    held = open_newest(outside, service.signer.verifier)
    with sqlite3.connect(service.sqlite) as connection:
        bodies = connection.execute("SELECT body FROM audit_events ORDER BY sequence").fetchall()
    connection.close()
    assert held.size == len(bodies) == 978
    leaves = [leaf_hash(body.encode()) for (body,) in bodies]
    assert held.root == root_of(leaves)
    tiles = TileHashes(held.size, fetch_from(outside))
    assert tiles.frontier().root() == held.root
    assert [h for n in range(4) for h in tiles.hashes(0, n)] == leaves
    notes = sorted(int(path.name) for path in (outside / "checkpoints").iterdir())
    assert notes[0] == 1
    assert notes[-1] == 978
    assert not list(outside.glob("tile/0/000.p"))  # nothing is kept twice
    service.start_and_wait()  # it goes on with what it left
    service.post(batch(event(), first=978))
    wait_anchored(service, outside, 980)
    assert service.health()["status"] == "ok"


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_log_put_back_to_an_earlier_state_does_nothing_protected_until_somebody_looked(
    service: AuditService, outside: Path, tmp_path: Path, is_moved: bool
) -> None:
    service.start_and_wait()
    service.post(batch(event()))
    service.end()
    snapshot(service, tmp_path / "snapshot")
    service.start_and_wait()
    service.post(batch(event(), event(), first=2))
    wait_anchored(service, outside, 5)
    service.end(signal.SIGKILL)
    restore(service, tmp_path / "snapshot")
    if is_moved:  # what the service itself remembers is enough
        for path in outside.iterdir():
            path.rename(tmp_path / f"moved-{path.name}")
    service.start_and_wait()
    assert service.health()["status"] == "refusing"
    assert "lacks a part of its past" in service.log
    evidence = {p: p.read_bytes() for p in outside.rglob("*") if p.is_file()}
    answer = service.post(batch(event("egress.connect"), GRANT), token=GATEWAY)
    assert answer.json()["rejected"] == [2]
    *_, started, connected, granted = rows(service)
    assert (started["verb"], started["reason"]) == ("audit.start", "anchor-ahead")
    assert connected["outcome"] == "succeeded"
    assert (granted["outcome"], granted["reason"]) == ("refused", "log-not-anchored")
    service.end()
    if not is_moved:
        for path, data in evidence.items():  # nothing of it was touched
            assert path.read_bytes() == data
    size = len(rows(service))
    wrong = refused(service, f"--accept-rollback={size - 1}")
    assert f"The log has {size} events, not {size - 1}" in wrong
    service.start_and_wait(f"--accept-rollback={size}")
    assert service.health()["status"] == "ok"
    accepted = rows(service)[-1]
    assert (accepted["verb"], accepted["reason"]) == ("audit.start", "rollback-accepted")
    assert accepted["details"]["accepted_size"] == size
    wait_anchored(service, outside, size + 1)
    if not is_moved:
        kept = outside / "set-aside-1"
        assert open_newest(kept, service.signer.verifier).size == 5
    answer = service.post(batch(GRANT, first=3), token=GATEWAY)
    assert "rejected" not in answer.json()
    service.end()
    service.start_and_wait()  # once is enough
    assert service.health()["status"] == "ok"
    service.end()
    assert "no rollback to accept" in refused(service, f"--accept-rollback={size}")


def refused(service: AuditService, *arguments: str) -> str:
    """The sentence with which it does not start."""
    service.start(*arguments)
    assert service.process is not None
    assert service.process.wait(20) == 1
    service.process = None
    line = service.log.strip().splitlines()[-1]
    assert line.startswith("audit: "), service.log[-2000:]
    return line


def test_a_folder_that_was_changed_is_left_as_it_is(service: AuditService, outside: Path) -> None:
    service.start_and_wait()
    service.post(batch(event()))
    service.end()
    other = LogSigner.generate("log.test/audit")  # whoever took the folder over has another key
    note = other.sign(500, b"x" * 32, open_newest(outside, service.signer.verifier).at)
    (outside / "checkpoint").write_text(note)
    service.start_and_wait()
    assert service.health()["status"] == "refusing"
    service.post(batch(event(), first=2))
    service.end()
    assert (outside / "checkpoint").read_text() == note


def test_beyond_the_window_nothing_protected_is_done_and_the_rest_goes_on(
    service: AuditService, outside: Path
) -> None:
    service.arguments = (*service.arguments, "--AuditApp.max_unanchored_events=5")
    outside.rename(outside.with_name("unmounted"))
    service.start_and_wait()
    assert "is not there. Mount the volume" in service.log
    first = service.post(batch(GRANT), token=GATEWAY)
    assert "rejected" not in first.json()  # within the window
    service.post(batch(*[event()] * 6))
    assert service.health()["status"] == "refusing"
    answer = service.post(batch(GRANT, event("dataset.read"), first=2), token=GATEWAY)
    assert answer.json()["rejected"] == [2]  # what happened already is recorded as it was told
    assert service.health()["warnings"] == ["anchors that do not take checkpoints: file"]
    assert not outside.exists()  # it is not made on this machine's own disk
    outside.with_name("unmounted").rename(outside)
    wait_until(
        lambda: service.health()["status"] == "ok", timeout_s=20, what=lambda: service.log[-3000:]
    )
    # One whose answer was lost comes again: it was stored as refused, and stays so.
    again = service.post(batch(GRANT, first=2), token=GATEWAY)
    assert again.json() == {"acknowledged": 3, "stored": None, "rejected": [2]}
    assert "rejected" not in service.post(batch(GRANT, first=4), token=GATEWAY).json()
    outcomes = [r["outcome"] for r in rows(service) if r["verb"] == "dataset.grant"]
    assert outcomes == ["allowed", "refused", "allowed"]


def test_the_age_of_what_is_not_outside_is_bounded_over_a_restart(
    service: AuditService, outside: Path
) -> None:
    service.arguments = (*service.arguments, "--AuditApp.max_unanchored_seconds=1.5")
    shutil.rmtree(outside)
    service.start_and_wait()
    service.post(batch(event()))
    wait_until(
        lambda: service.health()["status"] == "refusing", timeout_s=10, what=lambda: service.log
    )
    service.end()
    service.start_and_wait()
    assert service.health()["status"] == "refusing"  # its oldest event is as old as it is


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED without root: a disk that is full")
def test_a_full_volume_is_told_and_made_good_later(service: AuditService, outside: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(outside)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT PROVED: this machine mounts nothing: a disk that is full")
    try:
        (outside / "filler").write_bytes(b"x" * 60_000)
        service.start_and_wait()
        service.post(batch(*[event()] * 300))
        wait_until(
            lambda: "No space left" in service.log, timeout_s=15, what=lambda: service.log[-2000:]
        )
        assert service.health()["status"] == "warning"
        (outside / "filler").unlink()
        wait_anchored(service, outside, 301)
        assert not list(outside.rglob(".new-*"))
        service.end()
    finally:
        subprocess.run(["umount", str(outside)], check=True)


def test_without_an_anchor_it_warns_and_works(make_service: Make) -> None:
    service = make_service()
    service.start_and_wait()
    assert "no anchor outside" in service.log
    assert service.health()["warnings"] == [
        "the log has no anchor outside: its end can be cut off unseen"
    ]
    assert "rejected" not in service.post(batch(GRANT), token=GATEWAY).json()


def test_another_key_or_a_database_that_was_cut_is_refused(
    service: AuditService, tmp_path: Path
) -> None:
    service.start_and_wait()
    service.post(batch(*[event()] * 3))
    service.end()
    key = service.folder / "log.key"
    old = key.read_text()
    key.write_text(LogSigner.generate("log.test/audit").to_text())
    assert "not of the key in use" in refused(service)
    key.write_text(old)
    os.chmod(key, 0o644)
    assert f"chmod 600 {key}" in refused(service)
    os.chmod(key, 0o600)
    with sqlite3.connect(service.sqlite) as connection:
        connection.execute("DELETE FROM audit_events WHERE sequence = 4")
    connection.close()
    assert "audit verify" in refused(service)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("anchors.json", "{", "The file of anchors"),
        ("anchors.json", '{"anchors": [{"kind": "file"}]}', "anchors[0].file.folder"),
        (
            "anchors.json",
            json.dumps({"anchors": [{"kind": "file", "folder": "/tmp"}] * 2}),
            "a name of its own",
        ),
        ("emitters.json", "{}x", "The file of emitters"),
        ("log.key", "PRIVATE+KEY+hunter2", "cannot be used"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    service: AuditService, name: str, text: str, said: str
) -> None:
    service.prepare()
    (service.folder / name).write_text(text)
    if name == "anchors.json":
        service.prepare = lambda: None  # type: ignore[method-assign] - as it is
    line = refused(service)
    assert said in line
    assert "hunter2" not in service.log
