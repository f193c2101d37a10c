"""The kinds we speak to and their paths: a table instead of discovery.

A kind that is not here cannot be reached, on purpose: whoever needs one more adds a line, and
looks at `policy.permissions` while at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote


@dataclass(frozen=True)
class Kind:
    """One kind of object.

    Attributes
    ----------
    api_version
        As in manifests: ``v1``, ``networking.k8s.io/v1``.
    plural
        As in paths.
    """

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Path of a collection or of one object; all namespaces when none is named."""
        root = "/api/" if "/" not in self.api_version else "/apis/"
        parts = [root + self.api_version]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=":"))
        return "/".join(parts)


NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
RESOURCE_QUOTA = Kind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = Kind("v1", "LimitRange", "limitranges")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
PERSISTENT_VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", namespaced=False)
POD = Kind("v1", "Pod", "pods")
SECRET = Kind("v1", "Secret", "secrets")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE = Kind("v1", "Service", "services")
EVENT = Kind("v1", "Event", "events")
NODE = Kind("v1", "Node", "nodes", namespaced=False)
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_ROLE_BINDING = Kind(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)
JOB = Kind("batch/v1", "Job", "jobs")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)
_ADMISSION = "admissionregistration.k8s.io/v1"
ADMISSION_POLICY = Kind(
    _ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False
)
ADMISSION_POLICY_BINDING = Kind(
    _ADMISSION,
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    namespaced=False,
)

_KINDS = {
    (kind.api_version, kind.name): kind
    for kind in (
        NAMESPACE,
        RESOURCE_QUOTA,
        LIMIT_RANGE,
        SERVICE_ACCOUNT,
        PERSISTENT_VOLUME_CLAIM,
        PERSISTENT_VOLUME,
        POD,
        SECRET,
        CONFIG_MAP,
        SERVICE,
        EVENT,
        NODE,
        NETWORK_POLICY,
        INGRESS,
        HTTP_ROUTE,
        ROLE,
        ROLE_BINDING,
        CLUSTER_ROLE,
        CLUSTER_ROLE_BINDING,
        JOB,
        LEASE,
        STORAGE_CLASS,
        ADMISSION_POLICY,
        ADMISSION_POLICY_BINDING,
    )
}
KINDS = tuple(_KINDS.values())


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """Kind of a manifest.

    Raises
    ------
    ValueError
        It is not in the table.
    """
    key = (manifest.get("apiVersion", ""), manifest.get("kind", ""))
    try:
        return _KINDS[key]
    except KeyError:
        raise ValueError(f"{key[0]} {key[1]} is not a kind this project handles") from None


_BY_NAME = {kind.name: kind for kind in _KINDS.values()}


def kind_named(name: str) -> Kind:
    """Kind by the name that manifests have for it; the table holds no name twice."""
    return _BY_NAME[name]
