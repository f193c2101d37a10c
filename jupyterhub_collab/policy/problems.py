"""Validation errors as sentences: which field, what was found, what would be right.

pydantic says what it refused in its own words ("String should match pattern ..."). People who
write a contest manifest or group properties get the rule in theirs instead, with the nearest
allowed word when they mistyped one. This module must not validate: it only translates.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from .. import names
from ..models import Document
from ..models.roster import ENTRY_TAGS

Path = tuple[str | int, ...]
"""Where in a document: mapping keys and list positions."""

FOUND_MAX = 80  # characters of a value that a sentence repeats
QUANTITY_RULE = "a quantity such as 2, 500m, 4Gi or 1.5G"
MOMENT_RULE = "a date and time with its zone, such as 2027-01-31T18:00:00Z"
WALL_TIME_RULE = (
    "a date and time such as 2027-01-31T18:00, in the contest's time zone, or with an offset such"
    " as 2027-01-31T18:00+01:00"
)
NETWORK_RULE = "a network without host bits, such as 151.101.0.0/16"
_IMAGE_RULE = "an image with a tag or a digest, such as registry.example.org/basic:1.0"
_MEMBER_RULE = "a user name of 1 to 255 characters without slashes and control characters"
_KEY_RULE = "1 to 512 characters without control characters"
_EMAIL_RULE = "an e-mail address and nothing else, such as ada@example.org"
_BARE = re.compile(r"[A-Za-z0-9_-]+|\(YAML\)")

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class FieldProblem:
    """A problem before it is known which file and line it stands in."""

    path: Path
    found: str
    expected: str


class DocumentError(ValueError):
    """A value is not the document it should be; `problems` says why, all of it."""

    def __init__(self, problems: Iterable[FieldProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{to_field(p.path)}: {p.found}" for p in self.problems))


def to_field(path: Path) -> str:
    """Path as people write it: ``teams.ocean.members[2]``; ``(whole document)`` for the root."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            word = part if _BARE.fullmatch(part) else to_found(part)
            text += f".{word}" if text else word
    return text or "(whole document)"


def to_found(value: object) -> str:
    """Value as a sentence repeats it: strings in quotes, on one line, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return "a list" if value else "an empty list"
    if isinstance(value, Enum):
        value = value.value
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= FOUND_MAX else text[: FOUND_MAX - 3] + "..."


def one_of(found: object, allowed: Iterable[str]) -> str:
    """``one of: a, b (did you mean "a"?)``."""
    words = sorted(allowed)
    if not words:
        return "nothing: none are defined"
    text = f"one of: {', '.join(words)}"
    by_lower = {word.lower(): word for word in words}
    near = difflib.get_close_matches(str(found).lower(), by_lower, n=1, cutoff=0.6)
    return f'{text} (did you mean "{by_lower[near[0]]}"?)' if near else text


def to_document(model: type[D], value: object) -> D:
    """Validate ``value`` as a document in its wire form.

    Raises
    ------
    DocumentError
        With all problems.
    """
    try:
        # Wire names only: cpu_millicores: 500 would otherwise be read as 500 cores.
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as e:
        raise DocumentError(to_problems(e, model)) from e


def to_problems(error: ValidationError, model: type[BaseModel]) -> list[FieldProblem]:
    """Problems of one refused document, in the order in which pydantic found them."""
    problems: list[FieldProblem] = []
    for item in error.errors(include_url=False):
        loc = tuple(item["loc"])
        loc = loc[:-1] if loc[-1:] == ("[key]",) else loc
        path = tuple(part for part in loc if part not in ENTRY_TAGS)
        kind = str(item["type"])
        value = item["input"]
        if kind == "too_short" and len(value) >= item["ctx"]["min_length"]:
            continue  # pydantic counts what is left after other errors, which are told anyway
        if kind == "extra_forbidden":
            known = _field_names(_model_at(model, loc[:-1]))
            found, expected = "an unknown field", one_of(path[-1], known)
        elif kind == "missing":
            found, expected = "nothing", _expected_of(model, loc)
        else:
            found, expected = to_found(value), _expected(kind, item, model, loc)
        problem = FieldProblem(path, found, expected)
        if problem not in problems:
            problems.append(problem)
    return problems


def _expected(kind: str, item: Any, model: type[BaseModel], path: Path) -> str:
    """What would be right, from the kind of error."""
    context = item.get("ctx", {})
    fixed = {
        "string_type": "text (in quotes, where YAML would read it as something else)",
        "bool_type": "true or false",
        "int_type": "a whole number",
        "model_type": "a mapping",
        "dict_type": "a mapping",
        "tuple_type": "a list",
        "timezone_aware": MOMENT_RULE,
        "ip_any_network": _network_rule(item["input"]),
    }
    if kind in fixed:
        return fixed[kind]
    if kind == "string_pattern_mismatch":
        return _pattern_rule(str(context["pattern"]))
    if kind in ("enum", "literal_error"):
        words = str(context["expected"])
        return one_of(item["input"], re.findall(r"'([^']*)'", words) or [words])
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    if kind == "string_too_short":
        return f"at least {context['min_length']} character(s)"
    if kind == "too_short":
        return f"at least {context['min_length']} entry"
    if kind in ("greater_than_equal", "less_than_equal"):
        return (
            f"a number {'>=' if 'ge' in context else '<='} {context.get('ge', context.get('le'))}"
        )
    if kind == "value_error" or kind.startswith("datetime"):
        return _expected_of(model, path)
    return str(item["msg"])


def _pattern_rule(pattern: str) -> str:
    if names.TEAM_ID_PATTERN in pattern:
        return names.TEAM_ID_RULE
    if "sha256" in pattern:
        return _IMAGE_RULE
    if "@" in pattern:
        return _EMAIL_RULE
    if pattern == r"^[^\x00-\x1f]+$":
        return _KEY_RULE
    if r"\x00" in pattern:
        return _MEMBER_RULE
    if pattern.startswith(r"^\d{4}-"):
        return WALL_TIME_RULE
    if pattern == "^/":
        return "an absolute path"
    return f"text that matches {pattern}"


def _network_rule(value: object) -> str:
    """The rule; where host bits are all that is wrong, with the network that was meant."""
    try:
        meant = ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        return NETWORK_RULE
    return f"{NETWORK_RULE} (did you mean {meant}?)"


def _field_names(model: type[BaseModel] | None) -> list[str]:
    if model is None:
        return []
    return [field.alias or name for name, field in model.model_fields.items()]


def _expected_of(model: type[BaseModel], path: Path) -> str:
    """What belongs at ``path``, from the model's annotation alone."""
    annotation = _annotation_at(model, path)
    text = str(annotation)
    if "to_millicores" in text or "to_bytes" in text:
        return QUANTITY_RULE
    if names.TEAM_ID_PATTERN in text and get_origin(_strip(annotation)) is None:
        return names.TEAM_ID_RULE
    if "_only_moment" in text:
        return MOMENT_RULE
    if "IPvAnyNetwork" in text:
        return NETWORK_RULE
    inner = _strip(annotation)
    origin = get_origin(inner)
    if origin is Literal:
        return one_of("", [str(a) for a in get_args(inner)])
    if origin is dict or (isinstance(inner, type) and issubclass(inner, BaseModel)):
        return "a mapping"
    if origin is tuple:
        return "a list"
    if isinstance(inner, type) and issubclass(inner, Enum):
        return one_of("", [str(m.value) for m in inner])
    words = {str: "text", int: "a whole number", bool: "true or false"}
    return words.get(inner, "a value") if isinstance(inner, type) else "a value"


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    inner = _strip(_annotation_at(model, path))
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None


def _annotation_at(model: type[BaseModel], path: Path) -> Any:
    """Annotation of the field at ``path``; ``Any`` where there is none."""
    current: Any = model
    for part in path:
        inner = _strip(current)
        origin = get_origin(inner)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            for name, field in inner.model_fields.items():
                if (field.alias or name) == part:
                    # What Annotated carried is kept in the metadata; it names the validators.
                    parts = (field.annotation, *field.metadata)
                    current = Annotated[parts] if field.metadata else field.annotation
                    break
            else:
                return Any
        elif origin is dict:
            current = get_args(inner)[1]
        elif origin is tuple:
            current = get_args(inner)[0]
        elif part in ENTRY_TAGS:
            tagged = [a for a in get_args(inner) if Tag(str(part)) in get_args(a)[1:]]
            current = get_args(tagged[0])[0] if tagged else Any
        else:
            return Any
    return current


def _strip(annotation: Any) -> Any:
    """Annotation without Annotated and without ``| None``."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _strip(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        rest = [a for a in get_args(annotation) if a is not type(None)]
        return _strip(rest[0]) if len(rest) == 1 else annotation
    return annotation
