"""OpenAPI of the audit service; run as a module, this prints it.

A module of handlers that adds to it puts its own into `PARTS` (see `make_openapi`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final

from ...models.audit import SentBatch
from ..openapi_words import TEXT, Json, answer, list_of, object_of, ref, refusals
from .managing import managing_part

__all__ = ["TEXT", "Json", "answer", "list_of", "make_openapi", "object_of", "ref", "refusals"]
DEFAULT_PREFIX: Final = "/services/audit/"
_EMITTER: Final[list[Json]] = [{"emitter": []}]


_PROBLEM: Final = object_of(
    {"field": TEXT, "found": TEXT, "expected": TEXT}, required=("field", "expected")
)
_ERROR: Final = object_of(
    {"status": {"type": "integer"}, "message": TEXT, "problems": list_of(ref("Problem"))},
    required=("status", "message"),
)
_HEALTH: Final = object_of(
    {
        "status": {"enum": ["ok", "warning", "refusing"]},
        "refusing": {
            "type": ["string", "null"],
            "description": "Why nothing protected is stored now.",
        },
        "warnings": list_of(TEXT),
    },
    required=("status", "refusing", "warnings"),
)
_STORED: Final = object_of(
    {
        "acknowledged": {
            "type": "integer",
            "description": "The newest of the emitter's numbers that is on disk.",
        },
        "stored": {
            "type": ["array", "null"],
            "items": {"type": "integer"},
            "description": "First and last place in the log; null: nothing was new.",
        },
        "rejected": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "The emitter's numbers of events that are not stored as they were told:"
            " do nothing that one of them was to allow.",
        },
    },
    required=("acknowledged", "stored"),
)


def _own_part() -> tuple[Json, Json]:
    """Paths and schemas of ingest and of watching."""
    batch = SentBatch.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas = batch.pop("$defs")
    schemas |= {
        "SentBatch": batch,
        "Stored": _STORED,
        "Health": _HEALTH,
        "Problem": _PROBLEM,
        "Error": _ERROR,
    }
    store = {
        "summary": "Store events; answered once they are on disk",
        "description": "What is no event, or not this emitter's to tell, is stored as audit.reject "
        "in its place. While nothing protected may be done, what was to allow it is stored as "
        "refused.",
        "security": _EMITTER,
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": ref("SentBatch")}},
        },
        "responses": {"200": answer("On disk.", ref("Stored")), **refusals(401, 413, 422, 503)},
    }
    health = {
        "summary": "Whether it works, in words",
        "security": [],
        "responses": {"200": answer("It takes events.", ref("Health"))},
    }
    live = {
        "summary": "Whether the process runs",
        "security": [],
        "responses": {"200": answer("It does.")},
    }
    metrics = {
        "summary": "Figures for Prometheus; for admins and the scope read:metrics",
        "responses": {"200": answer("Text format.", TEXT, "text/plain"), **refusals(401, 403)},
    }
    document = {
        "summary": "This document",
        "security": [],
        "responses": {"200": answer("OpenAPI 3.1.", {"type": "object"})},
    }
    paths = {
        "/api/events": {"post": store},
        "/health": {"get": health},
        "/health/live": {"get": live},
        "/metrics": {"get": metrics},
        "/openapi.json": {"get": document},
    }
    return paths, schemas


PARTS: Final[list[Callable[[], tuple[Json, Json]]]] = [_own_part, managing_part]
"""Each gives paths and schemas. Two may say different methods of one path."""


def make_openapi(prefix: str = DEFAULT_PREFIX) -> Json:
    """The whole document."""
    from ... import __version__
    from .reading_openapi import reading_part  # which is made of what stands here

    paths: Json = {}
    schemas: Json = {}
    for part in (*PARTS, reading_part):
        some_paths, some_schemas = part()
        schemas |= some_schemas
        for path, methods in some_paths.items():
            paths.setdefault(path, {}).update(methods)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jupyterhub-collab audit",
            "version": __version__,
            "description": "Takes audit events from emitters, and shows them to whom they concern.",
        },
        "servers": [{"url": prefix.rstrip("/")}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "token <a token of the hub>",
                },
                "emitter": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An emitter's own token.",
                },
            },
        },
    }


if __name__ == "__main__":
    json.dump(make_openapi(), sys.stdout, indent=2)
    sys.stdout.write("\n")
