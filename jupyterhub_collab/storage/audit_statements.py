"""What each transaction of the audit log executes, as texts made once.

SQLAlchemy would work out each row anew, which costs more than the database does. SQLite takes a
statement row by row, in this process; PostgreSQL takes all rows of a table in one statement, column
by column, because each statement is a message to the server and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Dialect,
    String,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Compiled

from . import audit_tables as tables

Rows = Sequence[tuple[Any, ...]]
"""Values in the order of a table's columns."""

_KEY: Final = ("emitter", "incarnation")


class Statements:
    """For one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_column = dialect.name == "postgresql"
        if self._by_column:  # its driver takes values by name, and by position too
            dialect = type(dialect)(paramstyle="format")  # type: ignore[call-arg]
        self._inserts = {
            table: self._to_text(self._make_insert(table).compile(dialect=dialect))
            for table in tables.tables.sorted_tables
        }
        compiled = self._make_update().compile(dialect=dialect)
        self._update = self._to_text(compiled)
        # SQL names the new value before the key.
        names = [column.name for column in tables.emitters.columns]
        self._update_order = [names.index(name) for name in compiled.positiontup or ()]

    def insert(self, connection: Connection, table: Table, rows: Rows) -> None:
        """Add rows to a table, all or none."""
        if rows:
            self._execute(connection, self._inserts[table], rows)

    def update_emitters(self, connection: Connection, rows: Rows) -> None:
        """Change the last sequence of emitters that have a row."""
        if rows:
            ordered = [tuple(row[at] for at in self._update_order) for row in rows]
            self._execute(connection, self._update, rows if self._by_column else ordered)

    def _execute(self, connection: Connection, statement: str, rows: Rows) -> None:
        if self._by_column:
            columns = tuple(map(list, zip(*rows, strict=True)))
            connection.exec_driver_sql(statement, columns)
        else:
            connection.exec_driver_sql(statement, list(rows))

    def _to_text(self, compiled: Compiled) -> str:
        # Lists as bytes (%b): as text each quote of each JSON would be escaped one by one.
        return str(compiled).replace("%s", "%b") if self._by_column else str(compiled)

    def _make_insert(self, table: Table) -> Any:
        if not self._by_column:
            return insert(table)
        given = _unnest(table)
        return insert(table).from_select(list(table.columns), select(*given.columns))

    def _make_update(self) -> Any:
        emitters = tables.emitters
        if self._by_column:
            given: Any = _unnest(emitters).columns
        else:
            given = {column.name: bindparam(column.name) for column in emitters.columns}
        is_same = (emitters.c[name] == given[name] for name in _KEY)
        changed = update(emitters).where(*is_same)
        return changed.values({emitters.c.last_sequence: given["last_sequence"]})


def _unnest(table: Table) -> Any:
    """Rows of a table, given as a list for each column."""
    columns = list(table.columns)
    # A cast to a text of some length would cut what is longer instead of refusing it.
    types = [Text() if isinstance(column.type, String) else column.type for column in columns]
    names = [column.name for column in columns]
    lists = (bindparam(name, type_=ARRAY(kind)) for name, kind in zip(names, types, strict=True))
    return func.unnest(*lists).table_valued(*names, name="given").render_derived()
