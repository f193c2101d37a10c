"""The embedded programs start, refuse to start, and end: each with one clear sentence."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jupyterhub_collab import embedded
from jupyterhub_collab.errors import PermanentError
from tests.contract.clusters import program


def _run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that is not expected to start."""
    argv = [sys.executable, "-m", f"jupyterhub_collab.embedded.{name}", "--dir", str(folder)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def _sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a refused start says: one line, no traceback, an exit code."""
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


def test_prepare_starts_nothing_and_keeps_what_is_there(tmp_path: Path) -> None:
    paths = embedded.prepare(tmp_path / "new")
    before = paths.kubeconfig.read_text()
    assert embedded.prepare(tmp_path / "new").kubeconfig.read_text() == before
    config = json.loads(before)
    assert config["clusters"][0]["cluster"]["server"] == paths.server
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(paths.server.rpartition(":")[2])))


def test_what_is_secret_is_the_owners(tmp_path: Path) -> None:
    paths = embedded.prepare(tmp_path / "new")
    for file in (paths.kubeconfig, *(paths.root / "pki").iterdir()):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700


def test_a_chosen_port_is_kept(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert embedded.prepare(tmp_path, port).server.endswith(f":{port}")
    assert embedded.prepare(tmp_path).server.endswith(f":{port}")


def test_an_orderly_end(tmp_path: Path) -> None:
    with program("api", tmp_path) as api, program("node", tmp_path) as node:
        for process in (node, api):
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0


def test_busy_port(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        embedded.prepare(tmp_path, port)
        said = _sentence(_run("api", tmp_path))
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert "choose another" in said


@pytest.mark.parametrize("name", ["api", "node"])
def test_another_instance(tmp_path: Path, name: str) -> None:
    with program("api", tmp_path), program("node", tmp_path):
        before = embedded.Paths(tmp_path).kubeconfig.read_text()
        said = _sentence(_run(name, tmp_path))
        assert embedded.Paths(tmp_path).kubeconfig.read_text() == before
    assert f"Another embedded {name}" in said
    assert str(tmp_path) in said


@pytest.mark.parametrize("name", ["ca.crt", "server.key", "token"])
def test_half_a_folder(tmp_path: Path, name: str) -> None:
    paths = embedded.prepare(tmp_path)
    (paths.root / "pki" / name).unlink()
    with pytest.raises(PermanentError, match=f"{name} is missing or empty"):
        embedded.prepare(tmp_path)
    assert "missing or empty" in _sentence(_run("api", tmp_path))


def test_certificates_lost_beside_data(tmp_path: Path) -> None:
    """Fresh certificates beside old data would lock out every kubeconfig copied elsewhere."""
    with program("api", tmp_path):
        pass
    (tmp_path / "pki").rename(tmp_path / "gone")
    with pytest.raises(PermanentError, match="lacks its pki folder"):
        embedded.prepare(tmp_path)


def test_a_torn_start_is_begun_anew(tmp_path: Path) -> None:
    """A kill while certificates were made leaves a folder that the next start clears away."""
    leftover = tmp_path / ".pki-torn"
    leftover.mkdir()
    (leftover / "ca.crt").write_text("half")
    embedded.prepare(tmp_path)
    assert not leftover.exists()


def test_broken_data(tmp_path: Path) -> None:
    paths = embedded.prepare(tmp_path)
    paths.database.write_bytes(b"this is no database, and long enough to be read as one" * 100)
    assert "cannot be read" in _sentence(_run("api", tmp_path))


def test_data_of_another_layout(tmp_path: Path) -> None:
    paths = embedded.prepare(tmp_path)
    with sqlite3.connect(paths.database) as connection:
        connection.execute("pragma user_version=99")
    connection.close()
    assert "its layout is number 99" in _sentence(_run("api", tmp_path))


def test_it_says_that_it_isolates_nothing() -> None:
    assert "isolates nothing" in embedded.WARNING
