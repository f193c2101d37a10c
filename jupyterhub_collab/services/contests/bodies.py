"""What may be sent to the contests service, and errors that name the field.

A body is JSON in UTF-8, read one way only, with no text in it that a database could not keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from ...errors import Problem, SpecError
from ...identity.strict_json import parse_object
from ...models import Document
from ...policy.problems import DocumentError, Path, to_document, to_field

BODY_BYTES_MAX: Final = 512 * 1024  # 10,000 teams that are kept, generously
MANIFEST_BYTES_MAX: Final = 16 * 1024 * 1024  # 5,000 teams with 25,000 members are about 2 MiB
_WRONG: Final = "The body is not what it should be."
D = TypeVar("D", bound=Document)


class BadRequestError(Exception):
    """What was sent is no JSON (400), too large (413), or not what it should be (422)."""

    def __init__(self, status: int, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.problems = status, message, tuple(problems)


def read_body(model: type[D], body: bytes, *, bytes_max: int = BODY_BYTES_MAX) -> D:
    """Body of a request. An empty one is an empty object. Raises BadRequestError."""
    if len(body) > bytes_max:
        raise BadRequestError(413, f"The body is larger than {bytes_max} bytes. Send less at once.")
    try:
        value = parse_object(body) if body.strip() else {}
    except ValueError as e:
        raise BadRequestError(400, f"The body cannot be used: {e}.") from e
    problems = _unkept(value)
    if problems:
        raise BadRequestError(422, _WRONG, problems)
    try:
        return to_document(model, value)
    except DocumentError as e:
        problems = [Problem(to_field(p.path), p.found, p.expected) for p in e.problems]
        raise BadRequestError(422, _WRONG, problems) from e
    except SpecError as e:
        raise BadRequestError(422, _WRONG, e.problems) from e


def bad_field(field: str, found: str, expected: str) -> BadRequestError:
    """422 of one field."""
    return BadRequestError(
        422, "Something that was sent is not right.", [Problem(field, found, expected)]
    )


def to_wire_problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    """As the API gives them."""
    return [{"field": p.field, "found": p.found, "expected": p.expected} for p in problems]


def _unkept(value: Any) -> list[Problem]:
    """Texts that PostgreSQL, or UTF-8, cannot hold."""
    found: list[Problem] = []
    waiting: list[tuple[Path, Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(((*path, key), inner) for key, inner in item.items())
            waiting.extend(((*path, "(name)"), key) for key in item)
        elif isinstance(item, list):
            waiting.extend(((*path, i), inner) for i, inner in enumerate(item))
        elif isinstance(item, str) and not _is_kept(item):
            what = "text with a NUL or half of a surrogate pair"
            found.append(Problem(to_field(path), what, "text in Unicode characters"))
    return found


def _is_kept(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
