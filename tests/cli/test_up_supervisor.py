"""The supervisor: restarts, gives up in a sentence, stops in order, leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyterhub_collab.cli.up.lease import read_live_holder
from jupyterhub_collab.cli.up.program import Backoff, Program
from jupyterhub_collab.cli.up.supervisor import Supervisor
from jupyterhub_collab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
QUICK = Backoff(first_s=0.01, most_s=0.05)


def make_program(name: str, script: str, *, ready: Path, **more: object) -> Program:
    """A Python program that is ready once it made a file."""

    async def is_ready() -> bool:
        return ready.exists()

    return Program(
        name=name,
        title=name.capitalize(),
        command=(sys.executable, "-c", script),
        is_ready=is_ready,
        cwd=ready.parent,
        **more,  # type: ignore[arg-type]
    )


def make_supervisor(tmp_path: Path, told: list[str]) -> Supervisor:
    return Supervisor(
        lease=lambda name: tmp_path / f"{name}.lock",
        log=lambda name: tmp_path / f"{name}.log",
        tell=told.append,
        backoff=QUICK,
    )


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


async def until(condition: Callable[[], bool]) -> None:
    """Wait, 20 seconds at most, for a condition of another process."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


SERVE = "import pathlib, time; pathlib.Path('{ready}').touch(); time.sleep(300)"


@pytest.mark.parametrize(
    ("failures", "pause_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 30.0), (1000, 30.0)]
)
def test_back_off_doubles_up_to_a_bound(failures: int, pause_s: float) -> None:
    assert Backoff().pause_s(failures) == pause_s


async def test_what_dies_is_started_again_and_keeps_its_lease(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = make_supervisor(tmp_path, told)
    ready = tmp_path / "ready"
    await supervisor.start(make_program("hub", SERVE.format(ready=ready), ready=ready))
    first = supervisor.pid_of("hub")
    assert first is not None
    holder = read_live_holder(tmp_path / "hub.lock")
    assert holder is not None
    assert holder.pid == first  # the program itself, nothing in between
    os.kill(first, signal.SIGKILL)
    await until(lambda: "Hub is back." in told)
    second = supervisor.pid_of("hub")
    assert second not in (None, first)
    assert told[0] == "Hub ended (killed by SIGKILL); starting it again in 0.01 s."
    await supervisor.stop()
    assert read_live_holder(tmp_path / "hub.lock") is None


async def test_a_program_that_cannot_start_is_one_sentence_with_its_last_words(
    tmp_path: Path,
) -> None:
    supervisor = make_supervisor(tmp_path, [])
    script = "import sys; print('working'); sys.exit('database is of a later version')"
    with pytest.raises(UserError) as caught:
        await supervisor.start(make_program("hub", script, ready=tmp_path / "never"))
    log = tmp_path / "hub.log"
    assert str(caught.value) == (
        f"Hub ended while starting (exit code 1), see {log}: database is of a later version"
    )
    assert log.read_text().count("database") == 3  # tried again before it gave up
    await supervisor.stop()


async def test_a_missing_program_is_not_tried_again(tmp_path: Path) -> None:
    async def never() -> bool:
        return False

    supervisor = make_supervisor(tmp_path, [])
    program = Program("proxy", "Proxy", (str(tmp_path / "none"),), never, tmp_path)
    with pytest.raises(UserError, match=r"proxy: cannot run .*none: No such file or directory"):
        await supervisor.start(program)
    assert (tmp_path / "proxy.log").read_text().count("cannot run") == 1
    await supervisor.stop()


async def test_a_program_that_never_is_ready_is_one_sentence(tmp_path: Path) -> None:
    supervisor = make_supervisor(tmp_path, [])
    script = "import time; print('thinking', flush=True); time.sleep(300)"
    program = make_program("hub", script, ready=tmp_path / "never", start_timeout_s=1.0)
    with pytest.raises(UserError, match=r"Hub was not ready after 1 seconds, see .*: thinking"):
        await supervisor.start(program)
    await supervisor.stop()
    assert read_live_holder(tmp_path / "hub.lock") is None


async def test_stop_ends_the_last_started_first_and_the_deaf_too(tmp_path: Path) -> None:
    record = tmp_path / "record"
    script = (
        "import pathlib, signal, sys\n"
        "def end(*_):\n"
        "    open('{record}', 'a').write('{name} ')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGTERM, {handler})\n"
        "pathlib.Path('{ready}').touch()\n"
        "while True: signal.pause()\n"
    )
    supervisor = make_supervisor(tmp_path, [])
    for name in ("one", "two", "deaf"):
        ready = tmp_path / f"{name}.ready"
        handler = "signal.SIG_IGN" if name == "deaf" else "end"
        text = script.format(record=record, name=name, handler=handler, ready=ready)
        after = (lambda: append(record, "after-two ")) if name == "two" else None
        program = make_program(name, text, ready=ready, stop_timeout_s=0.3, after_stop=after)
        await supervisor.start(program)
    await supervisor.stop()
    assert record.read_text() == "two after-two one "
    for name in ("one", "two", "deaf"):
        assert read_live_holder(tmp_path / f"{name}.lock") is None


async def test_secrets_travel_in_the_environment_only(tmp_path: Path) -> None:
    supervisor = make_supervisor(tmp_path, [])
    ready = tmp_path / "ready"
    script = f"import os, pathlib as p, time; p.Path('{ready}').write_text(os.environ['T']); "
    script += "time.sleep(300)"
    program = make_program("hub", script, ready=ready, env={"T": "s3cret"})
    await supervisor.start(program)
    pid = supervisor.pid_of("hub")
    assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert "s3cret" not in repr(program)
    await until(lambda: ready.read_text() == "s3cret")
    await supervisor.stop()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PDEATHSIG is Linux")
def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from tests.cli.test_up_supervisor import SERVE, make_program, make_supervisor
async def main():
    folder = Path({str(tmp_path)!r})
    supervisor = make_supervisor(folder, [])
    ready = folder / "ready"
    await supervisor.start(make_program("hub", SERVE.format(ready=ready), ready=ready))
    print(json.dumps(supervisor.pid_of("hub")), flush=True)
    await asyncio.sleep(300)
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = json.loads(process.stdout.readline())
        assert read_live_holder(tmp_path / "hub.lock") is not None
        process.kill()
    deadline = time.monotonic() + 10
    while read_live_holder(tmp_path / "hub.lock") is not None:
        assert time.monotonic() < deadline, f"process {child} outlived its supervisor"
        time.sleep(0.01)
