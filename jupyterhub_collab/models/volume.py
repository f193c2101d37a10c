"""Volumes a team has besides data sets: one shared, one for each member."""

from __future__ import annotations

from pydantic import Field

from .document import Document, SizeBytes


class Volumes(Document):
    """Sizes and storage class. Both count toward the tier's storage."""

    team_bytes: SizeBytes = Field(1 << 30, alias="team", description="The team's shared volume.")
    personal_bytes: SizeBytes = Field(
        1 << 30, alias="personal", description="Each member's home, in each team of theirs."
    )
    storage_class: str | None = Field(
        None, alias="storageClass", max_length=253, description="The cluster's default unless said."
    )
