"""`up` and `doctor` as a person meets them: one clear sentence each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jupyterhub_collab.cli.up.ports import find_free_port
from tests.cli.ports import listening


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the program as a shell does."""
    return subprocess.run(
        [sys.executable, "-m", "jupyterhub_collab.cli.main", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What a failed run said, which must be one line without a traceback."""
    assert done.returncode == 1, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("jupyterhub-collab: ")
    return lines[0].removeprefix("jupyterhub-collab: ")


@pytest.fixture
def port() -> int:
    return find_free_port("127.0.0.1")


def test_a_busy_port(tmp_path: Path, port: int) -> None:
    with listening(port):
        said = sentence(run("up", "--port", str(port), "--data", "data", cwd=tmp_path))
    assert said.startswith(f"Port {port} is taken by ")
    assert f"(process {os.getpid()}); stop it, or choose another with --port." in said


def test_a_folder_of_somebody_elses(tmp_path: Path, port: int) -> None:
    (tmp_path / "photo.jpg").touch()
    said = sentence(run("up", "--port", str(port), "--data", tmp_path, cwd=tmp_path))
    assert "holds other files (photo.jpg)" in said


def test_a_missing_kubeconfig(tmp_path: Path, port: int) -> None:
    said = sentence(run("up", "--port", str(port), "--kubeconfig", "none", cwd=tmp_path))
    assert said == "The kubeconfig none cannot be read: No such file or directory."


@pytest.mark.parametrize("text", ["", "hello", "[1, 2]", "{clusters: 1}", "a: [", "contexts: []"])
def test_a_file_that_is_no_kubeconfig(tmp_path: Path, port: int, text: str) -> None:
    (tmp_path / "config").write_text(text)
    said = sentence(run("up", "--port", str(port), "--kubeconfig", "config", cwd=tmp_path))
    assert said.startswith("config is not a kubeconfig with a current context; try ")


@pytest.mark.parametrize("command", ["up", "doctor"])
def test_a_list_of_kubeconfigs(tmp_path: Path, port: int, command: str) -> None:
    """As somebody's KUBECONFIG may be one."""
    several = f"one{os.pathsep}two"
    done = run(command, "--port", str(port), "--kubeconfig", several, cwd=tmp_path)
    words = f"KUBECONFIG may name one file here, not several ({several}). Make one of them: "
    if command == "up":
        assert sentence(done).startswith(words)
        return
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if several in line]
    assert line.startswith(f"✗ {words}")
    assert "Traceback" not in done.stdout + done.stderr


def test_a_cluster_that_does_not_answer(tmp_path: Path, port: int) -> None:
    closed = find_free_port("127.0.0.1")
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"https://127.0.0.1:{closed}"}}],
        "users": [{"name": "u", "user": {"token": "secret-token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    done = run("up", "--port", str(port), "--kubeconfig", "config", cwd=tmp_path)
    said = sentence(done)
    assert f"The cluster of config at https://127.0.0.1:{closed} does not answer" in said
    assert "secret-token" not in done.stdout + done.stderr


def test_a_missing_manifest(tmp_path: Path, port: int) -> None:
    said = sentence(run("up", "--port", str(port), "none.yaml", cwd=tmp_path))
    assert said == "The contest manifest none.yaml cannot be read: No such file or directory."


def test_mistakes_in_a_manifest_are_told_by_line_before_anything_starts(
    tmp_path: Path, port: int
) -> None:
    (tmp_path / "contest.yaml").write_text(
        "apiVersion: jupyterhub-collab.org/v1alpha1\nkind: Contest\ncontest: {id: Rain}\n"
    )
    done = run("up", "--port", str(port), "--data", "data", "contest.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "contest.yaml:3: contest.id: found " in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "data/leases").iterdir()) == []  # no program was started


def test_doctor_is_one_line_a_check_and_changes_nothing(tmp_path: Path, port: int) -> None:
    done = run("doctor", "--data", "data", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert len(lines) == 11
    assert all(line[0] in "✓!" for line in lines)
    assert any("isolates nothing" in line for line in lines)
    assert any("NetworkPolicies: kept, not enforced" in line for line in lines)
    assert any("Admission policies: none on the embedded cluster" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_doctor_fails_when_up_would(tmp_path: Path, port: int) -> None:
    (tmp_path / "photo.jpg").touch()
    with listening(port):
        done = run("doctor", "--data", tmp_path, "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    bad = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert len(bad) == 2
    assert "holds other files" in bad[0]
    assert f"Port {port} is taken by" in bad[1]
