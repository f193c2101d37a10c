"""A file that somebody wrote, to a checked document; every mistake with its line. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

from ..errors import Problem, SpecError
from ..models import Document
from .located_yaml import Lines, LocatedError, parse_yaml
from .problems import DocumentError, FieldProblem, to_document, to_field, to_found

API_VERSION: Final = "jupyterhub-collab.org/v1alpha1"

D = TypeVar("D", bound=Document)


def read_document(
    model: type[D],
    text: str | bytes,
    *,
    file: str,
    kind: str,
    check: Callable[[D], Iterable[FieldProblem]] = lambda _document: (),
) -> D:
    """Read and check a YAML document.

    Parameters
    ----------
    file
        Name for error messages.
    kind
        What it says it is, beside `API_VERSION`.
    check
        What is wrong between the parts, each of them valid by itself.

    Raises
    ------
    SpecError
        With all problems, in the order of the file.
    """
    try:
        value, lines = parse_yaml(text)
    except LocatedError as e:
        raise SpecError(
            [Problem(to_field(p.path), p.found, p.expected, file, n) for p, n in e.located]
        ) from e
    problems = _check_kind(value, kind, model)
    if problems:
        raise _located(problems, file, lines)
    try:
        document = to_document(model, value)
    except DocumentError as e:
        raise _located(e.problems, file, lines) from e
    problems = list(check(document))
    if problems:
        raise _located(problems, file, lines)
    return document


def _check_kind(value: object, kind: str, model: type[Document]) -> list[FieldProblem]:
    """Another kind of file gets one sentence, not one for each of its fields."""
    if not isinstance(value, dict):
        fields = [field.alias or name for name, field in model.model_fields.items()]
        expected = f"a mapping with {', '.join(fields[:3])}, ..."
        return [FieldProblem((), to_found(value), expected)]
    return [
        FieldProblem((key,), to_found(value.get(key)), right)
        for key, right in (("apiVersion", API_VERSION), ("kind", kind))
        if value.get(key) != right
    ]


def _located(problems: Any, file: str, lines: Lines) -> SpecError:
    """The same problems with file and line, in the file's order, each once."""
    found = {
        Problem(to_field(p.path), p.found, p.expected, file, lines.find(p.path)): None
        for p in problems
    }
    return SpecError(sorted(found, key=lambda problem: problem.line or 0))
