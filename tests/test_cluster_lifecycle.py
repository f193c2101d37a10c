"""Test clusters start, stand side by side, and leave nothing, however they end."""

from __future__ import annotations

import datetime
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from tests.cluster import cgroups, host_network, images, inside, lifecycle, pins
from tests.cluster.address_plan import PLAN_COUNT, AddressPlan
from tests.cluster.certificates import Authority
from tests.cluster.cluster import KUBECONFIG_VARIABLE, Cluster, open_cluster
from tests.cluster.errors import BuildFailed, CannotHave, ClusterError
from tests.cluster.programs_build import build_programs, find_programs
from tests.cluster.record import RECORD_FILE, Level, Record, read_record, write_record

#: Seconds for what takes a fraction of one on a machine that has nothing else to do.
PATIENCE_S = 20.0


def wait_for(is_met: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_met():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def has_changed(file: Path, before: str) -> bool:
    return file.read_text() != before


def find_processes(directory: Path) -> list[str]:
    """Return the command lines that name `directory`, except for this process's own."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line and int(file.parent.name) != os.getpid():
            found.append(line)
    return found


def read_namespace(pid: int | str) -> str:
    """Return the process namespace of `pid`, empty if it is gone."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def list_namespace(namespace: str) -> list[str]:
    """Return the processes in a process namespace."""
    pids = [path.name for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if read_namespace(pid) == namespace]


@pytest.fixture(scope="module")
def programs() -> Path:
    if os.environ.get(KUBECONFIG_VARIABLE):
        pytest.skip("a foreign cluster is not ours to start and stop")
    try:
        return find_programs(Level.API)
    except CannotHave as error:
        pytest.skip(f"no cluster of level api: {error}")


@pytest.fixture
def started(programs: Path, tmp_path: Path) -> Iterator[Callable[[str], Cluster]]:
    """Start clusters of level `api` by name; all end with the test."""
    keepers: list[lifecycle.Keeper] = []

    def start(name: str) -> Cluster:
        keeper = lifecycle.start(Level.API, tmp_path / name, is_detached=False)
        keepers.append(keeper)
        return open_cluster(keeper.directory, programs)

    yield start
    for keeper in keepers:
        keeper.end()


@pytest.fixture(scope="module")
def other(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of level `api` whose programs a test may kill; it stands when others end."""
    directory = tmp_path_factory.mktemp("other") / "cluster"
    keeper = lifecycle.start(Level.API, directory, is_detached=False)
    yield open_cluster(keeper.directory, programs)
    keeper.end()


def is_refused(cluster: Cluster) -> bool:
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    with socket.socket() as client:
        client.settimeout(1.0)
        return client.connect_ex((host, int(port))) != 0


@pytest.mark.api
def test_two_stand_side_by_side_and_end_without_a_trace(
    started: Callable[[str], Cluster], other: Cluster
) -> None:
    one, two = started("one"), other
    one.kubectl("create", "namespace", "only-in-one")
    assert one.kubectl("get", "namespace", "only-in-one").returncode == 0
    assert two.kubectl("get", "namespace", "only-in-one", check=False).returncode == 1
    assert one.directory is not None
    assert find_processes(one.directory)
    assert lifecycle.stop(one.directory)
    assert not one.directory.exists()
    assert find_processes(one.directory) == []
    assert is_refused(one)
    assert not is_refused(two)
    assert not lifecycle.stop(one.directory)


@pytest.mark.api
def test_killed_program_comes_back_with_its_data(other: Cluster) -> None:
    assert other.directory is not None
    other.kubectl("create", "namespace", "kept")
    for program in ("etcd", "kube-apiserver"):
        pid_file = other.directory / "pid" / program
        before = pid_file.read_text()
        other.kill(program)
        wait_for(functools.partial(has_changed, pid_file, before), f"{program} was not restarted")
        wait_for(
            lambda: other.kubectl("get", "namespace", "kept", check=False).returncode == 0,
            f"the namespace did not come back with {program}",
        )


@pytest.mark.api
@pytest.mark.parametrize("victim", ["the test run", "the keeper"])
def test_killed_run_leaves_no_process(programs: Path, tmp_path: Path, victim: str) -> None:
    directory = tmp_path / "cluster"
    program = (
        "import sys, time; from pathlib import Path; from tests.cluster import lifecycle\n"
        "from tests.cluster.record import Level\n"
        "keeper = lifecycle.start(Level.API, Path(sys.argv[1]), is_detached=False)\n"
        "print(keeper.record.keeper, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        cwd=pins.REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        keeper = int(run.stdout.readline())
        assert len(find_processes(directory)) >= 4
        os.kill(run.pid if victim == "the test run" else keeper, signal.SIGKILL)
        wait_for(
            lambda: [line for line in find_processes(directory) if "-c" not in line] == [],
            "programs outlived their keeper",
        )
        run.kill()


@pytest.mark.api
def test_folder_of_somebody_else_is_left_alone(programs: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    with pytest.raises(ClusterError, match="not empty"):
        lifecycle.start(Level.API, tmp_path, is_detached=False)
    assert not lifecycle.stop(tmp_path)
    with pytest.raises(ClusterError, match="nothing was deleted"):
        lifecycle.remove_folder(tmp_path)
    assert precious.read_text() == "mine"


@pytest.mark.api
def test_binaries_of_envtest_serve(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with etcd, kube-apiserver and kubectl alone is enough (KUBEBUILDER_ASSETS)."""
    assets = tmp_path / "assets"
    assets.mkdir()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    with pytest.raises(CannotHave, match="has no etcd, kube-apiserver, kubectl"):
        find_programs(Level.API)
    for name in ("etcd", "kube-apiserver", "kubectl"):
        (assets / name).symlink_to(programs / name)
    keeper = lifecycle.start(Level.API, tmp_path / "cluster", is_detached=False)
    try:
        cluster = open_cluster(keeper.directory, assets)
        assert cluster.kubectl("get", "namespace", "default").returncode == 0
        assert not (keeper.directory / "pid" / "kube-scheduler").exists()
    finally:
        keeper.end()


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(CannotHave, match=r"python -m tests\.cluster build"):
        find_programs(Level.API)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the cache at a new folder and the PATH at another; returns that one."""
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    return commands


def test_build_without_a_compiler_says_what_to_do(empty_cache: Path) -> None:
    with pytest.raises(CannotHave, match=r"Go 1\.26 or newer"):
        build_programs()


def test_build_that_fails_leaves_nothing_half(empty_cache: Path) -> None:
    """What failed is told with the end of its log; the next build starts as if from nothing."""
    killed = pins.cache_root() / "building-killed"
    killed.mkdir(parents=True)
    compiler = empty_cache / "go"
    compiler.write_text("#!/bin/sh\necho no such module\nexit 3\n")
    compiler.chmod(0o755)
    with pytest.raises(BuildFailed, match=r"(?s)code 3.*no such module"):
        build_programs()
    assert not pins.program_folder().exists()
    assert not killed.exists()
    assert list(pins.cache_root().glob("building-*")) == []
    assert (pins.cache_root() / "failed-build" / "kubernetes.log").exists()


def test_record_of_a_dead_keeper_is_not_taken_for_a_living_one(tmp_path: Path) -> None:
    """The same process number with another start time is another process."""
    write_record(tmp_path, Record(Level.API, keeper=os.getpid(), keeper_started="1"))
    record = read_record(tmp_path)
    assert record is not None
    assert not record.is_alive()
    (tmp_path / RECORD_FILE).write_text("{")
    assert read_record(tmp_path) is None


def test_address_plans_do_not_meet() -> None:
    networks = [
        IPv4Network(item)
        for plan in map(AddressPlan, range(PLAN_COUNT))
        for item in (plan.pod_range, plan.service_range, f"{plan.host_address}/32")
    ]
    for number, network in enumerate(networks):
        assert not any(network.overlaps(other) for other in networks[number + 1 :])
    whole = IPv4Network("10.128.0.0/11")
    assert all(network.subnet_of(whole) for network in networks)
    assert not AddressPlan(1).is_free([IPv4Network("10.131.0.0/24")])
    assert AddressPlan(1).is_free([IPv4Network("10.132.0.0/16")])
    with pytest.raises(ValueError, match="index 16"):
        AddressPlan(PLAN_COUNT)


def test_private_keys_are_private(tmp_path: Path) -> None:
    authority = Authority(tmp_path, now=datetime.datetime.now(datetime.timezone.utc))
    pair = authority.issue("one", "one")
    assert pair.key.stat().st_mode & 0o077 == 0


# Nodes ----------------------------------------------------------------------------------------


def read_tunables() -> dict[str, str]:
    files = {name: Path("/proc/sys", name) for name in inside.TUNABLES}
    return {name: file.read_text() for name, file in files.items() if file.exists()}


def list_traces(plan: AddressPlan, directory: Path) -> list[str]:
    """Return what is left of a node: mounts, interfaces, control groups, claims."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    traces = [line for line in mounts if str(directory) in line]
    if host_network.has_interface(plan.interface):
        traces.append(plan.interface)
    traces += [str(item) for item in cgroups.list_hierarchies() if (item / plan.cgroup).exists()]
    if host_network.claim_file(plan).exists():
        traces.append(str(host_network.claim_file(plan)))
    routes = host_network.ip("-4", "route", "show").splitlines()
    return traces + [line for line in routes if plan.interface in line]


@pytest.mark.node
def test_second_node_stands_beside_and_leaves_nothing(
    node_cluster: Cluster, tmp_path: Path
) -> None:
    if not node_cluster.is_ours:
        pytest.skip("a foreign cluster is not ours to start and stop")
    before = read_tunables()
    rules = subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout
    begun = time.monotonic()
    keeper = lifecycle.start(Level.NODE, tmp_path / "second", is_detached=False)
    took_s = time.monotonic() - begun
    try:
        second = open_cluster(keeper.directory, find_programs(Level.NODE))
        assert keeper.record.index is not None
        plan = AddressPlan(keeper.record.index)
        assert second.host_address != node_cluster.host_address
        for cluster in (node_cluster, second):
            (node,) = cluster.get("nodes")["items"]
            addresses = {item["type"]: item["address"] for item in node["status"]["addresses"]}
            assert cluster.server == f"https://{addresses['InternalIP']}:6443"
        assert read_tunables() == before, "the node changed settings of the whole machine"
        init = keeper.record.init
        assert init is not None
        namespace = read_namespace(init)
        assert len(list_namespace(namespace)) > 5
        assert list_traces(plan, tmp_path / "nothing") != []
    finally:
        keeper.end()
    assert list_namespace(namespace) == []
    assert find_processes(keeper.directory) == []
    assert list_traces(plan, keeper.directory) == []
    assert not keeper.directory.exists()
    assert (
        subprocess.run(["nft", "list", "ruleset"], capture_output=True, check=True).stdout == rules
    )
    assert node_cluster.kubectl("get", "nodes").returncode == 0
    assert took_s < 60, f"a node took {took_s:.0f} s to start"


@pytest.mark.node
def test_clients_of_a_node_that_is_gone_fail_at_once(node_cluster: Cluster, tmp_path: Path) -> None:
    """After an orderly stop and after a kill: no packet for its addresses leaves the machine,
    and every call ends at once. The twin shows that the packets would leave, and be counted."""
    if not node_cluster.is_ours:
        pytest.skip("a foreign cluster is not ours to start and stop")
    # Made here, where the network is: the trial has none.
    store = images.ensure_store(images.ensure_images())
    command = [sys.executable, "-m", "tests.cluster.offline_trial", str(tmp_path), str(store)]
    trial = subprocess.run(
        ["unshare", "--net", *command],
        cwd=pins.REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert trial.returncode == 0, trial.stderr
    findings = json.loads(trial.stdout)
    for how in ("stopped", "killed"):
        found = findings[how]
        assert found["left"] == 0
        assert {text.partition(": ")[2] for text in found["lookups"].values()} == {
            "No route to host"
        }
        outcomes = [item for item in found["attempts"] if item["began_s"] > 0]
        assert len(outcomes) > 20
        assert {item["outcome"] for item in outcomes} == {"No route to host"}
        assert max(item["took_s"] for item in outcomes) < 0.25
        assert "connected" in {item["outcome"] for item in found["attempts"]}
        assert list_traces(AddressPlan(found["index"]), tmp_path) == []
    assert findings["left_without_guard"] > 0
    assert find_processes(tmp_path) == []
