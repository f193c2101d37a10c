"""The ground that every team namespace stands on: where hub and services are, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from .. import constants
from ..names import is_namespace_prefix
from .document import Document, DomainName, SizeBytes
from .image import AddedToleration, ImageReference


def _check_network(text: str) -> str:
    ip_network(text)
    return text


def _check_prefix(text: str) -> str:
    if not is_namespace_prefix(text):
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


class Gateway(Document):
    """A Gateway that takes routes from team namespaces (its ``allowedRoutes`` must say so)."""

    name: str = Field(min_length=1, max_length=253)
    namespace: str = Field(min_length=1, max_length=63)
    section: str | None = Field(None, max_length=253, description="The listener for all names.")


class TeamNames(Document):
    """How the names of teams get from DNS to the hub.

    Exactly one of ``gateway`` (an HTTPRoute a team, which sends browsers on by itself) and
    ``ingress_class`` (an Ingress a team; its controller is told where to by ``annotations``).
    """

    suffixes: tuple[DomainName, ...] = Field(
        min_length=1,
        description="Contests' domains are these or end in them. Never the hub's own domain: what "
        "runs under its names could take its cookies.",
    )
    hub_url: str = Field(
        alias="hubUrl", pattern=r"^https?://[^/?#\s\"']+$", description="Of the hub, for browsers."
    )
    gateway: Gateway | None = None
    ingress_class: str | None = Field(None, alias="ingressClass", min_length=1, max_length=253)
    annotations: dict[str, str] = Field(
        {},
        description="On each route; {url} is the team's page on the hub, {host} the team's name.",
    )

    @model_validator(mode="after")
    def _check_one(self) -> TeamNames:
        if (self.gateway is None) == (self.ingress_class is None):
            raise ValueError("give exactly one of gateway and ingressClass")
        if self.ingress_class and not any("{url}" in text for text in self.annotations.values()):
            raise ValueError(
                "an Ingress needs an annotation with {url} that has its controller redirect, such"
                " as nginx.ingress.kubernetes.io/temporal-redirect"
            )
        hub = (urlsplit(self.hub_url).hostname or "").lower()
        for suffix in self.suffixes:
            if suffix == hub or suffix.endswith(f".{hub}") or hub.endswith(f".{suffix}"):
                raise ValueError(f"{suffix} and the hub's own {hub} lie in one another")
        return self


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
    contests_service_account: str = "contests"
    hub_api: Endpoint
    proxy: Endpoint = Field(description="Where requests to servers come from.")
    egress_proxy: Endpoint | None = None
    data_gateway: Endpoint | None = None
    contests: Endpoint | None = Field(
        None, description="The contests service, for archive Jobs; no server reaches it there."
    )
    archive_image: ImageReference | None = Field(
        None,
        description="Of Jobs that copy volumes to the contests service and bring them back: Python "
        "and this package. Nothing can be archived unless said.",
    )
    archive_storage_bytes: SizeBytes = Field(
        100 << 30,
        alias="archive_storage",
        description="Of the volume where the contests service keeps such copies, or receives them "
        "on their way to an object store; 100Gi unless said.",
    )
    archive_place: str = Field(
        "",
        max_length=500,
        pattern=r"^(s3://[^\s@]+)?$",
        description="An object store for such copies, as the contests service has it; empty: they "
        "stay on that volume. Its keys are in the Secret collab-contests.",
    )
    contests_outward: bool = Field(
        False,
        description="Whether the contests service may reach ports 443, 465 and 587 anywhere: for "
        "webhooks, mail, and archives in an object store.",
    )
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
    names: TeamNames | None = Field(
        None, description="Absent: contests' domains are refused, teams have no names."
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
