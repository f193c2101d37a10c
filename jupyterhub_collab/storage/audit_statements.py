"""What each transaction of the audit log executes, as texts made once.

SQLAlchemy would work out each row anew, which costs more than the database does. SQLite takes a
statement row by row, in this process; PostgreSQL takes all rows of a table in one statement, column
by column, because each statement is a message to the server and back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, String, Table, Text, bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Compiled
from sqlalchemy.exc import DBAPIError

from . import audit_tables as tables

Rows = Sequence[tuple[Any, ...]]
"""Values in the order of a table's columns."""


class Statements:
    """For one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        self._by_column = dialect.name == "postgresql"
        if self._by_column:  # its driver takes values by name, and by position too
            dialect = type(dialect)(paramstyle="format")  # type: ignore[call-arg]

        def compile_for(table: Table) -> str:
            return self._to_text(self._make_insert(table).compile(dialect=dialect))

        self._events, self._tiles = compile_for(tables.events), compile_for(tables.tiles)
        self._emitters = compile_for(tables.emitters)

    def insert_events(self, connection: Connection, rows: Rows) -> None:
        """Add events. Raises DBAPIError as a connection does."""
        if self._by_column:
            self._execute(connection, self._events, rows)
            return
        # By the driver: what SQLAlchemy does around a statement takes longer than an event's row.
        if not connection.in_transaction():
            connection.begin()
        driver: Any = connection.connection.dbapi_connection
        try:
            driver.executemany(self._events, rows)
        except sqlite3.Error as e:
            raise DBAPIError.instance(
                None, None, e, sqlite3.Error, dialect=connection.dialect
            ) from e

    def insert_tiles(self, connection: Connection, rows: Rows) -> None:
        """Add full tiles."""
        self._execute(connection, self._tiles, rows)

    def put_emitters(self, connection: Connection, rows: Rows) -> None:
        """Set the last sequence of emitters, of whom some have a row."""
        self._execute(connection, self._emitters, rows)

    def _execute(self, connection: Connection, statement: str, rows: Rows) -> None:
        if not rows:
            return
        if self._by_column:
            columns = tuple(map(list, zip(*rows, strict=True)))
            connection.exec_driver_sql(statement, columns)
        else:
            connection.exec_driver_sql(statement, list(rows))

    def _to_text(self, compiled: Compiled) -> str:
        # Lists as bytes (%b): as text each quote of each JSON would be escaped one by one.
        return str(compiled).replace("%s", "%b") if self._by_column else str(compiled)

    def _make_insert(self, table: Table) -> Any:
        made: Any
        if self._by_column:
            given = _unnest(table)
            chosen = select(*given.columns)
            made = postgresql.insert(table).from_select(list(table.columns), chosen)
        else:
            made = sqlite.insert(table)
        if table is not tables.emitters:
            return made
        last = {"last_number": made.excluded.last_number}
        return made.on_conflict_do_update(index_elements=["emitter", "incarnation"], set_=last)


def _unnest(table: Table) -> Any:
    """Rows of a table, given as a list for each column."""
    columns = list(table.columns)
    # A cast to a text of some length would cut what is longer instead of refusing it.
    types = [Text() if isinstance(column.type, String) else column.type for column in columns]
    names = [column.name for column in columns]
    lists = (
        bindparam(name, type_=postgresql.ARRAY(kind))
        for name, kind in zip(names, types, strict=True)
    )
    return func.unnest(*lists).table_valued(*names, name="given").render_derived()
