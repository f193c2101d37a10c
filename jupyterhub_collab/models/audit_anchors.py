"""Which anchors a log has: the file that an administrator writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .document import Document

Name = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=40)
]
Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=1000)]
Path = Annotated[str, StringConstraints(strict=True, pattern=r"^/", max_length=1000)]
Url = Annotated[str, StringConstraints(strict=True, pattern=r"^https?://", max_length=1000)]
Address = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[^@\s]+@[^@\s]+$", max_length=254)
]


class FolderAnchor(Document):
    """A folder on another volume. It must be there: ours is not to make it."""

    kind: Literal["file"]
    name: Name = "file"
    folder: Path


class WebhookAnchor(Document):
    """A POST of each checkpoint."""

    kind: Literal["webhook"]
    name: Name = "webhook"
    url: Url
    secret_file: Path
    every_seconds: float = Field(0.0, ge=0)


class EmailAnchor(Document):
    """Checkpoints by e-mail."""

    kind: Literal["email"]
    name: Name = "email"
    host: Text
    port: int = Field(587, ge=1, le=65535)
    tls: bool = False
    ca_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    sender: Address
    recipients: tuple[Address, ...] = Field(min_length=1, max_length=20)
    every_seconds: float = Field(3600.0, ge=0)


class S3Anchor(Document):
    """An object store with object lock. Its keys come from where Amazon's tools look."""

    kind: Literal["s3"]
    name: Name = "s3"
    bucket: Text
    prefix: str = ""
    endpoint: Url = "https://s3.amazonaws.com"
    region: Text | None = None
    ca_file: Path | None = None
    retain_days: int = Field(3650, ge=0, description="0: as the bucket says itself.")
    mode: Literal["COMPLIANCE", "GOVERNANCE"] = "COMPLIANCE"
    every_seconds: float = Field(0.0, ge=0)


AnchorSettings = Annotated[
    FolderAnchor | WebhookAnchor | EmailAnchor | S3Anchor, Field(discriminator="kind")
]


class AnchorsFile(Document):
    """The file."""

    anchors: tuple[AnchorSettings, ...] = Field((), max_length=20)
