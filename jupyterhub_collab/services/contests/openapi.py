"""OpenAPI of the contests service; run as a module, this prints it.

Bodies are described by the documents that check them. A module of handlers that adds to it puts its
own into `PARTS` (see `make_openapi`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ... import names
from ...models import ContestManifest, Document
from ...models.contest_life import OperationState, TeamState
from ..openapi_words import TEXT, Json, answer, list_of, object_of, ref, refusals
from . import requests

DEFAULT_PREFIX: Final = "/services/contests/"
_WORD: Final[Json] = {
    "type": "string",
    "pattern": f"^{names.TEAM_ID_PATTERN}$",
    "maxLength": names.TEAM_ID_MAX,
}
_NUMBER: Final[Json] = {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999}
_BOOL: Final[Json] = {"type": "boolean"}
_NAME: Final[Json] = {"type": ["string", "null"]}
_PARAMETERS: Final[Json] = {
    "contest": {"schema": _WORD},
    "team": {"schema": _WORD},
    "invitation": {"schema": {"type": "string", "minLength": 1, "maxLength": 100}},
    "number": {"schema": _NUMBER, "description": "Of the operation."},
}


@dataclass(frozen=True)
class _Call:
    """One method of one path.

    Attributes
    ----------
    body
        What is sent.
    result
        Name of a schema, with the status; None: what it says is not JSON.
    queries
        Names of parameters in the address's query.
    has_key
        Takes an Idempotency-Key.
    """

    path: str
    method: str
    summary: str
    result: tuple[int, str] | None
    body: type[Document] | None = None
    queries: tuple[str, ...] = ()
    has_key: bool = False
    more: tuple[int, ...] = ()


_CONTEST: Final = "/api/contests/{contest}"
_TEAM: Final = "/api/teams/{team}"
_OPERATION: Final = "/api/operations/{number}"
_CALLS: Final = (
    _Call("/api/contests", "get", "Contests that you may see", (200, "Contests")),
    _Call(_CONTEST, "get", "One contest, and what you are and may in it", (200, "Contest")),
    _Call(
        f"{_CONTEST}/plan",
        "post",
        "What a manifest would change",
        (200, "Difference"),
        ContestManifest,
    ),
    _Call(
        f"{_CONTEST}/manifest",
        "put",
        "Have a contest be as its manifest says; the hub's groups follow",
        (202, "Difference"),
        ContestManifest,
    ),
    _Call(
        f"{_CONTEST}/ranking",
        "put",
        "Say how the teams rank",
        (200, "Ranking"),
        requests.RankingBody,
    ),
    _Call(f"{_CONTEST}/agreement", "get", "Rules and terms of data use", (200, "Agreement")),
    _Call(
        f"{_CONTEST}/agreement",
        "post",
        "Accept them",
        (200, "Accepted"),
        requests.AgreementBody,
    ),
    _Call(f"{_CONTEST}/certificate", "get", "That nothing is left of a contest, signed", None),
    _Call(
        f"{_CONTEST}/archives",
        "get",
        "Copies of its volumes, by team and volume, as the registry remembers them",
        (200, "Archives"),
        queries=("afterArchive", "limit"),
    ),
    _Call(
        f"{_TEAM}/archives",
        "get",
        "Its volumes and archive Jobs, as the cluster has them now",
        (200, "TeamArchives"),
    ),
    _Call(
        f"{_TEAM}/archives/restore",
        "post",
        "Have a copy brought back into one of its volumes; for a host of both contests",
        (202, "TeamArchives"),
        requests.RestoreBody,
    ),
    _Call(
        f"{_CONTEST}/actions",
        "post",
        "Have an action done, or see what it would do (dryRun)",
        (202, "Operation"),
        requests.ActionBody,
        has_key=True,
        more=(200,),
    ),
    _Call(
        f"{_CONTEST}/operations",
        "get",
        "What was asked for, the newest first",
        (200, "Operations"),
        queries=("operationState", "limit"),
    ),
    _Call(_OPERATION, "get", "One of these", (200, "Operation")),
    _Call(
        f"{_OPERATION}/approve",
        "post",
        "A second person's yes to exactly what was proposed",
        (202, "Operation"),
        requests.EmptyBody,
    ),
    _Call(f"{_OPERATION}/decline", "post", "No to it", (200, "Operation"), requests.EmptyBody),
    _Call(
        f"{_CONTEST}/progress",
        "get",
        "Where a contest is: counts, what is stuck and why, what comes when",
        (200, "Progress"),
    ),
    _Call(f"{_CONTEST}/events", "get", "The same, live: server-sent events", None),
    _Call(
        f"{_CONTEST}/transitions",
        "get",
        "What happened: the newest first, or in order after a number",
        (200, "Transitions"),
        queries=("afterNumber", "team", "limit"),
    ),
    _Call(
        f"{_CONTEST}/teams",
        "get",
        "Its teams by id, in pages",
        (200, "Teams"),
        queries=("state", "after", "limit"),
    ),
    _Call(
        f"{_CONTEST}/teams",
        "post",
        "Register a team; 202 where it is admitted at once",
        (201, "Team"),
        requests.TeamBody,
        has_key=True,
        more=(202,),
    ),
    _Call(_TEAM, "get", "A team with its members", (200, "Team")),
    _Call(
        f"{_TEAM}/members", "post", "Put somebody into a team", (200, "Members"), requests.EntryBody
    ),
    _Call(
        f"{_TEAM}/members",
        "delete",
        "Take somebody out of it, or leave",
        (200, "Members"),
        requests.EntryBody,
    ),
    _Call(
        f"{_TEAM}/captain", "post", "Hand the captaincy over", (200, "Team"), requests.CaptainBody
    ),
    _Call(f"{_TEAM}/invitations", "get", "Those that nobody used yet", (200, "Invitations")),
    _Call(
        f"{_TEAM}/invitations",
        "post",
        "Invite somebody: one person, once, in time. The token is shown here only",
        (201, "NewInvitation"),
        requests.InvitationBody,
        has_key=True,
    ),
    _Call(f"{_TEAM}/invitations/{{invitation}}", "delete", "Withdraw one", (200, "Withdrawn")),
    _Call("/api/invitations/accept", "post", "Use one", (200, "Joined"), requests.AcceptBody),
    _Call(
        f"{_TEAM}/merge",
        "post",
        "Have all of a team join another; both are registered and not admitted yet",
        (200, "Merged"),
        requests.MergeBody,
    ),
    _Call(f"{_CONTEST}/notices", "get", "Notices of it in force", (200, "Notices")),
    _Call(
        f"{_CONTEST}/notices",
        "post",
        "Tell all of a contest, or one team; 200 where the same key told it before",
        (201, "Notice"),
        requests.NoticeBody,
        has_key=True,
        more=(200,),
    ),
    _Call(
        "/api/notices",
        "get",
        "Notices to you; a program with the scope custom:collab:contests:notices says to whom",
        (200, "Notices"),
        queries=("user", "teams"),
    ),
    _Call(
        "/api/rebuild",
        "post",
        "Bring the hub's groups after the registry anew",
        (202, "Rebuild"),
        requests.RebuildBody,
    ),
)
_QUERIES: Final[dict[str, Json]] = {
    "state": {"schema": {"type": "array", "items": {"enum": [s.value for s in TeamState]}}},
    "operationState": {"name": "state", "schema": {"enum": [s.value for s in OperationState]}},
    "after": {"schema": _WORD, "description": "The last team of the page before."},
    "afterArchive": {
        "name": "after",
        "schema": {"type": "string", "pattern": "^[^/]+/.+$"},
        "description": "`next` of the page before.",
    },
    "afterNumber": {"name": "after", "schema": _NUMBER},
    "team": {"schema": _WORD, "description": "Of this team alone."},
    "user": {"schema": {"type": "string", "minLength": 1, "maxLength": 255}},
    "teams": {
        "name": "team",
        "schema": {"type": "array", "items": _WORD, "maxItems": 200},
        "description": "Those in which the hub knows the user, besides the registry's.",
    },
    "limit": {"schema": {"type": "integer", "minimum": 1, "maximum": 500}},
}


def _results() -> Json:
    """Schemas of what is answered."""
    member = object_of(
        {
            "entry": {"description": "A hub user name, an identity or an invitation."},
            "joinedAt": TEXT,
            "captain": _BOOL,
            "agreed": {"type": ["boolean", "null"]},
        },
        required=("entry", "captain"),
    )
    summary = object_of(
        {"id": _WORD, "title": TEXT, "state": TEXT, "round": _NUMBER, "frozen": _BOOL},
        required=("id", "title", "state", "round", "frozen"),
    )
    invitation = {"id": TEXT, "madeBy": TEXT, "expiresAt": TEXT}
    things = list_of({"type": "object"})
    operation = object_of(
        {"number": _NUMBER, "state": TEXT, "request": {"type": "object"}, "planHash": TEXT},
        required=("number", "state", "request"),
    )
    undelivered = object_of(
        {"channel": TEXT, "team": _NAME, "state": TEXT, "attempts": _NUMBER, "why": TEXT},
        required=("channel", "team", "state", "attempts", "why"),
    )
    notice = object_of(
        {
            "id": TEXT,
            "contest": _WORD,
            "team": _NAME,
            "text": TEXT,
            "at": TEXT,
            "until": _NAME,
            "undelivered": list_of(undelivered),
        },
        required=("id", "contest", "team", "text", "at", "until"),
    )
    problem = {"field": TEXT, "found": TEXT, "expected": TEXT}
    archive = object_of(
        {
            **dict.fromkeys(("archive", "volume", "place", "sha256", "at"), TEXT),
            "team": _WORD,
            "bytes": _NUMBER,
            "keepUntil": {**_NAME, "description": "null: for ever."},
        },
        required=("archive", "team", "volume", "place", "bytes", "sha256", "at", "keepUntil"),
    )
    return {
        "Archives": object_of(
            {"archives": list_of(archive), "next": _NAME}, required=("archives", "next")
        ),
        "TeamArchives": object_of(
            {"team": _WORD, "volumes": things, "jobs": things},
            required=("team", "volumes", "jobs"),
        ),
        "Contests": object_of(
            {
                "contests": list_of(summary),
                "problems": list_of(
                    object_of({"contest": _WORD, "message": TEXT}, required=("contest", "message"))
                ),
            },
            required=("contests", "problems"),
        ),
        "Contest": {
            **summary,
            "properties": {
                **summary["properties"],
                "problems": list_of(object_of({"team": _NAME, "message": TEXT})),
            },
        },
        "Difference": object_of(
            {"contest": _WORD, "changes": things, "gone": list_of(TEXT)},
            required=("contest", "changes", "gone"),
        ),
        "Ranking": object_of({"ranking": list_of(_WORD)}, required=("ranking",)),
        "Agreement": object_of(
            {"version": TEXT, "text": TEXT, "acceptedAt": _NAME}, required=("version", "text")
        ),
        "Accepted": object_of({"version": TEXT, "accepted": _BOOL}, required=("accepted",)),
        "Operation": object_of({"operation": operation}, required=("operation",)),
        "Plan": object_of(
            {
                "planHash": TEXT,
                "needsSecond": _BOOL,
                "transitions": things,
                "courses": things,
                "irreversible": list_of(_WORD),
            },
            required=("planHash", "needsSecond", "transitions"),
        ),
        "Operations": object_of({"operations": list_of(operation)}, required=("operations",)),
        "Progress": object_of(
            {
                "contest": summary,
                "teams": {"type": "object"},
                "courses": things,
                "stuck": things,
                "deadlines": things,
                "behindCount": _NUMBER,
                "problems": things,
            },
            required=("contest", "teams", "courses", "stuck", "deadlines", "behindCount"),
        ),
        "Transitions": object_of({"transitions": things}, required=("transitions",)),
        "Teams": object_of({"teams": things, "next": _NAME}, required=("teams", "next")),
        "Team": object_of(
            {"id": _WORD, "contest": _WORD, "title": _NAME, "state": TEXT, "captain": _NAME},
            required=("id", "contest", "state"),
        ),
        "Members": object_of({"team": _WORD, "members": list_of(member)}, required=("members",)),
        "Invitations": object_of(
            {"invitations": list_of(object_of(invitation, required=("id",)))},
            required=("invitations",),
        ),
        "NewInvitation": object_of({**invitation, "token": TEXT, "url": TEXT}, required=("token",)),
        "Withdrawn": object_of({"withdrawn": TEXT}, required=("withdrawn",)),
        "Joined": object_of({"team": _WORD, "contest": _WORD}, required=("team", "contest")),
        "Merged": object_of(
            {
                "team": _WORD,
                "gone": _WORD,
                "moving": _NUMBER,
                "members": _NUMBER,
                "membersMax": _NUMBER,
            },
            required=("team", "gone", "members"),
        ),
        "Notices": object_of({"notices": list_of(notice)}, required=("notices",)),
        "Notice": object_of({"notice": notice}, required=("notice",)),
        "Rebuild": object_of({"contest": _NAME}),
        "Health": object_of({"status": TEXT}, required=("status",)),
        "Problem": object_of(problem, required=("field", "expected")),
        "Error": object_of(
            {
                "status": {"type": "integer"},
                "message": TEXT,
                "problems": list_of(ref("Problem")),
            },
            required=("status", "message"),
        ),
    }


def _describe(call: _Call, schemas: Json) -> Json:
    """One method, as OpenAPI has it; documents that it names go into the schemas."""
    found: Json = {"summary": call.summary}
    parameters = [
        {"name": name, "in": "path", "required": True, **said}
        for name, said in _PARAMETERS.items()
        if f"{{{name}}}" in call.path
    ]
    for query in call.queries:
        said = _QUERIES[query]
        parameters.append({"name": said.get("name", query), "in": "query", **said})
    if call.has_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": call.path.endswith(("/teams", "/invitations", "/notices")),
                "description": "A text of your own for this wish; sent again, it is done once.",
                "schema": {"type": "string", "pattern": "^[!-~]+$", "maxLength": 200},
            }
        )
    if parameters:
        found["parameters"] = parameters
    if call.body is not None:
        found["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": ref(_add_document(call.body, schemas))}},
        }
    found["responses"] = _answers(call)
    return found


def _answers(call: _Call) -> Json:
    if call.result is None:
        media = "text/event-stream" if call.path.endswith("/events") else "text/plain"
        answers = {"200": answer("As it is.", TEXT, media)}
    else:
        status, name = call.result
        answers = {str(status): answer("As asked for.", ref(name))}
        for other in call.more:
            is_plan = call.path.endswith("/actions")
            answers[str(other)] = answer("As asked for.", ref("Plan" if is_plan else name))
    codes = [401, 403, 404, 503]
    if call.body is not None:
        codes += [400, 409, 413, 422]
    elif call.queries or call.method != "get":
        codes += [409, 422]
    if call.path.endswith("/events"):
        codes.append(429)
    return answers | refusals(*sorted(codes))


def _add_document(document: type[Document], schemas: Json) -> str:
    """Name of a document's schema, after it was put among the schemas."""
    schema = document.model_json_schema(by_alias=True, ref_template="#/components/schemas/{model}")
    schemas |= schema.pop("$defs", {})
    schemas[document.__name__] = schema
    return document.__name__


def _own_part() -> tuple[Json, Json]:
    """Paths and schemas of what stands in this package's first modules."""
    schemas = _results()
    paths: Json = {}
    for call in _CALLS:
        paths.setdefault(call.path, {})[call.method] = _describe(call, schemas)
    for path, summary in (
        ("/health", "Whether it works"),
        ("/live", "Whether the process runs"),
    ):
        answers = {"200": answer("It does.", ref("Health")), **refusals(503)}
        paths[path] = {"get": {"summary": summary, "security": [], "responses": answers}}
    paths["/metrics"] = {
        "get": {
            "summary": "Figures for Prometheus; for admins and the scope read:metrics",
            "responses": {
                "200": answer("Text format.", TEXT, "text/plain"),
                **refusals(401, 403, 503),
            },
        }
    }
    paths["/openapi.json"] = {
        "get": {
            "summary": "This document",
            "security": [],
            "responses": {"200": answer("OpenAPI 3.1.", {"type": "object"})},
        }
    }
    return paths, schemas


PARTS: Final[list[Callable[[], tuple[Json, Json]]]] = [_own_part]
"""Each gives paths and schemas. Two may say different methods of one path."""


def make_openapi(
    prefix: str = DEFAULT_PREFIX, parts: Iterable[Callable[[], tuple[Json, Json]]] = PARTS
) -> Json:
    """The whole document."""
    from ... import __version__

    paths: dict[str, Any] = {}
    schemas: Json = {}
    for part in parts:
        some_paths, some_schemas = part()
        schemas |= some_schemas
        for path, methods in some_paths.items():
            paths.setdefault(path, {}).update(methods)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "jupyterhub-collab contests",
            "version": __version__,
            "description": "Contests, rounds, teams and members: who takes part in what, and what"
            " becomes of it. What you may not see is answered as if it were not there.",
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
                }
            },
        },
    }


if __name__ == "__main__":
    json.dump(make_openapi(), sys.stdout, indent=2)
    sys.stdout.write("\n")
