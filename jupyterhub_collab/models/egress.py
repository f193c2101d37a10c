"""Egress rules: what outside the cluster a team's pods may reach.

Addresses only: names need the egress proxy. Private, link-local, loopback and other special ranges
are never let through, whatever a rule says (`jupyterhub_collab.policy.egress`).
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BeforeValidator, Field, IPvAnyNetwork

from .document import Document, Id

Port = Annotated[int, Field(strict=True, ge=1, le=65535)]


def _only_text(value: object) -> object:
    """Refuse numbers: 5 would otherwise become the network 0.0.0.5/32."""
    if isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is not a network")
    return value


Network = Annotated[IPvAnyNetwork, BeforeValidator(_only_text)]


class Protocol(str, Enum):
    """Transport protocols that a NetworkPolicy knows."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class PortRange(Document):
    """Ports ``port`` to ``end_port``, both included; one port when ``end_port`` is not said."""

    port: Port
    end_port: Port | None = Field(None, alias="endPort")
    protocol: Protocol = Protocol.TCP


class EgressRule(Document):
    """One named hole: these addresses, at these ports."""

    name: Id
    cidr: Network = Field(description="Network, such as 151.101.0.0/16.")
    ports: tuple[PortRange, ...] = Field(min_length=1)
