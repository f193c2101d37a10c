"""Servers outlive the programs that started them; data outlives a kill."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jupyterhub_collab import embedded
from jupyterhub_collab.embedded.process import Command, Container, kill_pod
from tests.contract.client import Api, Json, connect, path_of
from tests.contract.clusters import program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
POD = path_of("pods", "default", "p")
PATIENCE_S = 20.0


@contextmanager
def _running(folder: Path) -> Iterator[dict[str, Callable[[], None]]]:
    """An API server and a node; what is given kills one of them, as a crash would."""
    with program("api", folder) as api, program("node", folder) as node:

        def crash(process: object) -> Callable[[], None]:
            return lambda: (process.kill(), process.wait())  # type: ignore[attr-defined,return-value]

        yield {"api": crash(api), "node": crash(node)}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with connect(embedded.prepare(tmp_path).kubeconfig) as found:
        yield found
    embedded.stop_all(tmp_path, grace_s=0)


async def _start(api: Api, *command: str, **spec: object) -> Json:
    """A running pod."""
    await api.until(path_of("serviceaccounts", "default", "default"), lambda a: a.code == 200)
    container = {"name": "main", "image": "x", "command": list(command)}
    body = {"metadata": {"name": "p"}, "spec": {"containers": [container], **spec}}
    (await api.post(path_of("pods", "default"), body)).expect()
    return (await api.until(POD, lambda a: a.body["status"]["phase"] == "Running")).body


def _processes(uid: str) -> set[int]:
    """Living processes that were started in a pod."""
    mark = f"COLLAB_EMBEDDED_POD={uid}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in entry.read_bytes().split(b"\0"):
                found.add(int(entry.parent.name))
        except OSError:
            continue
    return found


def _eventually(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


async def test_a_crash_of_both_leaves_the_server_running(api: Api, tmp_path: Path) -> None:
    with _running(tmp_path) as crash:
        before = await _start(api, "sleep", "1000")
        uid = before["metadata"]["uid"]
        _eventually(lambda: len(_processes(uid)) == 2)  # the shell and what it runs
        processes = _processes(uid)
        crash["node"]()
        crash["api"]()
        assert _processes(uid) == processes
    with _running(tmp_path):
        after = (await api.get(POD)).expect()
        assert after["status"] == before["status"]
        assert after["metadata"]["uid"] == uid
        assert _processes(uid) == processes
        (await api.delete(POD, gracePeriodSeconds=5)).expect()
        await api.until_gone(POD)
        _eventually(lambda: not _processes(uid))


async def test_an_orderly_stop_leaves_the_server_running(api: Api, tmp_path: Path) -> None:
    with _running(tmp_path):
        uid = (await _start(api, "sleep", "1000"))["metadata"]["uid"]
        _eventually(lambda: len(_processes(uid)) == 2)
    assert len(_processes(uid)) == 2
    assert embedded.stop_all(tmp_path) == 1
    _eventually(lambda: not _processes(uid))
    assert embedded.stop_all(tmp_path) == 0


async def test_the_exit_code_is_known_though_nobody_watched(api: Api, tmp_path: Path) -> None:
    flag = tmp_path / "go"
    with _running(tmp_path) as crash:
        script = f"while ! test -e {flag}; do sleep 0.05; done; exit 7"
        uid = (await _start(api, "sh", "-c", script))["metadata"]["uid"]
        crash["node"]()
        flag.touch()
        _eventually(lambda: not _processes(uid))
    with _running(tmp_path):
        ended = await api.until(POD, lambda a: a.body["status"]["phase"] == "Failed")
        (status,) = ended.body["status"]["containerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == 7


async def test_a_server_that_was_killed_meanwhile_is_failed(api: Api, tmp_path: Path) -> None:
    with _running(tmp_path) as crash:
        uid = (await _start(api, "sleep", "1000"))["metadata"]["uid"]
        crash["node"]()
        _eventually(lambda: len(_processes(uid)) == 2)
        for pid in _processes(uid):
            os.kill(pid, signal.SIGKILL)
    with _running(tmp_path):
        ended = await api.until(POD, lambda a: a.body["status"]["phase"] == "Failed")
        (status,) = ended.body["status"]["containerStatuses"]
        assert status["state"]["terminated"]["exitCode"] == 137


async def test_a_pod_deleted_while_no_node_runs_leaves_no_process(api: Api, tmp_path: Path) -> None:
    with _running(tmp_path) as crash:
        uid = (await _start(api, "sleep", "1000"))["metadata"]["uid"]
        crash["node"]()
        (await api.delete(POD, gracePeriodSeconds=0)).expect()
        await api.until_gone(POD)
        _eventually(lambda: len(_processes(uid)) == 2)
        with program("node", tmp_path):
            _eventually(lambda: not _processes(uid))
            _eventually(lambda: not (tmp_path / "pods" / uid).exists())


async def test_a_pod_that_ended_while_it_was_being_deleted_goes(api: Api, tmp_path: Path) -> None:
    """A node that was killed between its report and the last delete: the next one finishes."""
    with _running(tmp_path) as crash:
        await _start(api, "sleep", "1000")
        crash["node"]()
        (await api.delete(POD, gracePeriodSeconds=600)).expect()
        ended = {"status": {"phase": "Failed"}}
        (await api.patch(f"{POD}/status", ended)).expect()
        assert (await api.get(POD)).expect()["metadata"]["deletionTimestamp"]
        with program("node", tmp_path):
            await api.until_gone(POD)


async def test_sessions_of_their_own_die_with_the_pod(api: Api, tmp_path: Path) -> None:
    """Kernels and terminals lead sessions, and ignore what they like: they end all the same."""
    with _running(tmp_path):
        child = "trap '' TERM HUP; while true; do sleep 0.05; done"
        script = f'setsid sh -c "{child}" & exec sleep 1000'
        pod = await _start(api, "sh", "-c", script)
        uid = pod["metadata"]["uid"]
        _eventually(lambda: len(_processes(uid)) >= 3)
        (await api.delete(POD, gracePeriodSeconds=1)).expect()
        await api.until_gone(POD)
        _eventually(lambda: not _processes(uid))


async def test_the_api_answers_what_it_acknowledged(api: Api, tmp_path: Path) -> None:
    """A kill right after an answer loses nothing, and versions go on rising."""
    with program("api", tmp_path) as process:
        path = path_of("configmaps", "default")
        for number in range(50):
            body = {"metadata": {"name": f"m-{number}"}}
            last = (await api.post(path, body)).expect(201)
        gone = (await api.delete(path_of("configmaps", "default", "m-0"))).expect()
        process.kill()
        process.wait()
    assert gone["status"] == "Success"
    with program("api", tmp_path):
        found = (await api.get(path)).expect()
        names = {o["metadata"]["name"] for o in found["items"]} - {"kube-root-ca.crt"}
        assert names == {f"m-{n}" for n in range(1, 50)}
        new = (await api.post(path, {"metadata": {"name": "new"}})).expect()
        version = int(new["metadata"]["resourceVersion"])
        assert version > int(last["metadata"]["resourceVersion"]) + 1  # the deletion took one


async def test_controllers_take_up_what_a_kill_cut_short(api: Api, tmp_path: Path) -> None:
    """A namespace that was ending when the API server was killed ends after its restart."""
    name = "ending"
    with program("api", tmp_path) as process:
        (await api.post(path_of("namespaces"), {"metadata": {"name": name}})).expect()
        held = {"metadata": {"name": "held", "finalizers": ["example.org/held"]}}
        (await api.post(path_of("configmaps", name), held)).expect()
        (await api.delete(path_of("namespaces", name=name))).expect()
        process.kill()
        process.wait()
    with program("api", tmp_path):
        assert (await api.get(path_of("namespaces", name=name))).expect()["status"] == {
            "phase": "Terminating"
        }
        free = {"metadata": {"finalizers": None}}
        (await api.patch(path_of("configmaps", name, "held"), free)).expect()
        await api.until_gone(path_of("namespaces", name=name))


def test_a_container_is_started_once(tmp_path: Path) -> None:
    """Two nodes that start one container, as a crash between two steps makes them, run one."""
    folder = tmp_path / "00000000-0000-0000-0000-000000000000"
    folder.mkdir()
    script = f"echo x >> {tmp_path}/starts; sleep 1000"
    command = Command(("sh", "-c", script), dict(os.environ), tmp_path)
    first, second = Container(folder, "main"), Container(folder, "main")
    try:
        first.start(command)
        _eventually((folder / "main.pid").exists)
        second.start(command)
        _eventually(lambda: second._child is not None and second._child.poll() is not None)
        _eventually((tmp_path / "starts").exists)
        assert (tmp_path / "starts").read_text() == "x\n"
        assert first.exit_code() is None
        assert second.exit_code() is None  # it looks at the one that runs
    finally:
        kill_pod(folder, [first])
        _eventually(lambda: first.exit_code() == 137)
        assert first._child is not None
        first._child.wait()
