"""NetworkPolicies of a team: everything is closed, then a few ways are opened.

`deny-all` closes both directions for every pod; no other object of a tenancy but the namespace
comes before it. `platform` opens what every server needs: the hub and the proxy may reach it, it
may reach the hub's API, the egress proxy and the data gateway. There is no DNS among these: pods
find the platform by host aliases, and a resolver would be a way out (DNS tunnels). One policy more
for each egress rule. Pods of archive Jobs reach the contests service, which no server reaches, and
nothing else.

What is in the cluster is named by selectors, never by address: some engines never match ipBlock
against pods or nodes. A policy sees the pod behind a Service, so ports are the pod's own.

Notes
-----
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from typing import Any

from .. import names
from ..constants import (
    COMPONENT_ARCHIVE,
    LABEL_COMPONENT,
    POLICY_ARCHIVE,
    POLICY_DENY_ALL,
    POLICY_PLATFORM,
)
from ..models import EgressRule, Endpoint, Platform, PodPeer, TeamSpec
from ..policy.egress import effective_egress
from .archive_job import can_archive
from .manifest import Manifest, make_object


def make_deny_all(spec: TeamSpec, platform: Platform) -> Manifest:
    """Closes all pods of the namespace, both ways."""
    return _make_policy(
        POLICY_DENY_ALL, {"policyTypes": ["Ingress", "Egress"]}, spec=spec, platform=platform
    )


def make_platform_policy(spec: TeamSpec, platform: Platform) -> Manifest:
    """Opens what every server needs of the platform."""
    callers: list[dict[str, Any]] = []
    for endpoint in (platform.proxy, platform.hub_api):
        peer = _make_peer(endpoint)
        if peer not in callers:
            callers.append(peer)
    called = [platform.hub_api, platform.egress_proxy, platform.data_gateway]
    body = {
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [
            {"from": callers, "ports": [{"protocol": "TCP", "port": platform.server_port}]}
        ],
        "egress": [_make_way(endpoint) for endpoint in called if endpoint is not None],
    }
    return _make_policy(
        POLICY_PLATFORM, body, spec=spec, platform=platform, pods=_all_but_archives(platform)
    )


def make_egress_policy(rule: EgressRule, spec: TeamSpec, platform: Platform) -> Manifest:
    """Opens one egress rule, without the ranges that stay closed.

    Raises
    ------
    SpecError
        The rule lies inside a range that this platform never opens.
    """
    cidr, excepted = effective_egress(rule, platform)
    block: dict[str, Any] = {"cidr": cidr}
    if excepted:
        block["except"] = list(excepted)
    ports: list[dict[str, Any]] = []
    for entry in rule.ports:
        port: dict[str, Any] = {"protocol": entry.protocol.value, "port": entry.port}
        if entry.end_port is not None and entry.end_port != entry.port:
            port["endPort"] = entry.end_port
        ports.append(port)
    body = {"policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": block}], "ports": ports}]}
    name = names.egress_policy(rule.name)
    pods = _all_but_archives(platform)
    return _make_policy(name, body, spec=spec, platform=platform, pods=pods)


def make_archive_policy(spec: TeamSpec, platform: Platform) -> Manifest | None:
    """Lets the pods of archive Jobs reach the contests service; None: nothing is archived here."""
    if not can_archive(platform) or platform.contests is None:
        return None
    body = {"policyTypes": ["Ingress", "Egress"], "egress": [_make_way(platform.contests)]}
    pods = {"matchLabels": {LABEL_COMPONENT: COMPONENT_ARCHIVE}}
    return _make_policy(POLICY_ARCHIVE, body, spec=spec, platform=platform, pods=pods)


def make_network_policies(spec: TeamSpec, platform: Platform) -> tuple[Manifest, ...]:
    """All policies, `deny-all` first. Raises SpecError as `make_egress_policy`."""
    archive = make_archive_policy(spec, platform)
    return (
        make_deny_all(spec, platform),
        make_platform_policy(spec, platform),
        *(() if archive is None else (archive,)),
        *(make_egress_policy(rule, spec, platform) for rule in spec.egress),
    )


def _all_but_archives(platform: Platform) -> dict[str, Any]:
    """Selects pods for which something is opened: archive Jobs' have a policy of their own."""
    if not can_archive(platform):
        return {}
    other = {"key": LABEL_COMPONENT, "operator": "NotIn", "values": [COMPONENT_ARCHIVE]}
    return {"matchExpressions": [other]}


def _make_way(endpoint: Endpoint) -> dict[str, Any]:
    port = {"protocol": "TCP", "port": endpoint.target_port or endpoint.port}
    return {"to": [_make_peer(endpoint)], "ports": [port]}


def _make_peer(endpoint: Endpoint) -> dict[str, Any]:
    peer = endpoint.peer
    if isinstance(peer, PodPeer):
        return {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": peer.namespace}},
            "podSelector": {"matchLabels": dict(peer.pod_labels)},
        }
    return {"ipBlock": {"cidr": peer.cidr}}


def _make_policy(
    name: str,
    body: dict[str, Any],
    *,
    spec: TeamSpec,
    platform: Platform,
    pods: dict[str, Any] | None = None,
) -> Manifest:
    return make_object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        name,
        spec=spec,
        platform=platform,
        namespace=names.namespace_of(spec.team, prefix=platform.namespace_prefix),
        body={"spec": {"podSelector": pods or {}, **body}},
    )
