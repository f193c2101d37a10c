"""Events as rows of a table, for CSV and Parquet. Texts that a spreadsheet would run are made safe.

It must not: decide what is shown of an event.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, Final

from ..models.audit import PARTS
from .audit_reading import ShownEvent

_PLAIN: Final = ("sequence", "stored", "time", "verb", "outcome", "reason", "contest", "team")
_MORE: Final = ("thing", "datasets", "details", "correlation", "emitter", "late")
_PERSON: Final = ("name", "roles", "issuer", "subject", "address", "agent", "note")
COLUMNS: Final = (
    *_PLAIN,
    *_MORE,
    *(f"{part}_{field}" for part in PARTS for field in _PERSON),
    "erased",
)
LISTS: Final = frozenset({"datasets", "erased", *(f"{part}_roles" for part in PARTS)})
TIMES: Final = frozenset({"stored", "time"})
_RUNS: Final = tuple("=+-@\t\r\n|%＝＋－＠")  # what spreadsheets begin a formula or a command with


def to_row(event: ShownEvent) -> dict[str, Any]:
    """By column: texts, lists of texts, a number, yes or no; None for what there is not."""
    document = event.document
    row: dict[str, Any] = {name: document.get(name) for name in (*_PLAIN, *_MORE)}
    row["late"] = bool(document.get("late"))
    details = document.get("details")
    row["details"] = json.dumps(details, sort_keys=True) if details else None
    for part in PARTS:
        who = event.people.get(part, {})
        for field in _PERSON:
            row[f"{part}_{field}"] = who.get(field)
    row["erased"] = list(event.erased) or None
    return row


def to_csv(events: Iterable[ShownEvent], *, with_head: bool = False) -> bytes:
    """Lines of a CSV file (RFC 4180), UTF-8."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if with_head:
        writer.writerow(COLUMNS)
    for event in events:
        row = to_row(event)
        writer.writerow([_to_cell(row[name]) for name in COLUMNS])
    return text.getvalue().encode()


def _to_cell(value: Any) -> str | int:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return value
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    # A quote before it makes it text. Names and words of programs come from anybody.
    return f"'{text}" if text.lstrip().startswith(_RUNS) or text.startswith(_RUNS) else text
