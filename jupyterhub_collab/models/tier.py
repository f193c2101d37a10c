"""Tier: a named bundle of limits, what a team may use at once."""

from __future__ import annotations

from pydantic import Field

from .document import Count, Document, Millicores, SizeBytes, Title


class Tier(Document):
    """Limits of one team."""

    title: Title | None = None
    cpu_millicores: Millicores = Field(alias="cpu", description="CPUs of all pods together.")
    memory_bytes: SizeBytes = Field(alias="memory", description="Memory of all pods together.")
    gpu_count: Count = Field(0, alias="gpu", description="GPUs of all pods together.")
    storage_bytes: SizeBytes = Field(
        alias="storage",
        description="Team volume and personal volumes together; data sets do not count.",
    )
    ephemeral_storage_bytes: SizeBytes = Field(
        alias="ephemeralStorage", description="Scratch space of all pods together."
    )
    pod_count: Count = Field(alias="pods", description="Pods at once: servers and jobs.")
    servers_per_member: Count = Field(
        1, alias="serversPerMember", description="Servers one member may run at once in the team."
    )


class TierOverrides(Document):
    """What one team has otherwise than its tier. Absent fields are the tier's."""

    cpu_millicores: Millicores | None = Field(None, alias="cpu")
    memory_bytes: SizeBytes | None = Field(None, alias="memory")
    gpu_count: Count | None = Field(None, alias="gpu")
    storage_bytes: SizeBytes | None = Field(None, alias="storage")
    ephemeral_storage_bytes: SizeBytes | None = Field(None, alias="ephemeralStorage")
    pod_count: Count | None = Field(None, alias="pods")
    servers_per_member: Count | None = Field(None, alias="serversPerMember")
