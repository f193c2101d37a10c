"""Level `node`, from outside: the namespaces, the link to the host, and the end of both.

Process 1 of the node (`tests.cluster.inside`) dies with the ``unshare`` that started it, and that
with the keeper; with process 1 the kernel ends all the rest. What the kernel does not remove are
the control groups and the claim on the addresses: the keeper does, or, if it was killed itself,
the next start or stop.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from tests.cluster import cgroups, debian, host_network
from tests.cluster.address_plan import AddressPlan
from tests.cluster.errors import CannotHave, ClusterError
from tests.cluster.images import copy_store, use_store
from tests.cluster.pins import REPOSITORY
from tests.cluster.record import Record, write_record
from tests.cluster.supervisor import die_with_parent

#: Process 1 says these on its standard output: when it can be joined to the host, and when all
#: is ready.
BEGUN: Final = "begun"
READY: Final = "ready"
#: Groups can be removed once the kernel has let go of their last process.
SWEEP_TIMEOUT_S: Final = 5.0


class Stopped(Exception):
    """A signal or the closed pipe asks the keeper to end."""


def check_machine() -> None:
    """Refuse a machine that cannot have a node.

    Raises
    ------
    CannotHave
        Says what is missing.
    """
    if sys.platform != "linux":
        raise CannotHave("a node with containers needs Linux; use a Linux machine or VM")
    if os.geteuid() != 0:
        raise CannotHave("a node with containers needs root; run as root (sudo -E make test)")
    debian.demand(debian.NODE_PACKAGES)


def keep_node_level(
    directory: Path, binaries: Path, store: Path, record: Record, *, is_tied: bool
) -> None:
    """Run a node until told to stop, and leave nothing of it."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _stop)
    process: subprocess.Popen[bytes] | None = None
    in_use = use_store(store)
    claim = host_network.claim_plan()
    plan = claim.plan
    try:
        host_network.guard(plan)
        cgroups.remove_group(plan.cgroup)
        cgroups.make_group(plan.cgroup)
        copy_store(store, directory / "containerd")
        process = start_inside(directory, binaries, plan)
        tie = 0 if is_tied else None
        expect(process, BEGUN, tie)
        init = find_child(process.pid)
        host_network.make_link(plan, init)
        record = dataclasses.replace(
            record,
            server=f"https://{plan.node_address}:6443",
            host_address=plan.host_address,
            index=plan.index,
            init=init,
        )
        write_record(directory, record)
        assert process.stdin is not None
        process.stdin.write(b"linked\n")
        process.stdin.flush()
        expect(process, READY, tie)
        write_record(directory, dataclasses.replace(record, is_ready=True))
        expect(process, None, tie)
    except Stopped:
        return
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if process is not None:
            end_inside(process)
        remove_traces(claim)
        in_use.close()


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise Stopped


def start_inside(directory: Path, binaries: Path, plan: AddressPlan) -> subprocess.Popen[bytes]:
    """Start process 1 of a node in namespaces of its own; the kernel ties it to this process."""
    keeper = os.getpid()
    namespaces = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=SIGKILL"]
    inside = [sys.executable, "-m", "tests.cluster.inside", str(directory), str(binaries)]
    return subprocess.Popen(
        ["unshare", *namespaces, *inside, str(plan.index)],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": f"{binaries}:{debian.SEARCH_PATH}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: die_with_parent(keeper),
    )


def expect(process: subprocess.Popen[bytes], line: str | None, tie: int | None) -> None:
    """Wait for a line of process 1 (None: for ever).

    Raises
    ------
    Stopped
        When `tie` closes.
    ClusterError
        If the node ends.
    """
    assert process.stdout is not None
    output = process.stdout.fileno()
    watched = [output] + ([] if tie is None else [tie])
    while True:
        readable, _, _ = select.select(watched, [], [])
        if tie in readable and os.read(tie or 0, 4096) == b"":
            raise Stopped
        if output in readable:
            said = os.read(output, 4096)
            if not said:
                raise ClusterError("the node ended; the lines above and the logs say why")
            if line is not None and line.encode() in said:
                return


def find_child(pid: int) -> int:
    """Return the only child of `pid`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if len(children) != 1:
        raise ClusterError(f"unshare has {len(children)} children, not one")
    return int(children[0])


def end_inside(process: subprocess.Popen[bytes]) -> None:
    """Kill process 1 and wait until the kernel has ended everything in its namespace."""
    try:
        os.kill(find_child(process.pid), signal.SIGKILL)
    except (OSError, ClusterError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def remove_traces(claim: host_network.Claim) -> None:
    """Remove what the kernel leaves of a node that is gone, and give its addresses back."""
    host_network.remove_link(claim.plan)
    deadline = time.monotonic() + SWEEP_TIMEOUT_S
    while left := cgroups.remove_group(claim.plan.cgroup):
        if time.monotonic() > deadline:
            print(f"control groups that would not go: {left}", flush=True)
            break
        time.sleep(0.05)
    claim.release()


def sweep(plan: AddressPlan, *, should_forget: bool) -> None:
    """Remove what a killed keeper left of `plan`, unless another cluster uses the plan now."""
    claim = host_network.claim(plan)
    if claim is None:
        return
    if should_forget:
        host_network.forget(plan)
    remove_traces(claim)
