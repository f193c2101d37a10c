"""Which private addresses a node uses: pure arithmetic on its index.

Each plan is one /15 of 10.128.0.0/11: its first half for pods, the beginning of the second for
Services, the end of it for the link between host and node. One route covers all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

#: How many nodes can stand side by side.
PLAN_COUNT: Final = 16


@dataclass(frozen=True)
class AddressPlan:
    """The addresses and names of the node with `index` (0 to PLAN_COUNT - 1)."""

    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < PLAN_COUNT:
            raise ValueError(f"index {self.index} is not in 0..{PLAN_COUNT - 1}")

    @property
    def whole_range(self) -> str:
        """Everything below, for the one route that outlives the node."""
        return f"10.{128 + 2 * self.index}.0.0/15"

    @property
    def pod_range(self) -> str:
        return f"10.{128 + 2 * self.index}.0.0/16"

    @property
    def service_range(self) -> str:
        return f"10.{129 + 2 * self.index}.0.0/17"

    @property
    def dns_address(self) -> str:
        """Where pods look for the cluster's name server: the Service ``kube-dns``."""
        return str(IPv4Network(self.service_range)[10])

    @property
    def host_address(self) -> str:
        """The host's end of the link: where pods reach the host."""
        return f"10.{129 + 2 * self.index}.255.1"

    @property
    def node_address(self) -> str:
        """The node's end of the link: API server and kubelet listen here."""
        return f"10.{129 + 2 * self.index}.255.2"

    @property
    def interface(self) -> str:
        """Name of the link on the host."""
        return f"collab{self.index}"

    @property
    def cgroup(self) -> str:
        """Name of the node's control group in each hierarchy."""
        return f"collab-cluster-{self.index}"

    def is_free(self, used: Iterable[IPv4Network]) -> bool:
        """Say whether none of the networks that the machine uses meets this plan."""
        mine = IPv4Network(self.whole_range)
        return not any(mine.overlaps(network) for network in used)
