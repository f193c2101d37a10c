"""OpenAPI of the provisioner; run as a module, this prints it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from ...models import Document
from ...reconcile.conditions import State
from .ending_requests import ArchiveEntry, ArchiveRequest, LeftoversRequest
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
        409: "Not as things are: the team is to be destroyed, or nothing can be archived.",
        422: "A field is wrong; `problems` names each.",
        502: "The hub refuses the provisioner.",
        503: "Not now: ask again after Retry-After seconds.",
    }
    return {str(code): _answer(meanings[code], _ref("Error")) for code in codes}


def _body(name: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": _ref(name)}}}


def _list_of(schema: Json) -> Json:
    return {"type": "array", "items": schema}


_STATES: Final[Json] = {"enum": [state.value for state in State]}
_NULL_TEXT: Final[Json] = {"type": ["string", "null"]}
_TIME: Final[Json] = {"format": "date-time"}

_CONDITION: Final = _object(
    {
        "type": {**_TEXT, "description": "Ready, or what is in the way: NotOurs, Refused, ..."},
        "status": {"enum": ["True", "False"]},
        "reason": _TEXT,
        "message": {**_TEXT, "description": "A sentence for people."},
        "lastTransitionTime": {**_TEXT, **_TIME},
    },
    required=("type", "status", "reason", "message", "lastTransitionTime"),
)
_TEAM: Final = _object(
    {
        "team": _TEXT,
        "contest": _TEXT,
        "namespace": _TEXT,
        "state": _STATES,
        "conditions": _list_of(_ref("Condition")),
        "specHash": {**_HASH, "description": "Of what the hub's groups say now."},
        "readyHash": {**_HASH, "description": "Of what stands as a whole."},
        "lastError": _NULL_TEXT,
        "updated": {**_NULL_TEXT, **_TIME},
        "status_url": {**_TEXT, "description": "Where to ask again (after provision)."},
    },
    required=("team", "contest", "namespace", "state", "conditions", "specHash", "readyHash"),
)
_TEAMS: Final = _object(
    {
        "total": {"type": "integer"},
        "next": {"type": ["integer", "null"], "description": "Offset of the next page."},
        "teams": _list_of(_ref("Team")),
    },
    required=("total", "next", "teams"),
)
_STEP: Final = _object(
    {
        "action": {"enum": ["create", "apply", "delete", "mark-ready", "unmark-ready"]},
        "kind": _TEXT,
        "namespace": _NULL_TEXT,
        "name": _TEXT,
        "reason": _TEXT,
    }
)
_ISSUE: Final = _object(
    {"type": _TEXT, "reason": _TEXT, "message": _TEXT, "blocking": {"type": "boolean"}}
)
_PLAN: Final = _object(
    {
        "steps": _list_of(_STEP),
        "issues": _list_of(_ISSUE),
        "error": _TEXT,
        "problems": _list_of(_ref("Problem")),
    }
)
_HEALTH: Final = _object(
    {
        "status": {"enum": ["ok", "waiting"]},
        "waitingFor": _NULL_TEXT,
        "hubError": _NULL_TEXT,
        "watchesDown": _list_of(_TEXT),
        "queue": {"type": "integer"},
    }
)
_PROBLEM: Final = _object(
    {"field": _TEXT, "found": _TEXT, "expected": _TEXT}, required=("field", "found", "expected")
)
_ERROR: Final = _object(
    {
        "status": {"type": "integer"},
        "message": _TEXT,
        "problems": _list_of(_ref("Problem")),
    },
    required=("status", "message"),
)


_ARCHIVES: Final = _object(
    {
        "team": _TEXT,
        "namespace": _TEXT,
        "refused": {**_NULL_TEXT, "description": "Why nothing can be archived; null: it can."},
        "full": {"type": "boolean", "description": "Something waits for other teams' Jobs."},
        "volumes": _list_of(
            _object(
                {
                    "volume": {**_TEXT, "description": "The claim's name."},
                    "kind": {"enum": ["team", "personal"]},
                    "bytes": {"type": "integer"},
                    "bound": {"type": "boolean", "description": "False: never used, and empty."},
                }
            )
        ),
        "jobs": _list_of(
            _object(
                {
                    "work": _TEXT,
                    "archive": _TEXT,
                    "volume": _TEXT,
                    "state": {"enum": ["waiting", "running", "done", "failed"]},
                    "message": _TEXT,
                }
            )
        ),
    },
    required=("team", "namespace", "refused", "full", "volumes", "jobs"),
)
_LEFTOVERS: Final = _object(
    {
        "contest": _TEXT,
        "namespacePrefix": {**_TEXT, "description": "Of teams' namespaces."},
        "at": {**_TEXT, **_TIME},
        "leftovers": _list_of(
            _object(
                {
                    "kind": _TEXT,
                    "namespace": _NULL_TEXT,
                    "name": _TEXT,
                    "team": _NULL_TEXT,
                    "terminating": {"type": "boolean"},
                    "why": _TEXT,
                }
            )
        ),
        "looked": _list_of(_TEXT),
        "notLooked": {"type": "object", "additionalProperties": _TEXT},
    },
    required=("contest", "at", "leftovers", "looked", "notLooked"),
)


def _plain(model: type[Document]) -> Json:
    """Schema of a request, its parts in it."""
    found = model.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    found.pop("$defs", None)
    return found


def _schemas() -> Json:
    return {
        "Condition": _CONDITION,
        "Team": _TEAM,
        "Teams": _TEAMS,
        "Plan": _PLAN,
        "Plans": _object({"plans": {"type": "object", "additionalProperties": _ref("Plan")}}),
        "Health": _HEALTH,
        "Problem": _PROBLEM,
        "Error": _ERROR,
        "Archives": _ARCHIVES,
        "Leftovers": _LEFTOVERS,
        "ArchiveRequest": _plain(ArchiveRequest),
        "LeftoversRequest": _plain(LeftoversRequest),
        "ArchiveEntry": _plain(ArchiveEntry),
        "NudgeRequest": NudgeRequest.model_json_schema(by_alias=True),
        "PlanRequest": PlanRequest.model_json_schema(by_alias=True),
    }


def _operation(
    summary: str,
    answers: Json,
    *refusals: int,
    parameters: Sequence[Json] = (),
    body: str = "",
    is_public: bool = False,
) -> Json:
    """One method of one path. `answers` by status; `body` names the schema of what is sent."""
    found: Json = {"summary": summary}
    if parameters:
        found["parameters"] = list(parameters)
    if body:
        found["requestBody"] = _body(body)
    found["responses"] = {**answers, **_refusals(*refusals)}
    if is_public:
        found["security"] = []
    return found


def _team_paths() -> Json:
    team = {"name": "team", "in": "path", "required": True, "schema": _TEXT}
    query = [
        {"name": name, "in": "query", "schema": schema}
        for name, schema in (
            ("state", _STATES),
            ("contest", _TEXT),
            ("offset", {"type": "integer", "minimum": 0}),
            ("limit", {"type": "integer", "minimum": 0, "maximum": 200}),
        )
    ]
    all_teams = _operation(
        "All teams; an HTML table when asked for text/html",
        {"200": _answer("One page.", _ref("Teams"))},
        *(401, 403, 422, 503),
        parameters=query,
    )
    one_team = _operation(
        "One team",
        {"200": _answer("Its state.", _ref("Team"))},
        *(401, 403, 404, 503),
        parameters=[team],
    )
    provision = _operation(
        "Read the team's groups now and make its namespace so",
        {
            "200": _answer("All stands already.", _ref("Team")),
            "202": _answer("Under way; ask status_url.", _ref("Team")),
        },
        *(400, 401, 403, 404, 409, 422, 502, 503),
        parameters=[team],
    )
    return {
        "/teams": {"get": all_teams},
        "/teams/{team}": {"get": one_team},
        "/teams/{team}/provision": {"post": provision},
    }


def _request_paths() -> Json:
    plan = _operation(
        "What would be changed; changes nothing",
        {"200": _answer("Steps and issues by team.", _ref("Plans"))},
        *(400, 401, 403, 422, 503),
        body="PlanRequest",
    )
    changed = _object({"changed": _list_of(_TEXT)})
    nudge = _operation(
        "Read these hub groups now instead of at the next poll",
        {"202": _answer("Read; these teams changed and are queued.", changed)},
        *(400, 401, 403, 422, 502, 503),
        body="NudgeRequest",
    )
    return {"/plan": {"post": plan}, "/nudge": {"post": nudge}}


def _ending_paths() -> Json:
    team = {"name": "team", "in": "path", "required": True, "schema": _TEXT}
    contest = {"name": "contest", "in": "query", "required": True, "schema": _TEXT}
    status = {"200": _answer("Volumes and Jobs as they are now.", _ref("Archives"))}
    found = {"200": _answer("As it is now.", _ref("Leftovers"))}
    starting = (400, 401, 403, 404, 409, 422, 502, 503)
    return {
        "/teams/{team}/archives": {
            "get": _operation(
                "A team's volumes and archive Jobs",
                status,
                *(401, 403, 404, 409, 502, 503),
                parameters=[team],
            ),
            "post": _operation(
                "Have volumes copied to the contests service; asking twice is asking once",
                status,
                *starting,
                parameters=[team],
                body="ArchiveRequest",
            ),
        },
        "/teams/{team}/archives/restore": {
            "post": _operation(
                "Have copies brought back into volumes",
                status,
                *starting,
                parameters=[team],
                body="ArchiveRequest",
            )
        },
        "/leftovers": {
            "get": _operation(
                "What in the cluster bears a contest's label, asked of the cluster now",
                found,
                *(401, 403, 422, 502, 503),
                parameters=[contest],
            ),
            "post": _operation(
                "The same, and what stands where these teams stood; changes nothing",
                found,
                *(400, 401, 403, 422, 502, 503),
                body="LeftoversRequest",
            ),
        },
    }


def _watching_paths() -> Json:
    health = _operation(
        "Whether it works: it holds the lease and both sides are known",
        {
            "200": _answer("It does.", _ref("Health")),
            "503": _answer("Not yet.", _ref("Health")),
        },
        is_public=True,
    )
    live = _operation(
        "Whether the process runs, one that waits its turn too",
        {"200": _answer("It does.")},
        is_public=True,
    )
    metrics = _operation(
        "Figures for Prometheus",
        {"200": _answer("Text format.", _TEXT, "text/plain")},
        *(401, 403),
    )
    document = _operation(
        "This document",
        {"200": _answer("OpenAPI 3.1.", {"type": "object"})},
        is_public=True,
    )
    return {
        "/health": {"get": health},
        "/health/live": {"get": live},
        "/metrics": {"get": metrics},
        "/openapi.json": {"get": document},
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
        "paths": {
            **_team_paths(),
            **_request_paths(),
            **_ending_paths(),
            **_watching_paths(),
        },
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
