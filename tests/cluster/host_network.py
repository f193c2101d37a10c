"""The host's side of a node: the choice of addresses, the link, the routes.

Every plan's range gets an `unreachable` route of the lowest priority before anything else
happens, and keeps it after the node is gone: a client that outlived the node (a hub retries for
a minute, a forgotten kubectl for ever) is then told "no route to host" by the kernel, where it
would otherwise send its packets out by the default route to whatever answers there. Routes of
higher priority, a VPN's for instance, are not changed by it. `forget` removes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from io import TextIOWrapper
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from tests.cluster.address_plan import PLAN_COUNT, AddressPlan
from tests.cluster.errors import CannotHave, ClusterError

#: Lowest priority but one that a route can have.
LAST_METRIC: Final = 4294967294
#: One lock file for each plan in use on this machine; gone after a restart of the machine.
CLAIMS: Final = Path("/run/jupyterhub-collab")
UPLINK: Final = "uplink"


@dataclass(frozen=True)
class Claim:
    """A plan that this process alone uses, as long as it lives."""

    plan: AddressPlan
    file: TextIOWrapper

    def release(self) -> None:
        """Give the plan back."""
        claim_file(self.plan).unlink(missing_ok=True)
        self.file.close()


def claim_file(plan: AddressPlan) -> Path:
    """Return the lock file of `plan`."""
    return CLAIMS / f"cluster-{plan.index}.lock"


def ip(*arguments: str) -> str:
    """Run iproute2's ``ip``.

    Raises
    ------
    ClusterError
        If it fails, with its own words.
    """
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise ClusterError(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
    return result.stdout


def list_used_networks() -> list[IPv4Network]:
    """Return the IPv4 networks that this machine routes, except for our last-resort routes."""
    networks = []
    for route in json.loads(ip("-j", "-4", "route", "show", "table", "all")):
        is_ours = route.get("type") == "unreachable" and route.get("metric") == LAST_METRIC
        if not is_ours and route["dst"] != "default":
            networks.append(IPv4Network(route["dst"], strict=False))
    return networks


def claim(plan: AddressPlan) -> Claim | None:
    """Claim `plan`; None if another process has it."""
    CLAIMS.mkdir(exist_ok=True)
    file = claim_file(plan).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    try:
        is_current = os.path.samestat(os.fstat(file.fileno()), claim_file(plan).stat())
    except FileNotFoundError:
        is_current = False
    if not is_current:  # its owner removed it between the opening and the lock
        file.close()
        return None
    return Claim(plan, file)


def claim_plan() -> Claim:
    """Claim the first plan whose addresses nobody uses.

    Raises
    ------
    CannotHave
        If all are in use.
    """
    for index in range(PLAN_COUNT):
        mine = claim(AddressPlan(index))
        if mine is None:
            continue
        remove_link(mine.plan)  # of a keeper that was killed
        if mine.plan.is_free(list_used_networks()):
            return mine
        mine.release()
    raise CannotHave(
        f"all {PLAN_COUNT} address plans in 10.128.0.0/11 are in use on this machine; stop a "
        "cluster or free the range"
    )


def guard(plan: AddressPlan) -> None:
    """Make the kernel refuse what no better route leads to."""
    ip("route", "replace", "unreachable", plan.whole_range, "metric", str(LAST_METRIC))


def forget(plan: AddressPlan) -> None:
    """Remove the last-resort route; only once no client of the node is left."""
    if any(IPv4Network(plan.whole_range) == network for network in list_guarded()):
        ip("route", "del", "unreachable", plan.whole_range, "metric", str(LAST_METRIC))


def list_guarded() -> list[IPv4Network]:
    """Return the ranges that have a last-resort route now."""
    routes: list[dict[str, Any]] = json.loads(
        ip("-j", "-4", "route", "show", "type", "unreachable")
    )
    return [IPv4Network(item["dst"]) for item in routes if item.get("metric") == LAST_METRIC]


def make_link(plan: AddressPlan, init: int) -> None:
    """Join host and the network namespace of process `init`, and route the plan through it."""
    name = plan.interface
    ip("link", "add", name, "type", "veth", "peer", "name", UPLINK, "netns", str(init))
    ipv6 = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
    if ipv6.exists():
        ipv6.write_text("1")
    ip("addr", "add", f"{plan.host_address}/30", "dev", name)
    ip("link", "set", name, "up")
    for network in (plan.pod_range, plan.service_range):
        ip("route", "replace", network, "via", plan.node_address)


def remove_link(plan: AddressPlan) -> None:
    """Remove the link, and its routes with it; nothing if there is none."""
    if has_interface(plan.interface):
        subprocess.run(["ip", "link", "del", plan.interface], capture_output=True, check=False)


def has_interface(name: str) -> bool:
    """Say whether this network namespace has an interface `name`."""
    return any(name == found for _, found in socket.if_nameindex())
