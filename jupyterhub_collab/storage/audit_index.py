"""What searches of the audit log go along: rows that repeat an event, written after it.

An event is acknowledged once it, its tiles and nothing else are on disk. Rows for its contest,
team, verb, people and data sets each touch a page of their own, so they are written for many events
at once, in order, out of the events themselves; a mark beside them says up to which event. What a
search finds after the mark it finds by looking at each event there, with the statements below.

It must not: read anything but the events. What was erased from them then comes in no table.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Select,
    Table,
    and_,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from ..models.audit import PARTS
from .audit_tables import contests, datasets, events, indexed, people, teams, verbs

INDEX_TABLES: Final = (contests, teams, verbs, people, datasets)
"""Each has what is searched for, and at its end the event's sequence."""

Key = tuple[str, ...]
"""What is searched for in a table: values of its columns but the last."""


def write_index(connection: Connection, after: int, upto: int) -> bool:
    """Write the rows of events `after` + 1 to `upto`, and move the mark. False: it is elsewhere.

    A row that is there already stays: only somebody else can have written it.
    """
    span = {"after": after, "upto": upto}
    for table in INDEX_TABLES:
        connection.execute(_insert_new(table, connection.dialect.name), span)
    moved = update(indexed).where(indexed.c.upto == after).values(upto=upto)
    return connection.execute(moved).rowcount == 1


def read_mark(connection: Connection) -> int | None:
    """Up to which event rows are written; None if that is not to be told."""
    marks = connection.execute(select(indexed.c.upto)).scalars().all()
    return marks[0] if len(marks) == 1 and type(marks[0]) is int else None


def delete_index(connection: Connection, upto: int) -> None:
    """Delete the rows of all events up to one, which must still be there."""
    for table in INDEX_TABLES:
        found = select_rows(table, connection.dialect.name)
        rows = connection.execute(found, {"after": 0, "upto": upto}).all()
        if rows:
            columns = list(table.columns)
            same = (c == bindparam(f"value_{number}") for number, c in enumerate(columns))
            values = [{f"value_{n}": value for n, value in enumerate(row)} for row in rows]
            connection.execute(delete(table).where(*same), values)


@cache  # made each time, they took a third of the time in which 1,000 events' rows are written
def select_rows(table: Table, dialect: str) -> Select[Any]:
    """Rows of a table, in its order, as the events `:after` + 1 to `:upto` say they should be."""
    wanted, where = _columns_of(table, dialect)
    row = events.c
    found = select(*wanted, row.sequence).select_from(events)  # before what looks into its texts
    span = (row.sequence > bindparam("after"), row.sequence <= bindparam("upto"))
    found = found.where(*span, *where)
    return found.order_by(*wanted, row.sequence)


def is_found(table: Table, row: FromClause, keys: Iterable[Key], dialect: str) -> Any:
    """Condition on an event of a statement: one of the keys of a table leads to it."""
    c = row.c
    if table is contests:
        return c.contest.in_([contest for (contest,) in keys])
    if table is teams:
        return c.team.in_([team for (team,) in keys])
    if table is people:
        parts, name = _names_in(c.people, dialect)
        return exists().select_from(parts).where(name.in_([who for (who,) in keys]))
    # By what is the same in many: SQLite takes no thousand parts of one OR.
    together: dict[str, list[str]] = {}
    if table is verbs:
        for verb, outcome in keys:
            together.setdefault(outcome, []).append(verb)
        return or_(*(and_(c.outcome == end, c.verb.in_(some)) for end, some in together.items()))
    for contest, wanted in keys:
        together.setdefault(contest, []).append(wanted)
    listed, dataset = _datasets_in(c.body, dialect)
    return or_(
        *(
            and_(
                func.coalesce(c.contest, "") == contest,
                exists().select_from(listed).where(dataset.in_(some)),
            )
            for contest, some in together.items()
        )
    )


def _columns_of(
    table: Table, dialect: str
) -> tuple[list[ColumnElement[Any]], list[ColumnElement[bool]]]:
    """What stands in a table but for the sequence, and for which events anything does."""
    row = events.c
    if table is contests:
        return [row.contest], [row.contest.is_not(None)]
    if table is teams:
        return [row.team], [row.team.is_not(None)]
    if table is verbs:
        return [row.verb, row.outcome], []
    if table is people:
        _, name = _names_in(row.people, dialect)
        return [name], [name != ""]  # nor NULL, for somebody unknown
    _, dataset = _datasets_in(row.body, dialect)
    return [func.coalesce(row.contest, ""), dataset], []


def _names_in(kept: ColumnElement[str], dialect: str) -> tuple[FromClause, ColumnElement[str]]:
    """Names of an event's people, as a table and its column."""
    text = func.nullif(kept, "")
    if dialect == "postgresql":
        parts = func.json_each(cast(text, JSON)).table_valued(
            "key", column("value", JSON), name="parts", joins_implicitly=True
        )
        return parts, func.json_extract_path_text(parts.c.value, "value", "name")
    # All at once, so that the text is read once: it makes a list, with NULL for nobody.
    found = func.json_each(func.json_extract(text, *(f"$.{part}.value.name" for part in PARTS)))
    names = found.table_valued("value", name="names", joins_implicitly=True)
    return names, names.c.value


def _datasets_in(body: ColumnElement[str], dialect: str) -> tuple[FromClause, ColumnElement[str]]:
    """Data sets that an event's text lists, as a table and its column."""
    if dialect == "postgresql":
        # It takes no NUL, in none of a text's values; no data set has one.
        text = cast(func.replace(body, r"\u0000", r"\u0001"), JSON)
        found = func.json_array_elements_text(func.json_extract_path(text, "datasets"))
    else:
        found = func.json_each(body, "$.datasets")
    listed = found.table_valued("value", name="listed", joins_implicitly=True)
    return listed, listed.c.value


@cache
def _insert_new(table: Table, dialect: str) -> Insert:
    """Add the rows that are not there."""
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    made = insert_into(table).from_select(list(table.columns), select_rows(table, dialect))
    return made.on_conflict_do_nothing()
