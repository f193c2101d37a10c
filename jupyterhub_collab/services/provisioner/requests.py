"""What may be sent to the provisioner's API, and errors that name the field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import Field, StringConstraints

from ...errors import Problem, SpecError
from ...models import Document
from ...models.document import Id
from ...policy.problems import DocumentError, to_document, to_field

GroupName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255)]
D = TypeVar("D", bound=Document)


class EmptyRequest(Document):
    """Nothing can be said."""


class NudgeRequest(Document):
    """Which hub groups to read again now."""

    groups: tuple[GroupName, ...] = Field(min_length=1, max_length=200)


class PlanRequest(Document):
    """What to plan: teams as they are, or one team as it would be."""

    teams: tuple[Id, ...] = Field((), max_length=200)
    team: Id | None = None
    properties: dict[str, Any] | None = Field(
        None, description="The team group's properties, as they would be."
    )
    contest_properties: dict[str, Any] | None = Field(
        None, alias="contestProperties", description="The contest group's, if they would differ."
    )


class BadRequest(Exception):
    """The body is not JSON (400), or not what it should be (422)."""

    def __init__(self, status: int, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.problems = status, message, tuple(problems)


def parse(model: type[D], body: bytes) -> D:
    """Body of a request. An empty one is an empty object. Raises BadRequest."""
    try:
        value = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise BadRequest(400, f"The body is not JSON: {error}") from error
    try:
        return to_document(model, value)
    except DocumentError as error:
        problems = [Problem(to_field(p.path), p.found, p.expected) for p in error.problems]
        raise BadRequest(422, "The body is not what it should be.", problems) from error


def check_plan(request: PlanRequest) -> None:
    """What the fields say together. Raises BadRequest."""
    problems = []
    if bool(request.teams) == (request.team is not None):
        found = "both" if request.teams else "neither"
        problems.append(Problem("teams", found, "either teams, or team with properties"))
    if request.team is not None and request.properties is None:
        problems.append(Problem("properties", "nothing", "the team group's properties"))
    if request.contest_properties is not None and request.properties is None:
        problems.append(Problem("contestProperties", "no properties", "properties with them"))
    if problems:
        raise BadRequest(422, "The body is not what it should be.", problems)


def to_wire_problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """As the API gives them."""
    return [{"field": p.field, "found": p.found, "expected": p.expected} for p in problems]


def refusal(error: SpecError) -> BadRequest:
    """422 of a spec that is not valid."""
    return BadRequest(422, "The team's spec is not valid.", error.problems)
