"""The ground that every team namespace stands on: where hub and services are, what is allowed."""

from __future__ import annotations

from pydantic import Field

from .. import constants
from .document import Document


class PodPeer(Document):
    """Something that runs in the cluster: named by selectors, never by address."""

    namespace: str
    pod_labels: dict[str, str] = Field(alias="podLabels", min_length=1)


class CidrPeer(Document):
    """Something outside the cluster, a hub on the host for instance."""

    cidr: str


class Endpoint(Document):
    """A platform service that pods talk to or that talks to pods.

    ``host`` and ``address`` become a host alias in each pod (there is no DNS); ``address`` is what
    the pod connects to (a Service's ClusterIP), ``peer`` what a NetworkPolicy sees behind it.
    """

    host: str
    address: str
    port: int = Field(ge=1, le=65535)
    peer: PodPeer | CidrPeer


class Platform(Document):
    """Settings of one hub. Provisioner and spawner must be given the same."""

    hub_id: str = Field("hub", pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
    namespace_prefix: str = "team-"
    hub_namespace: str = "jupyterhub"
    hub_service_account: str = "hub"
    provisioner_service_account: str = "provisioner"
    hub_api: Endpoint
    proxy: Endpoint = Field(description="Where requests to servers come from.")
    egress_proxy: Endpoint | None = None
    data_gateway: Endpoint | None = None
    storage_class: str | None = None
    dataset_csi_drivers: tuple[str, ...] = ()
    dataset_nfs: bool = False
    gpu_resource: str = "nvidia.com/gpu"
    runtime_class: str | None = None
    host_users: bool | None = Field(
        None, description="False where the cluster has user namespaces for pods."
    )
    private_ranges_allowed: tuple[str, ...] = Field(
        (), description="Private networks that an egress rule may name after all."
    )
    server_port: int = constants.SERVER_PORT
