"""By which ways notices leave the hub: the file that an administrator writes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .audit_anchors import Address, Name, Path, Text, Url
from .document import Document


class WebhookChannel(Document):
    """A POST of each notice."""

    kind: Literal["webhook"]
    name: Name = "webhook"
    url: Url
    secret_file: Path


class EmailChannel(Document):
    """Each notice by e-mail, to those whom rosters name by their address."""

    kind: Literal["email"]
    name: Name = "email"
    host: Text
    port: int = Field(587, ge=1, le=65535)
    tls: bool = False
    ca_file: Path | None = None
    user: str = ""
    password_file: Path | None = None
    sender: Address


class NoticesFile(Document):
    """The file."""

    channels: tuple[Annotated[WebhookChannel | EmailChannel, Field(discriminator="kind")], ...] = (
        Field((), max_length=10)
    )
