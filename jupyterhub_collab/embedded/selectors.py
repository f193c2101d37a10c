"""Label and field selectors: text to predicates. Pure.

Notes
-----
https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from .failures import bad_request

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

_SET = re.compile(r"(!?[\w./-]+)\s+(in|notin)\s*\(([^()]*)\)")
_EQUAL = re.compile(r"([\w./-]+)\s*(==|=|!=)\s*([\w.-]*)")
_EXISTS = re.compile(r"(!?)\s*([\w./-]+)")
_FIELD = re.compile(r"([\w.]+)(==|=|!=)(.*)")


def _label_requirement(text: str) -> Predicate:
    """One requirement, as a predicate on the labels."""
    if match := _SET.fullmatch(text):
        key, operator = match[1], match[2]
        values = {v.strip() for v in match[3].split(",")}
    elif match := _EQUAL.fullmatch(text):
        key, operator, values = match[1], "notin" if match[2] == "!=" else "in", {match[3]}
    elif match := _EXISTS.fullmatch(text):
        key, wanted = match[2], not match[1]
        return lambda labels: (key in labels) is wanted
    else:
        raise bad_request(f"unable to parse requirement: {text!r}")
    if operator == "in":
        return lambda labels: labels.get(key) in values
    return lambda labels: key not in labels or labels[key] not in values


def _field_value(obj: Json, path: str) -> str:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return "" if value is None else str(value)


def _field_requirement(text: str) -> Predicate:
    match = _FIELD.fullmatch(text)
    if match is None:
        raise bad_request(f"invalid selector: {text!r}; can't understand {text!r}")
    path, wanted, value = match[1], match[2] != "!=", match[3]
    return lambda obj: (_field_value(obj, path) == value) is wanted


def parse_selectors(labels: str, fields: str) -> Predicate:
    """A predicate on objects from the two query parameters.

    Raises
    ------
    ApiError
        400, when one of them cannot be parsed.
    """
    by_label = [_label_requirement(p.strip()) for p in re.split(r",(?![^(]*\))", labels) if p]
    by_field = [_field_requirement(p.strip()) for p in fields.split(",") if p]

    def matches(obj: Json) -> bool:
        own = obj["metadata"].get("labels") or {}
        return all(r(own) for r in by_label) and all(r(obj) for r in by_field)

    return matches
