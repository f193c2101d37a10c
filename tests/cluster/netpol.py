"""What NetworkPolicies mean for each pod, and the nftables rules that say so: pure functions.

`compute` turns the objects of the API into rules for each pod, `is_allowed` answers for one
connection, `render` writes the rule set. All three read the same `Rules`, so that what is
answered and what is enforced cannot differ in their reading of the policies.

A pod that is not in the rules yet is closed in both directions. IPv4 only; IPv6 of pods is
dropped. For the test cluster alone: in production the cluster's network plug-in does this.

Notes
-----
Semantics: https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses, ip_network
from typing import Any, Final

from tests.cluster.errors import ClusterError

Object = Mapping[str, Any]

TABLE: Final = "collab"
EVERYWHERE: Final = (IPv4Network("0.0.0.0/0"),)
HIGHEST_PORT: Final = 65535
#: A pod of another phase has no address any more, or one that is free to be used again.
LIVE_PHASES: Final = ("Pending", "Running")


@dataclass(frozen=True)
class Pod:
    """A pod with an address of its own (not one in the host's network)."""

    namespace: str
    name: str
    address: IPv4Address
    labels: Mapping[str, str]
    #: (name, protocol) -> number, of all containers
    named_ports: Mapping[tuple[str, str], int]


@dataclass(frozen=True, order=True)
class PortRange:
    """Ports `first` to `last`, both included, of one protocol (TCP, UDP, SCTP)."""

    protocol: str
    first: int
    last: int


@dataclass(frozen=True)
class Allowance:
    """One thing that is allowed: these peers, on these ports; None means any protocol."""

    peers: tuple[IPv4Network, ...]
    ports: tuple[PortRange, ...] | None


@dataclass(frozen=True)
class PodRules:
    """What one pod may do. None for a direction in which no policy isolates it."""

    address: IPv4Address
    ingress: tuple[Allowance, ...] | None
    egress: tuple[Allowance, ...] | None


@dataclass(frozen=True)
class Rules:
    """The rules of all pods that are known."""

    pods: Mapping[IPv4Address, PodRules]


#: Nothing is known: every pod is closed.
CLOSED: Final = Rules({})


def read_pod(manifest: Object) -> Pod | None:
    """Return the pod of `manifest`, None if it has no address that rules could name."""
    status, spec = manifest.get("status", {}), manifest.get("spec", {})
    address = status.get("podIP")
    if not address or spec.get("hostNetwork") or status.get("phase") not in LIVE_PHASES:
        return None
    ports = {}
    containers = [*spec.get("initContainers", []), *spec.get("containers", [])]
    for port in (port for container in containers for port in container.get("ports", [])):
        if "name" in port:
            ports[port["name"], port.get("protocol", "TCP")] = port["containerPort"]
    metadata = manifest["metadata"]
    return Pod(
        metadata["namespace"],
        metadata["name"],
        IPv4Address(address),
        metadata.get("labels") or {},
        ports,
    )


def is_selected(selector: Object, labels: Mapping[str, str]) -> bool:
    """Say whether a label selector matches; an empty one matches everything.

    Raises
    ------
    ClusterError
        For an operator that Kubernetes does not have.
    """
    wanted: Mapping[str, str] = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    return all(is_expression_met(item, labels) for item in selector.get("matchExpressions") or [])


def is_expression_met(expression: Object, labels: Mapping[str, str]) -> bool:
    """Say whether one ``matchExpressions`` item matches."""
    value, values = labels.get(expression["key"]), expression.get("values") or []
    operator = expression["operator"]
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    raise ClusterError(f"a selector has the unknown operator {operator!r}")


def list_policy_types(spec: Object) -> Sequence[str]:
    """Return the directions of a policy, with the default of the documentation."""
    given = spec.get("policyTypes")
    if given:
        return list(given)
    return ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def compute(
    policies: Iterable[Object], pods: Iterable[Object], namespaces: Iterable[Object]
) -> Rules:
    """Return the rules that `policies` make for `pods`."""
    known = [pod for pod in map(read_pod, pods) if pod is not None]
    labels = {item["metadata"]["name"]: item["metadata"].get("labels") or {} for item in namespaces}
    by_namespace: dict[str, list[Object]] = {}
    for policy in policies:
        by_namespace.setdefault(policy["metadata"]["namespace"], []).append(policy["spec"])
    rules = {}
    for pod in known:
        specs = [
            spec
            for spec in by_namespace.get(pod.namespace, [])
            if is_selected(spec.get("podSelector") or {}, pod.labels)
        ]
        rules[pod.address] = PodRules(
            pod.address,
            _compute_direction("Ingress", pod, specs, known, labels),
            _compute_direction("Egress", pod, specs, known, labels),
        )
    return Rules(rules)


def _compute_direction(
    direction: str,
    pod: Pod,
    specs: Sequence[Object],
    known: Sequence[Pod],
    labels: Mapping[str, Mapping[str, str]],
) -> tuple[Allowance, ...] | None:
    """Return what the policies that select `pod` allow; policies add up."""
    concerned = [spec for spec in specs if direction in list_policy_types(spec)]
    if not concerned:
        return None
    key, peer_key = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    allowed: list[Allowance] = []
    for rule in (rule for spec in concerned for rule in spec.get(key) or []):
        peers = find_peers(rule.get(peer_key) or [], pod.namespace, known, labels)
        ports = rule.get("ports") or []
        if direction == "Ingress":
            allowed += _allow_on(ports, peers, pod)
        else:
            allowed += _allow_towards(ports, peers, known)
    return tuple(item for item in allowed if item.peers and item.ports != ())


def _allow_on(ports: Sequence[Object], peers: tuple[IPv4Network, ...], pod: Pod) -> list[Allowance]:
    """Ingress: a named port is one of the selected pod's own."""
    return [Allowance(peers, read_ports(ports, pod))]


def _allow_towards(
    ports: Sequence[Object], peers: tuple[IPv4Network, ...], known: Sequence[Pod]
) -> list[Allowance]:
    """Egress: a named port means something else at each destination pod."""
    result = [Allowance(peers, read_ports(ports, None))]
    if any(isinstance(port.get("port"), str) for port in ports):
        named = [port for port in ports if isinstance(port.get("port"), str)]
        for pod in known:
            if any(pod.address in network for network in peers):
                result.append(Allowance((IPv4Network(pod.address),), read_ports(named, pod)))
    return result


def read_ports(ports: Sequence[Object], pod: Pod | None) -> tuple[PortRange, ...] | None:
    """Return the port ranges of a rule, None if it names none; named ports are `pod`'s."""
    if not ports:
        return None
    ranges = []
    for item in ports:
        protocol, port = item.get("protocol") or "TCP", item.get("port")
        if port is None:
            ranges.append(PortRange(protocol, 0, HIGHEST_PORT))
        elif isinstance(port, str):
            number = None if pod is None else pod.named_ports.get((port, protocol))
            if number is not None:
                ranges.append(PortRange(protocol, number, number))
        else:
            ranges.append(PortRange(protocol, port, item.get("endPort") or port))
    return merge_ranges(ranges)


def merge_ranges(ranges: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """Return the same ports in ranges that do not touch."""
    merged: list[PortRange] = []
    for item in sorted(ranges):
        last = merged[-1] if merged else None
        if last and last.protocol == item.protocol and item.first <= last.last + 1:
            merged[-1] = PortRange(last.protocol, last.first, max(last.last, item.last))
        else:
            merged.append(item)
    return tuple(merged)


def find_peers(
    peers: Sequence[Object],
    namespace: str,
    known: Sequence[Pod],
    labels: Mapping[str, Mapping[str, str]],
) -> tuple[IPv4Network, ...]:
    """Return the addresses that the peers of a rule mean; no peers mean everybody."""
    if not peers:
        return EVERYWHERE
    found: list[IPv4Network] = []
    for peer in peers:
        if "ipBlock" in peer:
            found += read_block(peer["ipBlock"])
            continue
        pod_selector = peer.get("podSelector") or {}
        for pod in known:
            is_there = (
                is_selected(peer["namespaceSelector"], labels.get(pod.namespace, {}))
                if peer.get("namespaceSelector") is not None
                else pod.namespace == namespace
            )
            if is_there and is_selected(pod_selector, pod.labels):
                found.append(IPv4Network(pod.address))
    return tuple(collapse_addresses(found))


def read_block(block: Object) -> list[IPv4Network]:
    """Return an ``ipBlock`` less its exceptions; nothing for IPv6."""
    network = ip_network(block["cidr"], strict=False)
    if not isinstance(network, IPv4Network):
        return []
    parts = [network]
    for text in block.get("except") or []:
        hole = ip_network(text, strict=False)
        if not isinstance(hole, IPv4Network):
            continue
        remaining: list[IPv4Network] = []
        for part in parts:
            if hole.supernet_of(part):
                continue
            if part.supernet_of(hole):
                remaining += part.address_exclude(hole)
            else:
                remaining.append(part)
        parts = remaining
    return parts


def is_allowed(
    rules: Rules,
    *,
    pod_range: str,
    source: str,
    destination: str,
    protocol: str,
    port: int,
) -> bool:
    """Say whether a connection may be opened; `port` is the destination's."""
    pods, sender, receiver = IPv4Network(pod_range), IPv4Address(source), IPv4Address(destination)
    if sender in pods:
        found = rules.pods.get(sender)
        if found is None or not _is_among(found.egress, receiver, protocol, port):
            return False
    if receiver in pods:
        found = rules.pods.get(receiver)
        if found is None or not _is_among(found.ingress, sender, protocol, port):
            return False
    return True


def _is_among(
    allowed: tuple[Allowance, ...] | None, peer: IPv4Address, protocol: str, port: int
) -> bool:
    if allowed is None:
        return True
    for item in allowed:
        if not any(peer in network for network in item.peers):
            continue
        if item.ports is None or any(
            part.protocol == protocol and part.first <= port <= part.last for part in item.ports
        ):
            return True
    return False


def render(rules: Rules, *, pod_range: str) -> str:
    """Return the nftables rule set, which replaces the one in force in one transaction.

    Replies pass; everything else, also the later packets of a connection, is looked up anew, so
    that a change holds for connections that are open already. What belongs to no connection is
    dropped: a reply must not open a connection that was cut.
    """
    chains: list[str] = []
    egress, ingress = [], []
    for address in sorted(rules.pods):
        pod = rules.pods[address]
        egress.append(_make_verdict(chains, "from", "daddr", address, pod.egress))
        ingress.append(_make_verdict(chains, "to", "saddr", address, pod.ingress))
    chains.append(_make_lookup("egress", "saddr", egress))
    chains.append(_make_lookup("ingress", "daddr", ingress))
    return f"""\
table inet {TABLE}
delete table inet {TABLE}
table inet {TABLE} {{
{chr(10).join(chains)}
  chain pods {{
    meta nfproto ipv6 drop
    ct state related accept
    ct state established ct direction reply accept
    ct state invalid drop
    ip saddr {pod_range} jump egress
    ip daddr {pod_range} jump ingress
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    jump pods
  }}
  chain input {{
    type filter hook input priority filter; policy accept;
    iif lo accept
    jump pods
  }}
}}
"""


def _make_lookup(name: str, field: str, verdicts: Sequence[str]) -> str:
    lines = [f"  chain {name} {{"]
    if verdicts:
        lines.append(f"    ip {field} vmap {{ {', '.join(verdicts)} }}")
    # Not known yet: silence makes a client ask again, a refusal would make it give up.
    return "\n".join([*lines, "    drop", "  }"])


def _make_verdict(
    chains: list[str],
    prefix: str,
    field: str,
    address: IPv4Address,
    allowed: tuple[Allowance, ...] | None,
) -> str:
    """Return the map element of one pod; adds its chain to `chains` if it is isolated."""
    if allowed is None:
        return f"{address} : return"
    name = f"{prefix}_{str(address).replace('.', '_')}"
    lines = [line for item in allowed for line in _make_rules(field, item)]
    body = "\n".join(f"    {line} return" for line in dict.fromkeys(lines))
    refusal = "    reject with icmpx type admin-prohibited"
    chains.append("\n".join(filter(None, [f"  chain {name} {{", body, refusal, "  }"])))
    return f"{address} : goto {name}"


def _make_rules(field: str, item: Allowance) -> list[str]:
    peers = "" if item.peers == EVERYWHERE else f"ip {field} {{ {_join(item.peers)} }} "
    if item.ports is None:
        return [peers.strip() or "meta nfproto ipv4"]
    rules = []
    for protocol in sorted({part.protocol for part in item.ports}):
        parts = [part for part in item.ports if part.protocol == protocol]
        ports = ", ".join(f"{part.first}-{part.last}" for part in parts)
        rules.append(f"{peers}meta l4proto {protocol.lower()} th dport {{ {ports} }}")
    return rules


def _join(networks: Iterable[IPv4Network]) -> str:
    return ", ".join(str(network) for network in networks)
