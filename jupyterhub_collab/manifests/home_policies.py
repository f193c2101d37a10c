"""NetworkPolicies of the hub's namespace: who may talk to hub, proxy and services.

Everything is closed, then each program gets the ways it needs. A member's server reaches the hub's
API and nothing else here: not the provisioner nor the audit service, not the proxy's own API, which
could send everybody anywhere. Policies add up, so the chart's own may stay on or off.

Outward, hub and provisioner need the cluster's API server and the hub whoever signs people in:
neither can be named by a selector, so ports 443 and 6443 are open but to link-local addresses,
where clouds hand out the node's credentials. The audit service reaches 443 and the ports of mail
servers there, for its anchors, and no API server has to let it in; so does the contests service,
for notices and archives, where the platform's settings say so. Of what runs in teams' namespaces
archive Jobs reach the contests service, and servers do not.

Notes
-----
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

from typing import Any, Final

from ..constants import (
    AUDIT_PORT,
    COMPONENT_ARCHIVE,
    CONTESTS_PORT,
    LABEL_COMPONENT,
    LABEL_HUB,
    LABEL_MANAGED_BY,
    LABEL_TEAM,
    MANAGED_BY,
    PROVISIONER_PORT,
    PROXY_API_PORT,
)
from ..models import Platform
from .archive_job import can_archive
from .home import make_home_object, pod_labels_of
from .manifest import Manifest

PROVISIONER: Final = "provisioner"  # its component label
AUDIT: Final = "audit"
CONTESTS: Final = "contests"

_DNS_PORTS: Final = tuple({"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP"))
# Where the chart's proxy listens for TLS of its own (proxy.https: manual or secret).
_PROXY_TLS_PORT: Final = 8443
_TLS_PORTS: Final = tuple({"protocol": "TCP", "port": port} for port in (443, 6443))
_OUTWARD_PORTS: Final = tuple({"protocol": "TCP", "port": port} for port in (443, 465, 587))
# NodeLocal DNSCache answers there, on nodes that have it.
_NODE_LOCAL_DNS: Final = "169.254.20.10/32"
_LINK_LOCAL: Final = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}


def make_home_policies(platform: Platform) -> tuple[Manifest, ...]:
    """All policies of the hub's namespace, the one that closes everything first.

    Raises
    ------
    UserError
        The platform says that hub or proxy run outside the cluster.
    """
    hub = pod_labels_of(platform.hub_api, platform, what="hub_api")
    proxy = pod_labels_of(platform.proxy, platform, what="proxy")
    provisioner, audit = home_labels(PROVISIONER, platform), home_labels(AUDIT, platform)
    contests = home_labels(CONTESTS, platform)
    hub_port = platform.hub_api.target_port or platform.hub_api.port
    proxy_port = platform.proxy.target_port or platform.proxy.port
    people = [{"protocol": "TCP", "port": port} for port in (proxy_port, _PROXY_TLS_PORT)]
    servers = {"namespaceSelector": _teams(platform)}
    to_hub = _rule("to", _pods(hub), port=hub_port)
    to_provisioner = _rule("to", _pods(provisioner), port=PROVISIONER_PORT)
    to_audit = _rule("to", _pods(audit), port=AUDIT_PORT)
    to_contests = _rule("to", _pods(contests), port=CONTESTS_PORT)
    to_servers = _rule("to", servers, port=platform.server_port)
    to_proxy_api = _rule("to", _pods(proxy), port=PROXY_API_PORT)
    to_services = (to_provisioner, to_audit, to_contests)
    services = (_pods(provisioner), _pods(audit), _pods(contests))
    asking = (_pods(hub), _pods(proxy), _pods(contests))
    return (
        _make_policy("collab-deny-all", {}, platform),
        _make_policy(
            "collab-hub",
            hub,
            platform,
            ingress=[_rule("from", _pods(proxy), *services, servers, port=hub_port)],
            egress=[_dns(), _api_server(), to_proxy_api, *to_services, to_servers],
        ),
        _make_policy(
            "collab-proxy",
            proxy,
            platform,
            ingress=[
                {"ports": people},  # from anywhere
                _rule("from", _pods(hub), port=PROXY_API_PORT),
            ],
            egress=[_dns(), to_hub, *to_services, to_servers],
        ),
        _make_policy(
            "collab-provisioner",
            provisioner,
            platform,
            ingress=[_rule("from", *asking, port=PROVISIONER_PORT)],
            egress=[_dns(), _api_server(), to_hub, to_audit],
        ),
        _make_policy(
            "collab-audit",
            audit,
            platform,
            ingress=[_rule("from", *asking, _pods(provisioner), port=AUDIT_PORT)],
            egress=[_dns(), _outward(), to_hub],
        ),
        _make_policy(
            "collab-contests",
            contests,
            platform,
            ingress=[
                _rule("from", _pods(hub), _pods(proxy), *_archives(platform), port=CONTESTS_PORT)
            ],
            egress=[
                _dns(),
                *([_outward()] if platform.contests_outward else ()),
                to_hub,
                to_provisioner,
                to_audit,
            ],
        ),
    )


def home_labels(component: str, platform: Platform) -> dict[str, str]:
    """Labels of the pods of one of our services, and of no other's."""
    return {
        LABEL_MANAGED_BY: MANAGED_BY,
        LABEL_HUB: platform.hub_id,
        LABEL_COMPONENT: component,
    }


def _teams(platform: Platform) -> dict[str, Any]:
    """Selects this hub's team namespaces. The hub's own has no team."""
    return {
        "matchLabels": {LABEL_MANAGED_BY: MANAGED_BY, LABEL_HUB: platform.hub_id},
        "matchExpressions": [{"key": LABEL_TEAM, "operator": "Exists"}],
    }


def _pods(labels: dict[str, str]) -> dict[str, Any]:
    return {"podSelector": {"matchLabels": labels}}


def _rule(direction: str, *peers: dict[str, Any], port: int) -> dict[str, Any]:
    return {direction: list(peers), "ports": [{"protocol": "TCP", "port": port}]}


def _dns() -> dict[str, Any]:
    system = {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}
    peers = [{"namespaceSelector": system}, {"ipBlock": {"cidr": _NODE_LOCAL_DNS}}]
    return {"to": peers, "ports": list(_DNS_PORTS)}


def _api_server() -> dict[str, Any]:
    return {"to": _anywhere(), "ports": list(_TLS_PORTS)}


def _outward() -> dict[str, Any]:
    """Object stores, webhooks and mail servers, which nobody here can name."""
    return {"to": _anywhere(), "ports": list(_OUTWARD_PORTS)}


def _archives(platform: Platform) -> list[dict[str, Any]]:
    """Pods of archive Jobs in this hub's team namespaces; no server is one of them."""
    if not can_archive(platform):
        return []
    pods = {"matchLabels": {LABEL_COMPONENT: COMPONENT_ARCHIVE}}
    return [{"namespaceSelector": _teams(platform), "podSelector": pods}]


def _anywhere() -> list[dict[str, Any]]:
    return [{"ipBlock": {"cidr": c, "except": [e]}} for c, e in _LINK_LOCAL.items()]


def _make_policy(
    name: str,
    labels: dict[str, str],
    platform: Platform,
    *,
    ingress: list[dict[str, Any]] | None = None,
    egress: list[dict[str, Any]] | None = None,
) -> Manifest:
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": labels} if labels else {},
        "policyTypes": ["Ingress", "Egress"],
    }
    if ingress is not None:
        spec["ingress"] = ingress
    if egress is not None:
        spec["egress"] = egress
    return make_home_object(
        "networking.k8s.io/v1", "NetworkPolicy", name, platform, body={"spec": spec}
    )
