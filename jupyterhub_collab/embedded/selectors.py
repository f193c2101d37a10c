"""Label and field selectors: text to predicates. Pure.

Notes
-----
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from .failures import bad_request
from .resources import Json

Predicate = Callable[[Json], bool]

_COMMA: Final = re.compile(r",(?![^(]*\))")
_REQUIREMENT: Final = re.compile(
    r"(?P<absent>!)?\s*(?P<key>[\w./-]+)\s*"
    r"((?P<equal>==?|!=)\s*(?P<value>.*)|(?<=\s)(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?"
)


def _label_of(obj: Json, key: str) -> str | None:
    return (obj["metadata"].get("labels") or {}).get(key)


def _field_of(obj: Json, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _requirement(text: str, read: Callable[[Json, str], str | None]) -> Predicate:
    """One requirement on what `read` finds: None is an absent label."""
    found = _REQUIREMENT.fullmatch(text.strip())
    if found is None:
        raise bad_request(f"unable to parse requirement: {text!r}")
    key, values = found["key"], {v.strip() for v in (found["values"] or "").split(",")}
    if found["equal"]:
        values = {found["value"]}
    elif not found["set"]:
        return lambda obj: (read(obj, key) is None) is bool(found["absent"])
    wanted = found["equal"] != "!=" and found["set"] != "notin"
    return lambda obj: (read(obj, key) in values) is wanted


def parse_selectors(labels: str, fields: str) -> Predicate:
    """A predicate on objects from the two query parameters.

    Raises
    ------
    ApiError
        400, when one of them cannot be parsed.
    """
    requirements = [_requirement(part, _label_of) for part in _COMMA.split(labels) if part]
    requirements += [_requirement(part, _field_of) for part in fields.split(",") if part]
    return lambda obj: all(holds(obj) for holds in requirements)
