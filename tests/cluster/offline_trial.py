"""A trial: what becomes of a client's packets when its node is gone.

``unshare --net python -m tests.cluster.offline_trial DIRECTORY STORE`` plays a machine with a
default route in a network namespace of its own, counts what leaves by that route for the node's
addresses, and runs a client through an orderly stop and through a ``kill -9``. It prints what it
saw as JSON; `tests.test_cluster_lifecycle` judges it. Nothing it sends can leave the namespace.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

from tests.cluster import host_network, lifecycle
from tests.cluster.address_plan import AddressPlan
from tests.cluster.host_network import ip
from tests.cluster.record import Level

#: The machine's other interface, and the router beyond it (documentation addresses, RFC 5737).
WAN: Final = "wan0"
WAN_ADDRESS, ROUTER = "192.0.2.2", "192.0.2.1"
COUNTER: Final = f"""
table inet trial {{
  counter out {{ }}
  chain output {{
    type filter hook output priority 0;
    oifname "{WAN}" ip daddr 10.128.0.0/11 counter name out
  }}
}}
"""
#: Seconds that a client is watched after the end of its node.
WATCHED_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 0.5


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One connection: when it began (seconds after the end of the node, below 0 before)."""

    began_s: float
    took_s: float
    outcome: str


class Client(threading.Thread):
    """Connects again and again, like a hub that has not heard that its cluster is gone."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        super().__init__()
        self._addresses = addresses
        self._is_over = threading.Event()
        self.attempts: list[tuple[float, float, str]] = []

    def run(self) -> None:
        while not self._is_over.wait(0.01):
            for address in self._addresses:
                began = time.monotonic()
                try:
                    socket.create_connection(address, timeout=CONNECT_TIMEOUT_S).close()
                    outcome = "connected"
                except OSError as error:
                    outcome = error.strerror or "silence"
                self.attempts.append((began, time.monotonic() - began, outcome))

    def end(self, gone_at: float) -> list[Attempt]:
        """Stop, and return the attempts with times relative to `gone_at`."""
        self._is_over.set()
        self.join()
        return [Attempt(began - gone_at, took, said) for began, took, said in self.attempts]


def prepare_machine() -> None:
    """Make the interface with the default route; a neighbour entry stands in for the router."""
    ip("link", "set", "lo", "up")
    ip("link", "add", WAN, "type", "veth", "peer", "name", "wan1")
    ip("addr", "add", f"{WAN_ADDRESS}/24", "dev", WAN)
    for name in (WAN, "wan1"):
        ip("link", "set", name, "up")
    ip("neigh", "add", ROUTER, "lladdr", "02:00:00:00:00:01", "dev", WAN, "nud", "permanent")
    ip("route", "add", "default", "via", ROUTER)
    subprocess.run(["nft", "-f", "-"], input=COUNTER, text=True, check=True)


def count_left() -> int:
    """Return how many packets for nodes' addresses left by the default route."""
    listing = subprocess.run(
        ["nft", "list", "counter", "inet", "trial", "out"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    match = re.search(r"packets (\d+)", listing)
    assert match is not None
    return int(match.group(1))


def run_once(directory: Path, store: Path, *, is_killed: bool) -> dict[str, Any]:
    """Start a node, end it one way or the other under a client, and say what happened."""
    keeper = lifecycle.start(Level.NODE, directory, is_detached=False, store=store)
    index = keeper.record.index
    assert index is not None
    plan = AddressPlan(index)
    pod = plan.pod_range.replace(".0.0/16", ".200.200")
    service = plan.service_range.replace(".0.0/17", ".100.100")
    client = Client([(plan.node_address, 6443), (pod, 8888), (service, 443)])
    client.start()
    time.sleep(0.3)
    if is_killed:
        os.kill(keeper.record.keeper, signal.SIGKILL)
        while host_network.has_interface(plan.interface):
            time.sleep(0.01)
    else:
        lifecycle.stop(directory)
    gone_at = time.monotonic()
    time.sleep(WATCHED_S)
    attempts = client.end(gone_at)
    lookups = {}
    for address in (plan.node_address, pod, service):
        found = subprocess.run(
            ["ip", "route", "get", address], capture_output=True, text=True, check=False
        )
        lookups[address] = found.stderr.strip() or found.stdout.strip()
    keeper.end()
    return {
        "index": index,
        "left": count_left(),
        "attempts": [dataclasses.asdict(item) for item in attempts],
        "lookups": lookups,
    }


def run_without_guard(index: int) -> int:
    """The twin: with the last-resort route gone, the same call does leave. Returns packets."""
    plan = AddressPlan(index)
    host_network.forget(plan)
    before = count_left()
    client = Client([(plan.node_address, 6443)])
    client.start()
    time.sleep(0.1)
    client.end(0.0)
    return count_left() - before


def main() -> None:
    """Run both ways and the twin, and print the findings."""
    directory, store = Path(sys.argv[1]), Path(sys.argv[2])
    prepare_machine()
    stopped = run_once(directory / "stopped", store, is_killed=False)
    killed = run_once(directory / "killed", store, is_killed=True)
    twin = run_without_guard(killed["index"])
    print(json.dumps({"stopped": stopped, "killed": killed, "left_without_guard": twin}))


if __name__ == "__main__":
    main()
