"""Base of all that is read from outside, and the scalar types they share."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
)

from .. import names, units

_QUANTITY_PATTERN = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$"


def _quantity_schema(example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": _QUANTITY_PATTERN},
                {"type": "number", "minimum": 0},
            ],
            "examples": [example],
        }
    )


_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]+\d{1,2}:.*)?")


def _only_moment(value: object) -> object:
    """Refuse what pydantic would read as seconds since 1970: ``20261231`` is a typing error."""
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise ValueError(f"{value!r} is not a moment")


Moment = Annotated[AwareDatetime, BeforeValidator(_only_moment)]
"""A date and time with its zone."""

Millicores = Annotated[
    int,
    BeforeValidator(units.to_millicores),
    PlainSerializer(units.from_millicores, return_type=str),
    _quantity_schema("500m"),
]
"""CPU; on the wire a Kubernetes quantity (``2``, ``500m``), here an int of thousandths."""

SizeBytes = Annotated[
    int,
    BeforeValidator(units.to_bytes),
    PlainSerializer(units.from_bytes, return_type=str),
    _quantity_schema("4Gi"),
]
"""Memory or storage; on the wire a Kubernetes quantity (``4Gi``), here an int of bytes."""

Count = Annotated[int, Field(strict=True, ge=0, le=100_000)]

Id = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=f"^{names.TEAM_ID_PATTERN}$", max_length=names.TEAM_ID_MAX
    ),
]
"""Grammar of team ids; contests, tiers, images, profiles, rules and data sets share it."""

Title = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]
"""Free text for people, on one or more lines."""


DomainName = Annotated[
    str,
    StringConstraints(
        strict=True,
        pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        max_length=222,  # of a name's 253 characters a team's id and its dot take 31
    ),
]
"""A DNS name of two labels or more (RFC 1123), in lower case."""


class Document(BaseModel):
    """A frozen record with a wire form. Unknown fields are errors."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        validate_default=False,
        str_strip_whitespace=False,
    )

    def to_wire(self) -> dict[str, Any]:
        """Plain JSON values under wire names, what is unset or null left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_canonical_json(self) -> str:
        """One text for one value, without white space.

        The order of mappings is kept: the first image and the first profile are the defaults.
        """
        return self.model_dump_json(by_alias=True, exclude_none=True)

    def hash(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return hash_of(self.to_canonical_json())


def hash_of(canonical_json: str) -> str:
    """SHA-256 of a document's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json.encode()).hexdigest()
