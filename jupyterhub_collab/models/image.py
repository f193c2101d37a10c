"""Images a member may start, and profiles: the sizes a server comes in."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .document import Count, Document, Id, Millicores, SizeBytes, Title

ImageReference = Annotated[
    str,
    StringConstraints(
        strict=True,
        max_length=400,
        # registry/path:tag and/or @sha256:digest; a bare name without either floats, so is refused
        pattern=r"^[a-z0-9][a-z0-9._:/-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})$",
    ),
]


class Image(Document):
    """An environment to work in. ``reference`` needs a tag or, better, a digest."""

    title: Title
    reference: ImageReference = Field(alias="image")
    description: Title | None = None


class Toleration(Document):
    """A Kubernetes toleration that servers of a profile carry.

    ``effect`` must be said: one without would tolerate every effect, NoExecute too.
    """

    key: str = Field(min_length=1, max_length=253)
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule"]


class AddedToleration(Document):
    """A toleration that the cluster itself gives to pods; without effect: every effect."""

    key: str = Field(min_length=1, max_length=253)
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Profile(Document):
    """A size of server. Requests equal limits, so what is promised is there."""

    title: Title
    description: Title | None = None
    cpu_millicores: Millicores = Field(alias="cpu")
    memory_bytes: SizeBytes = Field(alias="memory")
    gpu_count: Count = Field(0, alias="gpu")
    ephemeral_storage_bytes: SizeBytes = Field(
        1 << 30, alias="ephemeralStorage", description="Scratch space, 1Gi unless said."
    )
    images: tuple[Id, ...] | None = Field(
        None, description="Images it can be combined with; all of the contest's unless said."
    )
    node_selector: dict[str, str] = Field({}, alias="nodeSelector")
    tolerations: tuple[Toleration, ...] = ()
    priority_class: str | None = Field(None, alias="priorityClass", max_length=253)


class NodePool(Document):
    """Nodes that a contest's servers run on, whatever their profile."""

    node_selector: dict[str, str] = Field(
        alias="nodeSelector", min_length=1, description="Labels that such nodes bear."
    )
    tolerations: tuple[Toleration, ...] = Field(
        (), description="Of taints that keep other contests' servers off these nodes."
    )
