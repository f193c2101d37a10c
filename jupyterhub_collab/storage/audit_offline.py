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
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from ..errors import PermanentError
from ..policy.audit_block import Row
from ..policy.audit_bundle import BODY_BYTES_MAX
from ..policy.audit_index import SearchIndex
from ..policy.audit_verify import LogShape, Note
from ..policy.merkle import leaf_hash

_NOTES_MAX: Final = 100_000  # checkpoints that are read, the newest
_NOTE_CHARS_MAX: Final = 4096
_NAME_CHARS_MAX: Final = 2000
_ROW_BYTES_MAX: Final = 2 * BODY_BYTES_MAX  # of an event with all that is beside it
_SQLITE_LIMIT_LENGTH: Final = 0  # SQLite's number of the limit
_BUSY_S: Final = 30.0


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
        self._limit: Callable[[], AbstractContextManager[None]] | None = None
        try:
            if self._name == "sqlite":
                self._open_sqlite(make_url(url).database or "")
            elif self._name == "postgresql":
                self._open_postgresql(url)
            else:
                raise PermanentError("Audit logs are kept in SQLite and in PostgreSQL only.")
            self.first, self.last, self.count = self._one(
                "SELECT COALESCE(MIN(sequence), 1), COALESCE(MAX(sequence), 0), COUNT(*)"
                " FROM audit_events"
            )
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
            with self._limit():
                self._cursor.execute(self._short_events, bounds)
                return list(self._cursor.fetchall())
        except sqlite3.DataError:  # one is longer: look at each
            return self._all(self._events, bounds)

    def leaf_hashes(self, start: int, end: int) -> list[bytes]:
        """Hashes of leaves start..end-1 (from 0), those that are there. Raises PermanentError."""
        rows = self.rows(start + 1, end - start)
        return [leaf_hash(body) for _, body, *_ in rows if body is not None]

    def full_tile(self, level: int, number: int) -> bytes | None:
        """A full tile. Raises PermanentError."""
        wanted = "SELECT hashes FROM audit_tiles WHERE level = ? AND number = ?"
        found = self._all(wanted, (level, number))
        return bytes(found[0][0]) if found and isinstance(found[0][0], bytes | memoryview) else None

    def compare_index(self, index: SearchIndex, first: int, last: int) -> Any:
        """What searches find of events `first` to `last` beside what they should find."""
        bounds = (first, last)
        return index.compare(self._all(self._people, bounds), self._all(self._datasets, bounds))

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
        self._cursor.execute("PRAGMA cache_size=-65536")
        self._cursor.execute("BEGIN")
        self._prepare("length(CAST(%s AS BLOB))", "group_concat(sequence, ', ')", str)
        if hasattr(connection, "setlimit"):  # Python 3.11
            setlimit: Any = getattr(connection, "setlimit")  # noqa: B009 - mypy knows 3.10

            @contextmanager
            def limit() -> Iterator[None]:
                before = setlimit(_SQLITE_LIMIT_LENGTH, _ROW_BYTES_MAX)
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
        self._prepare(
            "octet_length(%s)",
            "string_agg(sequence::text, ', ' ORDER BY sequence)",
            lambda text: f"convert_to({text}, 'UTF8')",
        )

    def _prepare(self, length: str, joined: str, text: Callable[[str], str]) -> None:
        """Statements of this kind of database; nothing from outside is in them."""
        self._notes_wanted = (
            f"SELECT size, {text('substr(note, 1, ?)')} FROM audit_checkpoints"  # noqa: S608
            f" ORDER BY size DESC LIMIT {_NOTES_MAX}"
        )

        def bounded(column: str) -> str:
            long = f"{length % column} > {BODY_BYTES_MAX}"
            return f"CASE WHEN {long} THEN NULL ELSE {text(column)} END"

        def whole(column: str) -> str:
            return text(f"substr({column}, 1, {_NAME_CHARS_MAX})")

        columns = ", ".join(whole(name) for name in ("contest", "team", "verb", "outcome"))
        self._events = (
            f"SELECT sequence, {bounded('body')}, {bounded('people')}, stored_us, {columns}"  # noqa: S608
            " FROM audit_events WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        self._short_events = (
            "SELECT sequence, body, people, stored_us, contest, team, verb, outcome"
            " FROM audit_events WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
        )
        where = "WHERE sequence BETWEEN ? AND ?"
        self._people = (
            f"SELECT {text('name')}, {text(joined)} FROM audit_people {where}"  # noqa: S608
            " GROUP BY name"
        )
        self._datasets = (
            f"SELECT {text('contest')}, {text('dataset')}, {text(joined)} FROM audit_datasets"  # noqa: S608
            f" {where} GROUP BY contest, dataset"
        )

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        try:
            if self._name == "postgresql":
                statement = statement.replace("?", "%s")
            self._cursor.execute(statement, values)
            return list(self._cursor.fetchall())
        except Exception as e:
            raise _to_error(e) from e

    def _one(self, statement: str) -> Any:
        return self._all(statement)[0]


def _driver_errors() -> tuple[type[Exception], ...]:
    try:
        import psycopg
    except ImportError:
        return ()
    return (psycopg.Error,)


def _to_error(error: BaseException) -> BaseException:
    """An error of the driver in a sentence, without statement and values."""
    if isinstance(error, (sqlite3.Error, SQLAlchemyError, *_driver_errors())):
        return PermanentError(
            f"The database cannot be read as an audit log ({type(error).__name__}). Check its"
            " address, and that whoever runs this may read it."
        )
    return error
