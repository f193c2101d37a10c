"""A contest plan as a table for people.

Names and titles come from files and from the hub: they are shown as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from .. import names
from ..policy.contest_manifest import Action, ContestPlan, GroupChange

_NAMES_SHOWN = 10  # of members in one cell
_WIDTH_SHOWN = 60  # of a value


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
    """One or two sentences for below the table."""
    created = sum(change.action is Action.CREATE for change in plan.changes)
    changed = len(plan.changes) - created
    joining = sum(len(change.add) for change in plan.changes)
    leaving = sum(len(change.remove) for change in plan.changes)
    if plan.is_empty:
        text = "No changes: the hub is as the manifest says."
    else:
        text = (
            f"{created} to create, {changed} to change; "
            f"{joining} memberships to add, {leaving} to remove."
        )
    if plan.gone:
        text += (
            f" {len(plan.gone)} in the contest but not in the manifest: left as they are. "
            'To keep a team from starting servers, list it with "gate: closed".'
        )
    return text


def to_label(group: str) -> str:
    """``team ocean`` or ``contest forecast``."""
    contest = names.contest_of_group(group)
    return f"contest {contest}" if contest is not None else f"team {group}"


def _add_rows(table: Table, change: GroupChange) -> None:
    style = "green" if change.action is Action.CREATE else "cyan"
    sign = "+" if change.action is Action.CREATE else "~"
    rows = [(field.field, field.before or "", field.after or "") for field in change.fields]
    if change.add:
        rows.append(("members", "", f"+ {_some(change.add)}"))
    if change.remove:
        rows.append(("members", f"- {_some(change.remove)}", ""))
    for number, row in enumerate(rows or [("(kept properties)", "", "")]):
        first = (sign, to_label(change.group)) if number == 0 else ("", "")
        table.add_row(*(Text(cell, style=style) for cell in (*first, *map(_short, row))))


def _some(users: Iterable[str]) -> str:
    everybody = list(users)
    text = ", ".join(everybody[:_NAMES_SHOWN])
    more = len(everybody) - _NAMES_SHOWN
    return f"{text} and {more} more" if more > 0 else text


def _short(text: str) -> str:
    printable = "".join(c if c.isprintable() else "�" for c in text)
    if printable[:2] in ("+ ", "- ") or len(printable) <= _WIDTH_SHOWN:
        return printable
    return printable[: _WIDTH_SHOWN - 3] + "..."
