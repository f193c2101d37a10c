"""Cuts connections that the rules of now would not let begin."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import Final

from tests.cluster.netpol import Rules, is_allowed

#: Protocols with ports, by the names that conntrack prints.
PROTOCOLS: Final = ("tcp", "udp", "sctp")
#: States of TCP in which nothing can be sent any more.
OVER: Final = re.compile(r"\b(TIME_WAIT|CLOSE|LAST_ACK)\b")
FIELD: Final = re.compile(r"\b(src|dst|sport|dport)=(\S+)")


@dataclass(frozen=True)
class Flow:
    """One entry of the kernel's table. The receiver is the one after address translation."""

    protocol: str
    source: str
    destination: str
    source_port: int
    destination_port: int
    receiver: str
    receiver_port: int


def parse_flow(line: str) -> Flow | None:
    """Return the flow that a line of ``conntrack -L`` names, None for other protocols."""
    protocol = line.split(maxsplit=1)[0] if line else ""
    fields = FIELD.findall(line)
    if protocol not in PROTOCOLS or len(fields) != 8:
        return None
    values = [value for _, value in fields]
    return Flow(
        protocol,
        source=values[0],
        destination=values[1],
        source_port=int(values[2]),
        destination_port=int(values[3]),
        receiver=values[4],  # who answers
        receiver_port=int(values[6]),
    )


def cut_denied(rules: Rules, *, pod_range: str, node_address: str) -> int:
    """Delete the flows that `rules` deny; returns how many commands that took. The node's own
    flows stay."""
    listing = subprocess.run(
        ["conntrack", "-L", "-f", "ipv4"], capture_output=True, text=True, check=False
    )
    lines = [line for line in listing.stdout.splitlines() if not OVER.search(line)]
    flows = [flow for flow in map(parse_flow, lines) if flow is not None]
    # All flows between the same two on the same port at once. (conntrack's own way to take many
    # commands, -R, was seen to spin for ever in 1.4.7.)
    denied = {
        (flow.protocol, flow.source, flow.destination, flow.destination_port)
        for flow in flows
        if flow.source != node_address
        and not is_allowed(
            rules,
            pod_range=pod_range,
            source=flow.source,
            destination=flow.receiver,
            protocol=flow.protocol.upper(),
            port=flow.receiver_port,
        )
    }
    for protocol, source, destination, port in denied:
        options = ["-p", protocol, "-s", source, "-d", destination, "--dport", str(port)]
        # One that ended meanwhile is passed over.
        subprocess.run(["conntrack", "-D", *options], capture_output=True, check=False)
    return len(denied)
