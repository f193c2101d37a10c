"""A contest plan as a table for people.

Names and titles come from files and from the hub: they are shown as text, never as markup.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from .. import names
from ..models import Retention, RosterEntry
from ..policy.contest_manifest import Action, ContestPlan, FieldChange, GroupChange
from ..policy.roster import to_text

_NAMES_SHOWN = 10  # of members in one cell
_WIDTH_SHOWN = 60  # of a value
_DESTROY = json.dumps(Retention.DESTROY.value)


def make_plan_table(plan: ContestPlan) -> Table:
    """One row for each field that changes, each coming and going of members, each team gone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "what", "field", "is", "will be"):
        table.add_column(title, overflow="fold")
    for change in plan.changes:
        _add_rows(table, change)
    for team in plan.gone:
        cells = ("!", f"team {team}", "(not in the manifest)", "stays as it is", "nothing deleted")
        table.add_row(*(Text(cell, style="yellow") for cell in cells))
    return table


def make_summary(plan: ContestPlan) -> str:
    """What the plan comes to, for below its table."""
    if plan.is_empty:
        return "No changes: the hub is as the manifest says."
    created = sum(change.action is Action.CREATE for change in plan.changes)
    joining = sum(len(_coming(change)) for change in plan.changes)
    leaving = sum(len(_going(change)) for change in plan.changes)
    return (
        f"Groups: {created} to create, {len(plan.changes) - created} to change. "
        f"Memberships: {joining} to add, {leaving} to remove."
    )


def make_gone_note(plan: ContestPlan) -> str | None:
    """What to know of teams that the manifest has no more; None when there are none."""
    if not plan.gone:
        return None
    return (
        f"In the contest but not in the manifest: {_some(plan.gone)}. Left as they are; to keep a"
        ' team from starting servers, list it with "gate: closed".'
    )


def make_destroy_note(plan: ContestPlan) -> str | None:
    """Which teams this plan decides to destroy, and what that means; None when it is none."""
    doomed = [
        change.group
        for change in plan.changes
        for field in change.fields
        if field.field == "retention" and field.after == _DESTROY
    ]
    if not doomed:
        return None
    return (
        f"TO BE DESTROYED, for good, with the team's and all members' volumes: {_some(doomed)}."
        " Their servers are stopped at once; the rest goes when an administrator of the cluster"
        " releases it as well (docs: provisioner, Destroying a team)."
    )


def to_label(group: str) -> str:
    """``team ocean`` or ``contest forecast``."""
    contest = names.contest_of_group(group)
    return f"contest {contest}" if contest is not None else f"team {group}"


def _add_rows(table: Table, change: GroupChange) -> None:
    is_new = change.action is Action.CREATE
    sign, style = ("+", "green") if is_new else ("~", "cyan")
    rows = [
        (field.field, _plain(field.before), _plain(field.after))
        for field in (_summarize(change.fields) if is_new else change.fields)
    ]
    if coming := _coming(change):
        rows.append(("members", "", f"+ {_some(coming)}"))
    if going := _going(change):
        rows.append(("members", f"- {_some(going)}", ""))
    for number, row in enumerate(rows or [("(form of the properties)", "", "")]):
        first = (sign, to_label(change.group)) if number == 0 else ("", "")
        table.add_row(*(Text(_printable(cell), style=style) for cell in (*first, *row)))


def _coming(change: GroupChange) -> tuple[str, ...]:
    return (*change.add, *_texts(change.joining))


def _going(change: GroupChange) -> tuple[str, ...]:
    return (*change.remove, *_texts(change.leaving))


def _texts(entries: Iterable[RosterEntry]) -> tuple[str, ...]:
    return tuple(to_text(entry) for entry in entries)


def _summarize(fields: Iterable[FieldChange]) -> list[FieldChange]:
    """Of a new group: one row for each field at the top, with the names of what is in it."""
    parts: dict[str, list[str]] = {}
    values: dict[str, str | None] = {}
    for field in fields:
        top, *inner = re.split(r"[.\[]", field.field, maxsplit=2)
        values[top] = field.after
        names_inside = parts.setdefault(top, [])
        if inner and inner[0].rstrip("]") not in names_inside:
            names_inside.append(inner[0].rstrip("]"))
    return [
        FieldChange(top, None, ", ".join(inside) if inside else values[top])
        for top, inside in parts.items()
    ]


def _plain(value: str | None) -> str:
    """A JSON value as people write it: without the quotes of a plain string; shortened."""
    if value is None:
        return ""
    try:
        loaded = json.loads(value)
    except ValueError:
        loaded = value
    text = loaded if isinstance(loaded, str) else value
    return text if len(text) <= _WIDTH_SHOWN else text[: _WIDTH_SHOWN - 3] + "..."


def _some(users: Iterable[str]) -> str:
    everybody = list(users)
    text = ", ".join(everybody[:_NAMES_SHOWN])
    more = len(everybody) - _NAMES_SHOWN
    return f"{text} and {more} more" if more > 0 else text


def _printable(text: str) -> str:
    """Without control characters, which could rewrite what the terminal shows."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
