"""What may be sent to the provisioner about archives and leftovers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from ...models import Document
from ...models.document import Id

ClaimName = Annotated[
    str, StringConstraints(strict=True, pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
]
ArchiveName = Annotated[str, StringConstraints(strict=True, max_length=80)]
ServicePath = Annotated[
    str, StringConstraints(strict=True, max_length=300, pattern=r"^(/[A-Za-z0-9._~-]+)+$")
]
OneTimeToken = Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._-]{32,200}$")]


class ArchiveEntry(Document):
    """One volume, and the copy that is made of it or brought back into it."""

    volume: ClaimName = Field(description="The claim's name.")
    archive: ArchiveName = Field(description="The copy's id.")
    path: ServicePath = Field(description="Of the copy at the contests service, from its root on.")
    token: OneTimeToken = Field(description="Opens this one copy. A secret.")


class ArchiveRequest(Document):
    """What to copy, or to bring back. Asking twice is asking once."""

    archives: tuple[ArchiveEntry, ...] = Field((), max_length=1000)
    ended: tuple[ArchiveName, ...] = Field(
        (), max_length=1000, description="Copies whose Jobs may go, once they have ended."
    )


class LeftoversRequest(Document):
    """Which contest, and which teams it had."""

    contest: Id
    teams: tuple[Id, ...] = Field((), max_length=20_000)
