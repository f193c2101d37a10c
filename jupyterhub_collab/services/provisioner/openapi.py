"""OpenAPI of the provisioner; run as a module, this prints it."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from ...reconcile.conditions import State
from .requests import NudgeRequest, PlanRequest

Json = dict[str, Any]
DEFAULT_PREFIX: Final = "/services/provisioner/"

_TEXT: Final[Json] = {"type": "string"}
_HASH: Final[Json] = {"type": ["string", "null"], "description": "SHA-256, 64 hex digits."}


def _object(properties: Json, *, required: tuple[str, ...] = (), description: str = "") -> Json:
    found: Json = {"type": "object", "properties": properties}
    if required:
        found["required"] = list(required)
    if description:
        found["description"] = description
    return found


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: Json | None = None, media: str = "application/json") -> Json:
    answer: Json = {"description": description}
    if schema is not None:
        answer["content"] = {media: {"schema": schema}}
    return answer


def _refusals(*codes: int) -> Json:
    meanings = {
        400: "The body is not JSON.",
        401: "No token, or not a token of this hub.",
        403: "The token lacks a scope; the message names it.",
        404: "There is no such team on the hub.",
        409: "The team is to be destroyed, or has been.",
        422: "A field is wrong; `problems` names each.",
        502: "The hub refuses the provisioner.",
        503: "Not now: ask again after Retry-After seconds.",
    }
    return {str(code): _answer(meanings[code], _ref("Error")) for code in codes}


def _body(name: str, *, is_required: bool = True) -> Json:
    return {"required": is_required, "content": {"application/json": {"schema": _ref(name)}}}


def _schemas() -> Json:
    def model(of: type[NudgeRequest] | type[PlanRequest]) -> Json:
        return of.model_json_schema(by_alias=True)

    condition = _object(
        {
            "type": {**_TEXT, "description": "Ready, or what is in the way: NotOurs, Refused, ..."},
            "status": {"enum": ["True", "False"]},
            "reason": _TEXT,
            "message": {**_TEXT, "description": "A sentence for people."},
            "lastTransitionTime": {**_TEXT, "format": "date-time"},
        },
        required=("type", "status", "reason", "message", "lastTransitionTime"),
    )
    team = _object(
        {
            "team": _TEXT,
            "contest": _TEXT,
            "namespace": _TEXT,
            "state": {"enum": [state.value for state in State]},
            "conditions": {"type": "array", "items": _ref("Condition")},
            "specHash": {**_HASH, "description": "Of what the hub's groups say now."},
            "readyHash": {**_HASH, "description": "Of what stands as a whole."},
            "lastError": {"type": ["string", "null"]},
            "updated": {"type": ["string", "null"], "format": "date-time"},
            "status_url": {**_TEXT, "description": "Where to ask again (after provision)."},
        },
        required=("team", "contest", "namespace", "state", "conditions", "specHash", "readyHash"),
    )
    problem = _object(
        {"field": _TEXT, "found": _TEXT, "expected": _TEXT},
        required=("field", "found", "expected"),
    )
    step = _object(
        {
            "action": {"enum": ["create", "apply", "delete", "mark-ready", "unmark-ready"]},
            "kind": _TEXT,
            "namespace": {"type": ["string", "null"]},
            "name": _TEXT,
            "reason": _TEXT,
        }
    )
    issue = _object(
        {"type": _TEXT, "reason": _TEXT, "message": _TEXT, "blocking": {"type": "boolean"}}
    )
    return {
        "Condition": condition,
        "Team": team,
        "Teams": _object(
            {
                "total": {"type": "integer"},
                "next": {"type": ["integer", "null"], "description": "Offset of the next page."},
                "teams": {"type": "array", "items": _ref("Team")},
            },
            required=("total", "next", "teams"),
        ),
        "Plan": _object(
            {
                "steps": {"type": "array", "items": step},
                "issues": {"type": "array", "items": issue},
                "error": _TEXT,
                "problems": {"type": "array", "items": _ref("Problem")},
            }
        ),
        "Plans": _object({"plans": {"type": "object", "additionalProperties": _ref("Plan")}}),
        "Health": _object(
            {
                "status": {"enum": ["ok", "waiting"]},
                "waitingFor": {"type": ["string", "null"]},
                "hubError": {"type": ["string", "null"]},
                "watchesDown": {"type": "array", "items": _TEXT},
                "queue": {"type": "integer"},
            }
        ),
        "Problem": problem,
        "Error": _object(
            {
                "status": {"type": "integer"},
                "message": _TEXT,
                "problems": {"type": "array", "items": _ref("Problem")},
            },
            required=("status", "message"),
        ),
        "NudgeRequest": model(NudgeRequest),
        "PlanRequest": model(PlanRequest),
    }


def _paths() -> Json:
    team = {"name": "team", "in": "path", "required": True, "schema": _TEXT}
    query = [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in (
            ("state", {"enum": [state.value for state in State]}),
            ("contest", _TEXT),
            ("offset", {"type": "integer", "minimum": 0}),
            ("limit", {"type": "integer", "minimum": 0, "maximum": 200}),
        )
    ]
    public: Json = {"security": []}
    return {
        "/teams": {
            "get": {
                "summary": "All teams; an HTML table when asked for text/html",
                "parameters": query,
                "responses": {
                    "200": _answer("One page.", _ref("Teams")),
                    **_refusals(401, 403, 422, 503),
                },
            }
        },
        "/teams/{team}": {
            "get": {
                "summary": "One team",
                "parameters": [team],
                "responses": {
                    "200": _answer("Its state.", _ref("Team")),
                    **_refusals(401, 403, 404, 503),
                },
            }
        },
        "/teams/{team}/provision": {
            "post": {
                "summary": "Read the team's groups now and make its namespace so",
                "parameters": [team],
                "responses": {
                    "200": _answer("All stands already.", _ref("Team")),
                    "202": _answer("Under way; ask status_url.", _ref("Team")),
                    **_refusals(400, 401, 403, 404, 409, 422, 502, 503),
                },
            }
        },
        "/plan": {
            "post": {
                "summary": "What would be changed; changes nothing",
                "requestBody": _body("PlanRequest"),
                "responses": {
                    "200": _answer("Steps and issues by team.", _ref("Plans")),
                    **_refusals(400, 401, 403, 422, 503),
                },
            }
        },
        "/nudge": {
            "post": {
                "summary": "Read these hub groups now instead of at the next poll",
                "requestBody": _body("NudgeRequest"),
                "responses": {
                    "202": _answer(
                        "Read; these teams changed and are queued.",
                        _object({"changed": {"type": "array", "items": _TEXT}}),
                    ),
                    **_refusals(400, 401, 403, 422, 502, 503),
                },
            }
        },
        "/health": {
            "get": {
                "summary": "Whether it works: it holds the lease and both sides are known",
                "responses": {
                    "200": _answer("It does.", _ref("Health")),
                    "503": _answer("Not yet.", _ref("Health")),
                },
                **public,
            }
        },
        "/health/live": {
            "get": {
                "summary": "Whether the process runs, one that waits its turn too",
                "responses": {"200": _answer("It does.")},
                **public,
            }
        },
        "/metrics": {
            "get": {
                "summary": "Figures for Prometheus",
                "responses": {
                    "200": _answer("Text format.", _TEXT, "text/plain"),
                    **_refusals(401, 403),
                },
            }
        },
        "/openapi.json": {
            "get": {
                "summary": "This document",
                "responses": {"200": _answer("OpenAPI 3.1.", {"type": "object"})},
                **public,
            }
        },
    }


def make_openapi(prefix: str = DEFAULT_PREFIX) -> Json:
    """The whole document."""
    from ... import __version__

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jupyterhub-collab provisioner",
            "version": __version__,
            "description": (
                "Keeps teams' namespaces as the hub's groups say. Reading takes the hub scope "
                "access:services!service=provisioner; provision and nudge take "
                "custom:collab:provision besides, or an admin."
            ),
        },
        "servers": [{"url": prefix.rstrip("/")}],
        "security": [{"token": []}],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "token <a token of the hub>",
                }
            },
        },
    }


if __name__ == "__main__":
    json.dump(make_openapi(), sys.stdout, indent=2)
    sys.stdout.write("\n")
