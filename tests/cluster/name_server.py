"""The cluster's name server: CoreDNS as pods behind the Service ``kube-dns``.

Only for tests of programs that find one another by name. The node has no way to the outside, so
CoreDNS answers for the cluster's own zone and refuses all else.
"""

from __future__ import annotations

from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.images import COREDNS_IMAGE

NAME: Final = "coredns"
_COREFILE: Final = """
.:53 {
    errors
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa
    cache 5
}
"""


def run_name_server(cluster: Cluster) -> None:
    """Start CoreDNS and wait until it answers. Its image must have been loaded."""
    cluster.apply(*_make_account(), *_make_pods())
    rollout = ("rollout", "status", f"deployment/{NAME}", "-n", "kube-system", "--timeout=60s")
    cluster.kubectl(*rollout, timeout_s=70)


def _object(api_version: str, kind: str, **body: Any) -> dict[str, Any]:
    is_wide = kind.startswith("Cluster")
    metadata = {"name": NAME, **({} if is_wide else {"namespace": "kube-system"})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}


def _make_account() -> list[dict[str, Any]]:
    rbac = "rbac.authorization.k8s.io"
    watched = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"]},
    ]
    rules = [{**rule, "verbs": ["list", "watch"]} for rule in watched]
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": "kube-system"}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME}
    return [
        _object("v1", "ServiceAccount"),
        _object(f"{rbac}/v1", "ClusterRole", rules=rules),
        _object(f"{rbac}/v1", "ClusterRoleBinding", roleRef=role, subjects=[subject]),
    ]


def _make_pods() -> list[dict[str, Any]]:
    labels = {"k8s-app": "kube-dns"}
    container = {
        "name": NAME,
        "image": COREDNS_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }
    pod = {
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": NAME,
        "dnsPolicy": "Default",
        # It is nobody in particular and listens on port 53.
        "securityContext": {
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
        },
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    return [
        _object("v1", "ConfigMap", data={"Corefile": _COREFILE}),
        _object(
            "apps/v1",
            "Deployment",
            spec={"selector": {"matchLabels": labels}, "template": template},
        ),
    ]
