"""Words of which the OpenAPI document is made; each module of handlers says its part in them."""

from __future__ import annotations

from typing import Any, Final

Json = dict[str, Any]
TEXT: Final[Json] = {"type": "string"}


def object_of(properties: Json, *, required: tuple[str, ...] = ()) -> Json:
    """Schema of an object."""
    found: Json = {"type": "object", "properties": properties}
    if required:
        found["required"] = list(required)
    return found


def ref(name: str) -> Json:
    """A schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(schema: Json) -> Json:
    """Schema of a list."""
    return {"type": "array", "items": schema}


def answer(description: str, schema: Json | None = None, media: str = "application/json") -> Json:
    """One answer."""
    found: Json = {"description": description}
    if schema is not None:
        found["content"] = {media: {"schema": schema}}
    return found


def refusals(*codes: int) -> Json:
    """Answers that are errors."""
    meanings = {
        400: "Not a request that can be read.",
        401: "No token, or not one that is known here.",
        403: "The token lacks a scope or a right; the message names it.",
        404: "There is no such thing, or not for you.",
        409: "Not as things stand.",
        413: "Too large; send less at once.",
        422: "A field is wrong; `problems` names each.",
        429: "Too many at once; ask again after Retry-After seconds.",
        503: "Not stored or not at hand now: ask again after Retry-After seconds.",
    }
    return {str(code): answer(meanings[code], ref("Error")) for code in codes}
