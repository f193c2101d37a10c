"""Reading the audit log's database to check it: a look at one moment, that disturbs nobody.

SQLite is opened for reading only and PostgreSQL in a transaction that cannot write; a service that
runs goes on. Rows come in large pieces straight from the driver. What is longer than an event can
be is not loaded.

It must not: believe anything that it reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..errors import PermanentError
from ..policy.audit_block import Row
from ..policy.audit_bundle import BODY_BYTES_MAX
from ..policy.audit_finding import Findings, Kind
from ..policy.audit_index import SearchIndex, read_mark, tell_astray
from ..policy.audit_lines import Lines
from ..policy.audit_verify import LogShape, Note
from ..policy.merkle import leaf_hash
from .audit_tables import VERSION_TABLE

_NOTES_MAX: Final = 100_000  # checkpoints that are read, the newest
_NOTE_CHARS_MAX: Final = 4096
_NAME_CHARS_MAX: Final = 2000
_ROW_BYTES_MAX: Final = 2 * BODY_BYTES_MAX  # of an event with all that is beside it
_SQLITE_LIMIT_LENGTH: Final = 0  # SQLite's number of the limit
_LINES_BYTES_MAX: Final = 16 * 2**20  # of a block's events; they have some hundred KiB
_BUSY_S: Final = 30.0
_SEARCHED: Final = {
    "audit_people": ("name",),
    "audit_datasets": ("contest", "dataset"),
    "audit_contests": ("contest",),
    "audit_teams": ("team",),
    "audit_verbs": ("verb", "outcome"),
}
_SEARCHED_FIRST: Final = ("audit_people", "audit_datasets")
_MARK: Final = "audit_indexed"
_ASTRAY_MAX: Final = 100  # rows of each table that are told
# Only what is kept as it should be: SQLite orders numbers before texts before bytes, and a NULL is
# none of them. Each column is joined in the order in which rows come, the same for all.
_LINES: Final = (
    "SELECT COUNT(*), group_concat(sequence, '\n'), group_concat(body, '\n'),"
    " group_concat(people, '\n'), group_concat(stored_us, '\n'),"
    " group_concat(ifnull(contest, ''), '\n'), group_concat(ifnull(team, ''), '\n'),"
    " group_concat(verb, '\n'), group_concat(outcome, '\n') FROM audit_events"
    " WHERE sequence BETWEEN ? AND ? AND +stored_us < '' AND +body < x'' AND +people < x''"
    " AND ifnull(contest, '') < x'' AND ifnull(team, '') < x'' AND +verb < x'' AND +outcome < x''"
)


# Each row of a table is in one part of the log, also where SQLite keeps no number.
_WITHIN: Final = {
    (True, True): "TRUE",
    (True, False): "sequence <= ?",
    (False, True): "COALESCE(sequence > ?, TRUE)",
    (False, False): "sequence > ? AND sequence <= ?",
}


class _Searched(NamedTuple):
    """Statements about a table that searches go along.

    Attributes
    ----------
    fitting
        What is found along it, events as JSON arrays; lacks which part of the log.
    found
        The same of events between two, as digits with commas.
    astray
        Its rows for no event that is to have any; lacks which part of the log.
    """

    fitting: str
    found: str
    astray: str


class OfflineLog:
    """A log's database at the moment of opening. Use as a context manager.

    Parameters
    ----------
    url
        ``sqlite:////path/audit.sqlite`` or ``postgresql+psycopg://...``.

    Raises
    ------
    PermanentError
        It cannot be read, or holds no audit log.
    """

    def __init__(self, url: str) -> None:
        try:
            self._name = make_url(url).get_backend_name()
        except ArgumentError:
            raise PermanentError(
                "This is not the address of a database: sqlite:////path/audit.sqlite is one."
            ) from None
        self._close: list[Callable[[], Any]] = []
        self._searched: dict[str, _Searched] = {}
        self._last_tile: tuple[tuple[int, int], bytes | None] = (-1, -1), None
        self._limit: Callable[[int], AbstractContextManager[None]] | None = None
        try:
            if self._name == "sqlite":
                self._open_sqlite(make_url(url).database or "")
            elif self._name == "postgresql":
                self._open_postgresql(url)
            else:
                raise PermanentError("Audit logs are kept in SQLite and in PostgreSQL only.")
            # One of them alone is found without a look at all events.
            self.first, self.last = self._one(
                "SELECT COALESCE((SELECT MIN(sequence) FROM audit_events), 1),"
                " COALESCE((SELECT MAX(sequence) FROM audit_events), 0)"
            )
            self._read_mark()
        except BaseException as e:
            self.close()
            raise _to_error(e) from e

    def __enter__(self) -> OfflineLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the database go."""
        while self._close:
            with suppress(sqlite3.Error, SQLAlchemyError, *_driver_errors()):
                self._close.pop()()

    def count(self, most: int) -> int:
        """How many events there are, or `most` if there are more. Raises PermanentError."""
        counted = "SELECT COUNT(*) FROM (SELECT 1 FROM audit_events LIMIT ?) AS counted"
        return int(self._one(counted, (most,))[0])

    def shape(self) -> LogShape:
        """All that a check needs beside blocks of events."""
        return LogShape(
            first=self.first,
            last=self.last,
            inside=self._notes(),
            full_tile=self.full_tile,
            leaf_hashes=self.leaf_hashes,
        )

    def rows(self, first: int, count: int) -> list[Row]:
        """Events `first` to `first` + `count` - 1, those that are there. Raises PermanentError.

        They are plain tuples, in the order of `Row`.
        """
        bounds = (first, first + count - 1)
        if self._limit is None:
            return self._all(self._events, bounds)
        try:
            with self._limit(_ROW_BYTES_MAX):
                self._cursor.execute(self._short_events, bounds)
                return list(self._cursor.fetchall())
        except sqlite3.DataError:  # one is longer: look at each
            return self._all(self._events, bounds)

    def lines(self, first: int, count: int) -> Lines | None:
        """The same events as lines, if all are there and none is odd. Raises PermanentError.

        SQLite joins a thousand texts in less time than it takes to make objects of them.
        """
        if self._limit is None:
            return None
        try:
            with self._limit(_LINES_BYTES_MAX):
                self._cursor.execute(_LINES, (first, first + count - 1))
                there, *lines = self._cursor.fetchone()
        except sqlite3.DataError:  # too long together
            return None
        except sqlite3.Error as e:
            raise _to_error(e) from e
        return Lines._make(lines) if there == count else None

    def leaf_hashes(self, start: int, end: int) -> list[bytes]:
        """Hashes of leaves start..end-1 (from 0), those that are there. Raises PermanentError."""
        rows = self.rows(start + 1, end - start)
        return [leaf_hash(body) for _, body, *_ in rows if body is not None]

    def full_tile(self, level: int, number: int) -> bytes | None:
        """A full tile. Raises PermanentError."""
        if self._last_tile[0] != (level, number):  # a check asks twice
            wanted = "SELECT hashes FROM audit_tiles WHERE level = ? AND number = ?"
            found = self._all(wanted, (level, number))
            is_right = found and isinstance(found[0][0], bytes | memoryview)
            self._last_tile = (level, number), bytes(found[0][0]) if is_right else None
        return self._last_tile[1]

    def compare_index(
        self,
        index: SearchIndex,
        first: int,
        last: int,
        *,
        begins: bool = True,
        ends: bool = True,
    ) -> Findings:
        """What searches find of events `first` to `last` beside what they should find.

        Both as far as the mark goes: no row may be for an event after it.

        Parameters
        ----------
        begins, ends
            Whether rows for what is no event are told, too, before `first` and after `last`.
        """
        findings = Findings()
        if last > self.indexed:
            index.cut(self.indexed)
        within = _WITHIN[begins, ends]
        bounds = (*(() if begins else (first - 1,)), *(() if ends else (last,)))
        known = (self.first, self.indexed)
        for table, (fitting, wanted, astray) in self._searched.items():
            if self._is_fitting(index, table, fitting % within, bounds):
                continue
            found = self._all(wanted, (first, min(last, self.indexed)))
            findings.merge(index.compare(table, found))
            for (sequence,) in self._all(astray % within, (*bounds, *known)):
                tell_astray(findings, table, sequence, *known)
        return findings

    def _is_fitting(
        self, index: SearchIndex, table: str, statement: str, bounds: tuple[int, ...]
    ) -> bool:
        try:
            return index.is_fitting(table, self._all(statement, bounds))
        except PermanentError:  # SQLite's arrays do not take bytes; else the next look fails, too
            return False

    def check_mark(self) -> Findings:
        """What is wrong with the mark up to which searches go along tables."""
        return self._mark_findings

    def _read_mark(self) -> None:
        """Which tables there are, and up to which event they are written."""
        self._mark_findings = Findings()
        self.indexed = self.last
        newer = [table for table in _SEARCHED if table not in _SEARCHED_FIRST]
        missing = [table for table in (_MARK, *newer) if not self._has(table)]
        if missing == [_MARK, *newer] and not self._has(VERSION_TABLE):
            # Of the first version, which wrote the other two along with events.
            self._searched = {table: self._searched[table] for table in _SEARCHED_FIRST}
            return
        for table in missing:
            self._mark_findings.add(Kind.INDEX, 0, f"The table {table} was taken out.")
            self._searched.pop(table, None)
        if _MARK in missing:
            return
        marks = [row[0] for row in self._all("SELECT upto FROM audit_indexed LIMIT 2")]
        self.indexed = read_mark(marks, self.last, self._mark_findings)

    def _has(self, table: str) -> bool:
        return bool(self._all(self._has_table, (table,))[0][0])

    def _notes(self) -> list[Note]:
        found = self._all(self._notes_wanted, (_NOTE_CHARS_MAX + 1,))
        return [
            Note(f"the database's checkpoint {size}", bytes(note).decode(errors="replace"))
            for size, note in found
        ]

    def _open_sqlite(self, path: str) -> None:
        if not Path(path).is_file():
            raise PermanentError(f"There is no database {path}.")
        name = f"file:{quote(str(Path(path).absolute()))}?mode=ro"
        connection = sqlite3.connect(name, uri=True, isolation_level=None, timeout=_BUSY_S)
        self._close.append(connection.close)
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            if Path(f"{path}-wal").exists():
                raise
            # A copy where nothing can be written, not even what readers share: nobody writes it.
            name += "&immutable=1"
            connection = sqlite3.connect(name, uri=True, isolation_level=None)
            self._close.append(connection.close)
        connection.text_factory = bytes
        self._cursor: Any = connection.cursor()
        self._cursor.execute("BEGIN")
        self._has_table = "SELECT COUNT(*) FROM sqlite_master WHERE name = ?"
        arrays = "json_group_array(sequence)"
        try:
            connection.execute(f"SELECT {arrays} FROM (SELECT 1 AS sequence)")  # noqa: S608
        except sqlite3.DatabaseError:  # before 3.38 it may lack JSON
            arrays = "'[' || group_concat(quote(sequence)) || ']'"
        joined = (arrays, "group_concat(sequence)")
        self._prepare("length(CAST(%s AS BLOB))", joined, str, _typed)
        if hasattr(connection, "setlimit"):  # Python 3.11
            setlimit: Any = getattr(connection, "setlimit")  # noqa: B009 - mypy knows 3.10

            @contextmanager
            def limit(length: int) -> Iterator[None]:
                before = setlimit(_SQLITE_LIMIT_LENGTH, length)
                try:
                    yield
                finally:
                    setlimit(_SQLITE_LIMIT_LENGTH, before)

            self._limit = limit

    def _open_postgresql(self, url: str) -> None:
        engine = create_engine(url)
        self._close.append(engine.dispose)
        connection = engine.raw_connection()
        self._close.append(connection.close)
        self._close.append(connection.rollback)
        cursor = connection.cursor()
        self._close.append(cursor.close)
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        self._cursor = cursor
        self._has_table = "SELECT to_regclass(CAST(? AS text)) IS NOT NULL"
        joined = "string_agg(sequence::text, ',' ORDER BY sequence)"
        self._prepare(
            "octet_length(%s)",
            (f"'[' || {joined} || ']'", joined),
            lambda text: f"convert_to({text}, 'UTF8')",
        )

    def _prepare(
        self,
        length: str,
        joined: tuple[str, str],
        text: Callable[[str], str],
        typed: Callable[[str], str] = lambda column: column,
    ) -> None:
        """Statements of this kind of database; nothing from outside is in them."""
        self._notes_wanted = (
            f"SELECT size, {text('substr(note, 1, ?)')} FROM audit_checkpoints"  # noqa: S608
            f" ORDER BY size DESC LIMIT {_NOTES_MAX}"
        )

        def bounded(column: str) -> str:
            long = f"{length % column} > {BODY_BYTES_MAX}"
            return f"CASE WHEN {long} THEN NULL ELSE {text(column)} END"

        def whole(column: str) -> str:
            return text(typed(f"substr({column}, 1, {_NAME_CHARS_MAX})"))

        searched = ("contest", "team", "verb", "outcome")

        columns = ", ".join(map(whole, searched))
        self._events = (
            f"SELECT sequence, {bounded('body')}, {bounded('people')}, stored_us, {columns}"  # noqa: S608
            " FROM audit_events WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        self._short_events = (
            f"SELECT sequence, body, people, stored_us, {', '.join(map(typed, searched))}"  # noqa: S608
            " FROM audit_events WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        # SQLite keeps fractions too, which may lie between two blocks of events.
        odd = " OR typeof(sequence) <> 'integer'" if self._name == "sqlite" else ""
        for table, names in _SEARCHED.items():
            whats = ", ".join(text(typed(name)) for name in names)
            arrays, digits = (f"SELECT {whats}, {text(one)} FROM {table}" for one in joined)  # noqa: S608
            grouped = f"GROUP BY {', '.join(names)}"
            self._searched[table] = _Searched(
                f"{arrays} WHERE %s {grouped}",
                f"{digits} WHERE sequence BETWEEN ? AND ? {grouped}",
                f"SELECT DISTINCT sequence FROM {table} WHERE %s"  # noqa: S608
                f" AND (sequence < ? OR sequence > ?{odd}) ORDER BY sequence LIMIT {_ASTRAY_MAX}",
            )

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            if self._name == "postgresql":
                statement = statement.replace("?", "%s")
            self._cursor.execute(statement, values)
            return list(self._cursor.fetchall())
        except Exception as e:
            raise _to_error(e) from e

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        return self._all(statement, values)[0]


def _driver_errors() -> tuple[type[Exception], ...]:
    try:
        import psycopg
    except ImportError:
        return ()
    return (psycopg.Error,)


def _typed(column: str) -> str:
    """SQLite keeps bytes in a column for text, and no search for the text finds them."""
    return f"CASE typeof({column}) WHEN 'blob' THEN x'00' ELSE {column} END"


def _to_error(error: BaseException) -> BaseException:
    """An error of the driver in a sentence, without statement and values."""
    if isinstance(error, (sqlite3.Error, SQLAlchemyError, *_driver_errors())):
        return PermanentError(
            f"The database cannot be read as an audit log ({type(error).__name__}). Check its"
            " address, and that whoever runs this may read it."
        )
    return error
