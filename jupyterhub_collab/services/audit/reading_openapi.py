"""What readers of the audit log can ask, for its OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

from ...managers.audit_reading import PAGE_MAX
from ...models.audit import Outcome
from .openapi import TEXT, Json, answer, list_of, object_of, ref, refusals
from .reading_query import VALUES_MAX

_INTEGER: Final[Json] = {"type": "integer"}
_MANY: Final[Json] = {"type": "array", "items": TEXT, "maxItems": VALUES_MAX}
_EVENT: Final = object_of(
    {
        "sequence": {**_INTEGER, "description": "Its place in the log."},
        "stored": {**TEXT, "format": "date-time", "description": "By the log's clock."},
        "time": {**TEXT, "format": "date-time", "description": "By the emitter's clock."},
        "verb": TEXT,
        "outcome": {"enum": [outcome.value for outcome in Outcome]},
        "reason": TEXT,
        "contest": TEXT,
        "team": TEXT,
        "thing": TEXT,
        "datasets": list_of(TEXT),
        "details": {"type": "object"},
        "correlation": TEXT,
        "emitter": TEXT,
        "late": {"type": "boolean"},
        "people": {
            "type": "object",
            "description": "Subject, actor and recipient, as far as the reader may see them.",
            "additionalProperties": {"type": "object"},
        },
        "erased": {**list_of(TEXT), "description": "Parts whose people were erased."},
    },
    required=("sequence", "stored", "time", "verb", "outcome", "emitter"),
)


def _query(name: str, schema: Json, description: str = "") -> Json:
    found = {"name": name, "in": "query", "schema": schema}
    return {**found, "description": description} if description else found


_FILTERS: Final[list[Json]] = [
    _query("contest", _MANY),
    _query("team", _MANY),
    _query("dataset", _MANY, "With its contest: sea/tides."),
    _query("person", TEXT, "Hub user, in whichever part. One."),
    _query("verb", _MANY, "dataset.read, or dataset.* for all that begin so."),
    _query("outcome", _MANY),
    _query("since", TEXT, "From this moment on, by the log's clock; without a zone it is UTC."),
    _query("until", TEXT, "Before this moment."),
]
_NUMBER: Final[Json] = {"name": "sequence", "in": "path", "required": True, "schema": _INTEGER}


def reading_part() -> tuple[Json, Json]:
    """Paths and schemas of readers."""
    page = object_of(
        {
            "events": list_of(ref("Event")),
            "order": TEXT,
            "next": {
                "type": ["integer", "null"],
                "description": "Go on with it as before (or as after, if that was sent).",
            },
        },
        required=("events", "order", "next"),
    )
    paging = [
        _query("limit", {**_INTEGER, "minimum": 1, "maximum": PAGE_MAX}),
        _query("before", _INTEGER, "Newest first, from here on back."),
        _query("after", _INTEGER, "Oldest first, from here on."),
    ]
    forms = {"enum": ["csv", "jsonl", "parquet", "bundle"]}
    last = {"name": "Last-Event-ID", "in": "header", "schema": _INTEGER}
    paths: Json = {
        "/api/events": _get(
            "Events that the reader may see; the question is recorded",
            {"200": answer("One page.", page)},
            *(401, 403, 422, 503),
            parameters=[*_FILTERS, *paging],
        ),
        "/api/events/{sequence}": _get(
            "One event",
            {"200": answer("The event, and its leaf.", ref("Event"))},
            *(401, 403, 404, 503),
            parameters=[_NUMBER],
        ),
        "/api/events/{sequence}/proof": _get(
            "That the log holds an event: a file for `audit verify`",
            {"200": answer("The proof.", {"type": "object"})},
            *(401, 403, 404, 503),
            parameters=[_NUMBER],
        ),
        "/api/events/live": _get(
            "Events as they come (server-sent events)",
            {
                "200": answer(
                    "Until the reader may see something else.", TEXT, "text/event-stream"
                ),
                "429": answer("Too many streams of this person.", ref("Error")),
            },
            *(401, 403, 422, 503),
            parameters=[*_FILTERS, last],
        ),
        "/api/export": _get(
            "All events that the reader may see and asks for, oldest first",
            {
                "200": answer("The file.", {"type": "string"}, "application/octet-stream"),
                "429": answer("Too many exports of this person.", ref("Error")),
                "501": answer("No Parquet here.", ref("Error")),
            },
            *(401, 403, 422, 503),
            parameters=[*_FILTERS, _query("format", forms)],
        ),
        "/api/checkpoints": _get(
            "Signed heads, newest first, and the key; for emitters with their token too",
            {"200": answer("Notes.", {"type": "object"})},
            *(401, 403, 422, 503),
            parameters=[_query("limit", _INTEGER)],
        ),
        "/api/who": _get(
            "What the asker may read",
            {"200": answer("Contests, teams and data sets.", {"type": "object"})},
            *(401, 403, 503),
        ),
    }
    return paths, {"Event": _EVENT}


def _get(
    summary: str, answers: Json, *codes: int, parameters: list[Json] | None = None
) -> dict[str, Any]:
    found: Json = {"summary": summary, "responses": {**answers, **refusals(*codes)}}
    if parameters:
        found["parameters"] = parameters
    return {"get": found}
