"""A test run that is ended leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real_hub import ROOT

_TEST = """
import os, subprocess, sys, time
import pytest

@pytest.fixture
def program():
    process = subprocess.Popen(["sleep", "300"], start_new_session=True, stderr=subprocess.DEVNULL)
    yield process.pid
    process.kill()
    process.wait()
    print("ended", file=sys.__stderr__, flush=True)

def test_long(program):
    print("started", program, file=sys.__stderr__, flush=True)
    time.sleep(300)
"""
_LEAVE = """
import subprocess, sys
import left_processes

left_processes.adopt()
leave = "import subprocess as s; print(s.Popen(['sleep', '300'], start_new_session=True).pid)"
subprocess.run([sys.executable, "-c", leave], check=True)
print(left_processes.end_left())
print(left_processes.end_left())
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_ends_a_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_TEST)
    command = [sys.executable, "-m", "pytest", "-p", "tests.orderly_end", "-p", "no:cacheprovider"]
    with subprocess.Popen(
        [*command, "-s", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stderr is not None
        said = run.stderr.readline().split()
        assert said[0] == "started"
        run.send_signal(signal.SIGTERM)
        rest = run.stderr.read()
    assert "ended" in rest
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert not is_running(int(said[1]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="subreapers are Linux")
def test_what_was_left_behind_is_named_and_ended() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LEAVE],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    pid, first, second = done.stdout.splitlines()
    assert (first, second) == ("['sleep 300']", "[]")
    assert not is_running(int(pid))
