"""Holds the NetworkPolicies that the provisioner writes to what egress rules may open at all.

Whoever took over the provisioner could otherwise open a team's pods to everybody, or the cluster
and the clouds' metadata services to them. What a team's rules say is the host's business; that no
rule opens a special range is the same check as `jupyterhub_collab.policy.egress`, said in CEL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from ..constants import COMPONENT_ARCHIVE, LABEL_COMPONENT
from ..models import Endpoint, Platform, PodPeer
from ..policy.egress import all_special_ranges
from .admission import Rule, literal

_LISTS: Final = ".orValue([])"


def network_rules(platform: Platform) -> tuple[Rule, ...]:
    """Rules on NetworkPolicies that the provisioner writes."""
    inward = [platform.proxy, platform.hub_api]
    outward = [platform.hub_api, platform.egress_proxy, platform.data_gateway]
    archives = json.dumps({LABEL_COMPONENT: COMPONENT_ARCHIVE})
    to_contests = (
        f"(object.spec.podSelector.?matchLabels.orValue({{}}) == {archives}"
        f" && {_is_endpoint('p', [platform.contests])})"
    )
    sources = f"object.spec.?ingress{_LISTS}"
    targets = f"object.spec.?egress{_LISTS}"
    return (
        (
            f"{sources}.all(r, size(r.?from{_LISTS}) > 0 && size(r.?ports{_LISTS}) > 0)"
            f" && {targets}.all(r, size(r.?to{_LISTS}) > 0 && size(r.?ports{_LISTS}) > 0)",
            "every rule of the provisioner's network policies names peers and ports",
        ),
        (
            f"{sources}.all(r, r.from.all(p, {_is_endpoint('p', inward)}))",
            "only the platform's hub and proxy may be let in",
        ),
        (
            f"{targets}.all(r, r.to.all(p, {_is_endpoint('p', outward)} || {to_contests}"
            f" || (has(p.ipBlock) && {_is_public(platform)})))",
            "only the platform's services (the contests service by archive Jobs alone) and public"
            " networks may be let out to, and of a network"
            " that holds special ranges all but these",
        ),
    )


def _is_endpoint(peer: str, endpoints: Iterable[Endpoint | None]) -> str:
    """CEL: the peer is one of these services."""
    found = [_is_peer(peer, endpoint) for endpoint in endpoints if endpoint is not None]
    return f"({' || '.join(dict.fromkeys(found)) or 'false'})"


def _is_peer(peer: str, endpoint: Endpoint) -> str:
    wanted = endpoint.peer
    if not isinstance(wanted, PodPeer):
        return f'({peer}.?ipBlock.?cidr.orValue("") == {literal(wanted.cidr)})'
    labels = {
        "namespaceSelector": {"kubernetes.io/metadata.name": wanted.namespace},
        "podSelector": dict(wanted.pod_labels),
    }
    return "({})".format(
        " && ".join(
            f"{peer}.?{selector}.?matchLabels.orValue({{}}) == {json.dumps(values)}"
            f" && size({peer}.?{selector}.?matchExpressions{_LISTS}) == 0"
            for selector, values in labels.items()
        )
    )


def _is_public(platform: Platform) -> str:
    """CEL: the peer's ipBlock opens no special range.

    A range that lies in the block has to be among its exceptions; a block that lies in a range has
    to be named by this platform's settings, and the range to be one that can be.
    """
    ranges = all_special_ranges(platform)
    block = "cidr(p.ipBlock.cidr)"
    every = _networks(str(r.network) for r in ranges)
    nameable = _networks(str(r.network) for r in ranges if r.nameable)
    never = _networks(str(r.network) for r in ranges if not r.nameable and not r.is_rest)
    allowed = _networks(platform.private_ranges_allowed)
    held = f"x.containsCIDR({block})"
    excepted = (
        f"{every}.all(x, {held} || !{block}.containsCIDR(x)"
        f" || p.ipBlock.?except{_LISTS}.exists(e, cidr(e).containsCIDR(x)))"
    )
    if not platform.private_ranges_allowed:
        return f"!{every}.exists(x, {held}) && {excepted}"
    named = (
        f"{allowed}.exists(x, {held}) && {nameable}.exists(x, {held}) && !{never}.exists(x, {held})"
    )
    return f"(!{every}.exists(x, {held}) || ({named})) && {excepted}"


def _networks(texts: Iterable[str]) -> str:
    """CEL: a list of networks."""
    return "[{}]".format(", ".join(f"cidr({literal(text)})" for text in texts))
