"""Does an object in the cluster say what we want it to say? Pure.

The API server fills in what a manifest leaves out, so of most kinds only what is wanted counts.
In kinds that wall a team in, whatever stands there besides is a hole somebody made (an ``egress``
in the policy that denies all), so their bodies are compared whole. Quantities are compared by
value: ``2`` is ``2000m``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .. import units

Path = tuple[str, ...]

_EXACT_KINDS: Final = frozenset({"NetworkPolicy", "ResourceQuota", "LimitRange", "RoleBinding"})
_IDENTITY: Final = frozenset({"apiVersion", "kind", "metadata", "status"})
# Fields whose values are quantities, wherever they stand in the kinds we make.
_QUANTITIES: Final = frozenset(
    {"hard", "min", "max", "default", "defaultRequest", "requests", "capacity"}
)


@dataclass(frozen=True)
class Deviation:
    """One field that is not as wanted.

    Attributes
    ----------
    found
        What stands there, as JSON; empty when nothing does.
    is_extra
        It is not wanted at all.
    """

    path: Path
    found: str
    is_extra: bool = False

    def __str__(self) -> str:
        return ".".join(self.path)


def find_deviations(desired: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Deviation]:
    """All fields in which ``observed`` is not what ``desired`` says."""
    found: list[Deviation] = []
    theirs = observed["metadata"]
    for part in ("labels", "annotations"):
        mine, its = desired["metadata"].get(part) or {}, theirs.get(part) or {}
        if not mine.items() <= its.items():
            found += _dicts(mine, its, ("metadata", part), is_exact=False)
    is_exact = desired["kind"] in _EXACT_KINDS
    found += _dicts(_body(desired), _body(observed), (), is_exact=is_exact)
    return found


def _body(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key not in _IDENTITY}


def _is_nothing(value: Any) -> bool:
    """What the API server leaves out of its answers."""
    return value is None or value == {} or value == [] or value == ""


def _dicts(
    desired: Mapping[str, Any], observed: Mapping[str, Any], path: Path, *, is_exact: bool
) -> Iterator[Deviation]:
    for key, wanted in desired.items():
        found = observed.get(key)
        if wanted == found and type(wanted) is type(found):
            continue  # whole trees, most of the time; no field of ours is a number here, true there
        here = (*path, key)
        if isinstance(wanted, Mapping) and isinstance(found, Mapping):
            yield from _dicts(wanted, found, here, is_exact=is_exact)
        elif not _is_same(wanted, found, here, is_exact=is_exact):
            yield Deviation(here, json.dumps(found) if key in observed else "")
    if is_exact:
        for key, found in observed.items():
            if key not in desired and not _is_nothing(found):
                yield Deviation((*path, key), json.dumps(found), is_extra=True)


def _is_same(wanted: Any, found: Any, path: Path, *, is_exact: bool) -> bool:
    if wanted == found and type(wanted) is type(found):
        return True
    if _is_nothing(wanted) and _is_nothing(found):
        return True
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(
            not any(_dicts(mine, its, path, is_exact=is_exact))
            if isinstance(mine, Mapping) and isinstance(its, Mapping)
            else _is_same(mine, its, path, is_exact=is_exact)
            for mine, its in zip(wanted, found, strict=True)
        )
    if not _QUANTITIES.isdisjoint(path):
        try:
            return units.to_decimal(wanted) == units.to_decimal(found)
        except ValueError:
            return False
    return False
