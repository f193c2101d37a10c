"""What a manifest changes, as JSON between the contests service and the command line. Pure.

Both ways: who reads it back has the plan again, as it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import TypeAdapter

from ..models import RosterEntry
from .contest_manifest import Action, ContestPlan, FieldChange, GroupChange

_ROSTER: Final[TypeAdapter[tuple[RosterEntry, ...]]] = TypeAdapter(tuple[RosterEntry, ...])


def to_wire(plan: ContestPlan) -> dict[str, Any]:
    """Group by group."""
    return {
        "contest": plan.contest,
        "changes": [
            {
                "group": change.group,
                "action": change.action.value,
                "fields": [
                    {"field": f.field, "before": f.before, "after": f.after} for f in change.fields
                ],
                "joining": _entries((*change.add, *change.joining)),
                "leaving": _entries((*change.remove, *change.leaving)),
            }
            for change in plan.changes
        ],
        "gone": list(plan.gone),
    }


def from_wire(said: Mapping[str, Any]) -> ContestPlan:
    """The plan, to be shown: how groups are written is not in it.

    Raises
    ------
    ValueError
        It is none.
    """
    try:
        changes = tuple(
            GroupChange(
                group=str(change["group"]),
                action=Action(change["action"]),
                exists=change["action"] != Action.CREATE.value,
                properties=None,
                fields=tuple(
                    FieldChange(str(f["field"]), f["before"], f["after"]) for f in change["fields"]
                ),
                add=(),
                remove=(),
                joining=_ROSTER.validate_python(tuple(change["joining"])),
                leaving=_ROSTER.validate_python(tuple(change["leaving"])),
            )
            for change in said["changes"]
        )
        return ContestPlan(str(said["contest"]), changes, tuple(map(str, said["gone"])))
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(f"no plan: {type(e).__name__}") from e


def _entries(entries: tuple[RosterEntry, ...]) -> list[Any]:
    found: list[Any] = _ROSTER.dump_python(entries, mode="json", by_alias=True)
    return list(found)
