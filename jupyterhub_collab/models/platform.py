"""The ground that every team namespace stands on: where hub and services are, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from .. import constants, names
from .document import Document
from .image import AddedToleration, ImageReference


def _check_network(text: str) -> str:
    ip_network(text)
    return text


def _check_prefix(text: str) -> str:
    if not names.is_namespace_prefix(text):
        raise ValueError(f"{text!r} is not a namespace prefix: letters, digits, ends in a hyphen")
    return text


def _check_image_prefix(text: str) -> str:
    if not text.endswith(("/", ":", "@")):
        raise ValueError(f"{text!r} must end in / or : or @, or a longer name would match too")
    return text


ImagePrefix = Annotated[str, AfterValidator(_check_image_prefix)]
NetworkText = Annotated[str, AfterValidator(_check_network)]


class PodPeer(Document):
    """Something that runs in the cluster: named by selectors, never by address."""

    namespace: str
    pod_labels: dict[str, str] = Field(alias="podLabels", min_length=1)


class CidrPeer(Document):
    """Something outside the cluster, a hub on the host for instance."""

    cidr: NetworkText


class Endpoint(Document):
    """A platform service that pods talk to or that talks to pods.

    ``host`` and ``address`` become a host alias in each pod (there is no DNS); ``address`` is what
    the pod connects to (a Service's ClusterIP), ``peer`` what a NetworkPolicy sees behind it:
    there the destination has been rewritten, so ``target_port`` counts, not the Service's port.
    """

    host: str
    address: str
    port: int = Field(ge=1, le=65535)
    target_port: int | None = Field(
        None, alias="targetPort", ge=1, le=65535, description="Of the peer; port unless said."
    )
    peer: PodPeer | CidrPeer


_HUB_NAMESPACE: Final = "jupyterhub"


class Platform(Document):
    """Settings of one hub. Provisioner and spawner must be given the same."""

    hub_id: str = Field(
        _HUB_NAMESPACE,
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Whose an object is, among the hubs of a cluster; hub_namespace unless said.",
    )
    namespace_prefix: Annotated[str, AfterValidator(_check_prefix)] = "team-"
    hub_namespace: str = _HUB_NAMESPACE
    hub_service_account: str = "hub"
    provisioner_service_account: str = "provisioner"
    audit_service_account: str = "audit"
    hub_api: Endpoint
    proxy: Endpoint = Field(description="Where requests to servers come from.")
    egress_proxy: Endpoint | None = None
    data_gateway: Endpoint | None = None
    storage_class: str | None = None
    team_access_mode: Literal["ReadWriteMany", "ReadWriteOnce"] = Field(
        "ReadWriteMany", description="Of team volumes. ReadWriteOnce: all pods on one node."
    )
    dataset_csi_drivers: tuple[str, ...] = ()
    dataset_nfs: bool = False
    protected_data: Literal["refused", "mounts-recorded"] = Field(
        "refused",
        description="Whether protected data sets may be mounted. mounts-recorded: each start that "
        "mounts one is recorded by the audit service first; what is read then is not recorded.",
    )
    gpu_resource: str = "nvidia.com/gpu"
    runtime_class: str | None = None
    host_users: bool | None = Field(
        None, description="False where the cluster has user namespaces for pods."
    )
    private_ranges_allowed: tuple[NetworkText, ...] = Field(
        (), description="Private networks that an egress rule may name after all."
    )
    egress_denied_ranges: tuple[NetworkText, ...] = Field(
        (), description="Networks no rule lets through: nodes and pods with public addresses."
    )
    server_port: int = constants.SERVER_PORT
    image_prefixes: tuple[ImagePrefix, ...] = Field(
        (), description="Where all images come from, as quay.io/contest/; anywhere unless said."
    )
    extra_images: tuple[ImageReference, ...] = Field(
        (), description="Of an administrator's sidecars, besides those that a team may use."
    )
    priority_classes: tuple[str, ...] | None = Field(
        None, description="That profiles may have; any but the cluster's own unless said."
    )
    default_priority_class: str | None = Field(
        None, description="The cluster's global default, if it has one: it gives it to every pod."
    )
    toleration_keys: tuple[str, ...] | None = Field(
        None, description="Of tolerations that profiles may have; any but a control plane's."
    )
    added_tolerations: tuple[AddedToleration, ...] = Field(
        (), description="That the cluster gives to pods, by a RuntimeClass for instance."
    )
    pod_secrets: tuple[str, ...] = Field(
        (), description="Secrets that you put into team namespaces for pods to read."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_hub(cls, said: Any) -> Any:
        """Two hubs of one cluster must never take each other's teams for their own."""
        if not isinstance(said, Mapping) or "hub_id" in said:
            return said
        return {**said, "hub_id": said.get("hub_namespace", _HUB_NAMESPACE)}
