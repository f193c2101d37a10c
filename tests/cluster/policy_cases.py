"""Cases of NetworkPolicy from its documentation: what is applied, and who then reaches whom.

Each case is computed (`tests.cluster.netpol`) and shown right on the real node. Each has flows
that pass beside flows that do not, so that a broken probe cannot look like a policy at work.

Notes
-----
https://kubernetes.io/docs/concepts/services-networking/network-policies/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

#: Namespaces of the cases, with the label `team`.
HERE: Final = "policy-here"
THERE: Final = "policy-there"
NAMESPACES: Final = {HERE: {"team": "here"}, THERE: {"team": "there", "shared": "yes"}}

#: Pods by the names that flows use, with namespace and labels.
PODS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "server": (HERE, {"app": "server"}),
    "friend": (HERE, {"app": "friend", "role": "front"}),
    "other": (HERE, {"app": "other"}),
    "far-friend": (THERE, {"app": "friend"}),
    "far-other": (THERE, {"app": "other", "role": "back"}),
}
#: This machine: reaches pods and is reached by them, and is no pod.
HOST: Final = "host"

WEB, ADMIN, RANGE_FIRST, RANGE_INSIDE, RANGE_LAST, BEYOND = 8080, 9090, 32000, 32005, 32010, 32011
TCP_PORTS: Final = (WEB, ADMIN, RANGE_FIRST, RANGE_INSIDE, RANGE_LAST, BEYOND)
ECHO, SECOND_ECHO = 5353, 5354
UDP_PORTS: Final = (ECHO, SECOND_ECHO)
#: Name of port WEB in every pod.
WEB_NAME: Final = "web"


@dataclass(frozen=True)
class Flow:
    """One connection that is tried."""

    source: str
    destination: str
    port: int = WEB
    protocol: str = "TCP"


@dataclass(frozen=True)
class Case:
    """Policies (in namespace HERE), and what passes and what does not under them.

    ``{NAME}`` in a policy's text stands for the address of a pod or of the host.
    """

    name: str
    policies: tuple[dict[str, Any], ...]
    passes: tuple[Flow, ...]
    stopped: tuple[Flow, ...]

    def make_policies(self, addresses: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the manifests with `addresses` filled in."""
        manifests = []
        for number, spec in enumerate(self.policies):
            text = json.dumps(spec)
            for name, address in addresses.items():
                text = text.replace("{" + name + "}", address)
            manifests.append(
                {
                    "apiVersion": "networking.k8s.io/v1",
                    "kind": "NetworkPolicy",
                    "metadata": {"name": f"case-{number}", "namespace": HERE},
                    "spec": json.loads(text),
                }
            )
        return manifests


SERVER: Final = {"matchLabels": {"app": "server"}}
FRIEND: Final = {"matchLabels": {"app": "friend"}}
EVERY_POD: Final[dict[str, Any]] = {}
DENY_INGRESS: Final = {"podSelector": EVERY_POD, "policyTypes": ["Ingress"]}
DENY_EGRESS: Final = {"podSelector": EVERY_POD, "policyTypes": ["Egress"]}


def into_server(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a policy for what comes into the server."""
    return {
        "podSelector": SERVER,
        "policyTypes": ["Ingress"],
        "ingress": list(rules),
    } | more


def out_of_friend(*rules: dict[str, Any]) -> dict[str, Any]:
    """Return a policy for what goes out of the friend."""
    return {"podSelector": FRIEND, "policyTypes": ["Egress"], "egress": list(rules)}


def to_server(*sources: str, port: int = WEB, protocol: str = "TCP") -> tuple[Flow, ...]:
    """Return flows from `sources` to the server."""
    return tuple(Flow(source, "server", port, protocol) for source in sources)


CASES: Final = (
    Case(
        "deny all ingress of a namespace",
        (DENY_INGRESS,),
        passes=(Flow("server", "far-other"), Flow("friend", HOST), Flow("far-friend", "far-other")),
        stopped=(*to_server("friend", "far-friend", HOST), Flow("server", "friend")),
    ),
    Case(
        "deny all egress of a namespace",
        (DENY_EGRESS,),
        passes=(*to_server("far-friend", HOST), Flow("far-friend", "far-other")),
        stopped=(*to_server("friend"), Flow("server", "far-other"), Flow("server", HOST)),
    ),
    Case(
        "deny all, both ways",
        ({"podSelector": EVERY_POD, "policyTypes": ["Ingress", "Egress"]},),
        passes=(Flow("far-friend", "far-other"), Flow("far-friend", HOST)),
        stopped=(*to_server("friend", "far-friend", HOST), Flow("friend", HOST)),
    ),
    Case(
        "allow all ingress takes back a denial",
        (DENY_INGRESS, {"podSelector": SERVER, "policyTypes": ["Ingress"], "ingress": [{}]}),
        passes=to_server("friend", "far-other", HOST),
        stopped=(Flow("server", "friend"), Flow(HOST, "other")),
    ),
    Case(
        "allow all egress takes back a denial",
        (DENY_EGRESS, {"podSelector": FRIEND, "policyTypes": ["Egress"], "egress": [{}]}),
        passes=(*to_server("friend"), Flow("friend", "far-other"), Flow("friend", HOST)),
        stopped=(*to_server("other"), Flow("other", HOST)),
    ),
    Case(
        "a pod selector means pods of the policy's own namespace",
        (into_server({"from": [{"podSelector": FRIEND}]}),),
        passes=(*to_server("friend"), Flow("other", "friend")),
        stopped=to_server("far-friend", "other", HOST),
    ),
    Case(
        "an empty pod selector means the whole namespace and no other",
        (into_server({"from": [{"podSelector": {}}]}),),
        passes=to_server("friend", "other"),
        stopped=to_server("far-friend", HOST),
    ),
    Case(
        "a namespace selector means all pods of those namespaces",
        (into_server({"from": [{"namespaceSelector": {"matchLabels": {"team": "there"}}}]}),),
        passes=to_server("far-friend", "far-other"),
        stopped=to_server("friend", "other", HOST),
    ),
    Case(
        "an empty namespace selector means every pod, and nothing that is no pod",
        (into_server({"from": [{"namespaceSelector": {}}]}),),
        passes=to_server("friend", "far-other"),
        stopped=to_server(HOST),
    ),
    Case(
        "both selectors in one peer: both must match",
        (
            into_server(
                {
                    "from": [
                        {
                            "namespaceSelector": {"matchLabels": {"team": "there"}},
                            "podSelector": FRIEND,
                        }
                    ]
                }
            ),
        ),
        passes=to_server("far-friend"),
        stopped=to_server("far-other", "friend", "other"),
    ),
    Case(
        "both selectors as two peers: one is enough",
        (
            into_server(
                {
                    "from": [
                        {"namespaceSelector": {"matchLabels": {"team": "there"}}},
                        {"podSelector": FRIEND},
                    ]
                }
            ),
        ),
        passes=to_server("far-friend", "far-other", "friend"),
        stopped=to_server("other", HOST),
    ),
    Case(
        "a namespace by its name",
        (
            into_server(
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": THERE}
                            }
                        }
                    ]
                }
            ),
        ),
        passes=to_server("far-friend"),
        stopped=to_server("friend"),
    ),
    Case(
        "In and Exists",
        (
            into_server(
                {
                    "from": [
                        {
                            "namespaceSelector": {
                                "matchExpressions": [{"key": "shared", "operator": "Exists"}]
                            },
                            "podSelector": {
                                "matchExpressions": [
                                    {"key": "role", "operator": "In", "values": ["back", "side"]}
                                ]
                            },
                        }
                    ]
                }
            ),
        ),
        passes=to_server("far-other"),
        stopped=to_server("far-friend", "friend"),
    ),
    Case(
        "NotIn and DoesNotExist match where the label is missing",
        (
            into_server(
                {
                    "from": [
                        {
                            "podSelector": {
                                "matchExpressions": [
                                    {"key": "app", "operator": "NotIn", "values": ["friend"]},
                                    {"key": "role", "operator": "DoesNotExist"},
                                ]
                            }
                        }
                    ]
                }
            ),
        ),
        passes=to_server("other"),
        stopped=to_server("friend", "far-other"),
    ),
    Case(
        "the policy's own pod selector with an expression",
        (
            {
                "podSelector": {
                    "matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["server", "other"]}
                    ]
                },
                "policyTypes": ["Ingress"],
            },
        ),
        passes=(Flow("server", "friend"), Flow(HOST, "friend")),
        stopped=(*to_server("friend"), Flow("friend", "other")),
    ),
    Case(
        "ingress from a range of addresses, with exceptions",
        (
            into_server(
                {
                    "from": [
                        {
                            "ipBlock": {
                                "cidr": "10.128.0.0/9",
                                "except": ["{far-friend}/32", "{other}/32"],
                            }
                        }
                    ]
                }
            ),
        ),
        passes=to_server("friend", "far-other", HOST),
        stopped=to_server("far-friend", "other"),
    ),
    Case(
        "ingress from one address",
        (into_server({"from": [{"ipBlock": {"cidr": "{host}/32"}}]}),),
        passes=to_server(HOST),
        stopped=to_server("friend", "far-friend"),
    ),
    Case(
        "egress to one address",
        (out_of_friend({"to": [{"ipBlock": {"cidr": "{host}/32"}}]}),),
        passes=(Flow("friend", HOST), Flow("other", "far-friend")),
        stopped=(*to_server("friend"), Flow("friend", "far-friend")),
    ),
    Case(
        "egress everywhere except",
        (out_of_friend({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["{host}/32"]}}]}),),
        passes=(*to_server("friend"), Flow("friend", "far-friend")),
        stopped=(Flow("friend", HOST),),
    ),
    Case(
        "egress to pods of another namespace",
        (
            out_of_friend(
                {
                    "to": [
                        {
                            "namespaceSelector": {"matchLabels": {"team": "there"}},
                            "podSelector": FRIEND,
                        }
                    ]
                }
            ),
        ),
        passes=(Flow("friend", "far-friend"), Flow("other", "far-other")),
        stopped=(Flow("friend", "far-other"), *to_server("friend"), Flow("friend", HOST)),
    ),
    Case(
        "one port",
        (into_server({"ports": [{"protocol": "TCP", "port": WEB}]}),),
        passes=to_server("friend", "far-friend", HOST),
        stopped=(*to_server("friend", port=ADMIN), *to_server("friend", port=ECHO, protocol="UDP")),
    ),
    Case(
        "a port without a protocol is TCP",
        (into_server({"ports": [{"port": WEB}]}),),
        passes=to_server("friend"),
        stopped=to_server("friend", port=ADMIN),
    ),
    Case(
        "a UDP port",
        (into_server({"ports": [{"protocol": "UDP", "port": ECHO}]}),),
        passes=to_server("friend", port=ECHO, protocol="UDP"),
        stopped=(
            *to_server("friend", port=SECOND_ECHO, protocol="UDP"),
            *to_server("friend", port=WEB),
        ),
    ),
    Case(
        "a protocol without a port",
        (into_server({"ports": [{"protocol": "UDP"}]}),),
        passes=(
            *to_server("friend", port=ECHO, protocol="UDP"),
            *to_server("friend", port=SECOND_ECHO, protocol="UDP"),
        ),
        stopped=to_server("friend"),
    ),
    Case(
        "a range of ports",
        (into_server({"ports": [{"port": RANGE_FIRST, "endPort": RANGE_LAST}]}),),
        passes=(
            *to_server("friend", port=RANGE_FIRST),
            *to_server("friend", port=RANGE_INSIDE),
            *to_server("friend", port=RANGE_LAST),
        ),
        stopped=(*to_server("friend", port=BEYOND), *to_server("friend")),
    ),
    Case(
        "a named port into a pod",
        (into_server({"ports": [{"port": WEB_NAME}]}),),
        passes=to_server("friend", HOST),
        stopped=to_server("friend", port=ADMIN),
    ),
    Case(
        "a named port out of a pod",
        (out_of_friend({"to": [{"podSelector": {}}], "ports": [{"port": WEB_NAME}]}),),
        passes=(*to_server("friend"), Flow("friend", "other")),
        stopped=(*to_server("friend", port=ADMIN), Flow("friend", "far-friend")),
    ),
    Case(
        "peers and ports of one rule belong together",
        (
            into_server(
                {"from": [{"podSelector": FRIEND}], "ports": [{"port": WEB}]},
                {
                    "from": [{"podSelector": {"matchLabels": {"app": "other"}}}],
                    "ports": [{"port": ADMIN}],
                },
            ),
        ),
        passes=(*to_server("friend"), *to_server("other", port=ADMIN)),
        stopped=(*to_server("friend", port=ADMIN), *to_server("other")),
    ),
    Case(
        "ranges that overlap add up",
        (
            into_server(
                {
                    "from": [
                        {"ipBlock": {"cidr": "10.128.0.0/9"}},
                        {"ipBlock": {"cidr": "{friend}/32"}},
                    ],
                    "ports": [{"port": WEB}, {"port": RANGE_FIRST, "endPort": RANGE_LAST}],
                },
                {
                    "from": [{"ipBlock": {"cidr": "{friend}/32"}}],
                    "ports": [{"port": RANGE_INSIDE, "endPort": BEYOND}],
                },
            ),
        ),
        passes=(*to_server("friend", "other"), *to_server("friend", port=BEYOND)),
        stopped=(*to_server("other", port=BEYOND), *to_server("friend", port=ADMIN)),
    ),
    Case(
        "several policies add up",
        (
            into_server({"from": [{"podSelector": FRIEND}]}),
            into_server({"from": [{"namespaceSelector": {"matchLabels": {"team": "there"}}}]}),
        ),
        passes=to_server("friend", "far-other"),
        stopped=to_server("other"),
    ),
    Case(
        "an empty list of peers means everybody, an empty list of rules nobody",
        (
            into_server({"from": []}),
            {"podSelector": FRIEND, "policyTypes": ["Ingress"], "ingress": []},
        ),
        passes=to_server("friend", "far-friend", HOST),
        stopped=(Flow("server", "friend"), Flow(HOST, "friend")),
    ),
    Case(
        "both ends must allow",
        (DENY_INGRESS, out_of_friend({"to": [{"podSelector": SERVER}]})),
        passes=(Flow("other", "far-friend"),),
        stopped=(*to_server("friend"), Flow("friend", "far-friend")),
    ),
    Case(
        "replies need no rule of their own",
        (
            {"podSelector": SERVER, "policyTypes": ["Egress"], "egress": []},
            into_server({"from": [{"podSelector": FRIEND}]}),
        ),
        passes=(*to_server("friend"), *to_server("friend", port=ECHO, protocol="UDP")),
        stopped=(Flow("server", "friend"), Flow("server", HOST), *to_server("other")),
    ),
    Case(
        "without policyTypes and egress rules: ingress alone",
        ({"podSelector": SERVER},),
        passes=(Flow("server", "friend"), Flow("server", HOST)),
        stopped=to_server("friend", HOST),
    ),
    Case(
        "without policyTypes but with egress rules: both",
        ({"podSelector": FRIEND, "egress": [{"to": [{"podSelector": SERVER}]}]},),
        passes=to_server("friend"),
        stopped=(Flow("server", "friend"), Flow("friend", HOST)),
    ),
    Case(
        "policyTypes of egress leave ingress open",
        ({"podSelector": SERVER, "policyTypes": ["Egress"]},),
        passes=to_server("friend", HOST),
        stopped=(Flow("server", "friend"), Flow("server", HOST)),
    ),
    Case(
        "a policy that selects no pod changes nothing",
        (
            {"podSelector": {"matchLabels": {"app": "nobody"}}, "policyTypes": ["Ingress"]},
            {
                "podSelector": {"matchLabels": {"app": "other"}},
                "policyTypes": ["Ingress"],
            },
        ),
        passes=to_server("friend", "far-friend", HOST),
        stopped=(Flow("friend", "other"),),
    ),
)
