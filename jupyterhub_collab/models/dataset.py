"""Data sets: somebody's data, mounted read-only."""

from __future__ import annotations

from pydantic import Field

from .document import Document, SizeBytes, Title


class CsiSource(Document):
    """A volume that a CSI driver of the platform's allow-list knows how to mount."""

    driver: str = Field(min_length=1, max_length=253)
    volume_handle: str = Field(alias="volumeHandle", min_length=1, max_length=1024)
    fs_type: str | None = Field(None, alias="fsType", max_length=32)
    volume_attributes: dict[str, str] = Field({}, alias="volumeAttributes")


class NfsSource(Document):
    """An NFS export."""

    server: str = Field(min_length=1, max_length=253)
    path: str = Field(pattern=r"^/", max_length=1024)


class Dataset(Document):
    """One data set. Exactly one of ``csi`` and ``nfs`` says where it lies."""

    title: Title
    description: Title | None = None
    protected: bool = Field(
        False,
        strict=True,
        description="Its owner wants every access recorded. Refused unless the platform records "
        "mounts; what a server then reads from a mounted volume is not recorded.",
    )
    every_team: bool = Field(
        False,
        strict=True,
        alias="everyTeam",
        description="Granted to every team of the contest; otherwise to those that list it.",
    )
    size_bytes: SizeBytes = Field(1 << 30, alias="size", description="For display and the claim.")
    csi: CsiSource | None = None
    nfs: NfsSource | None = None
