"""The one that writes to the audit log: a connection, a lock, and transactions that hold together.

All that a transaction adds is worked out beside what is known, and known once it is committed.
After anything went wrong, also a commit whose answer was lost, the connection is given up and what
is known is read anew, so memory never runs ahead of the disk nor behind it.

What follows from events alone is written behind them (`write_index`): the rows that searches go
along, and the newest number of each emitter. A mark in the same transaction says up to which event;
whoever opens the log reads the events after it.

The lock: on PostgreSQL an advisory lock of the very connection that writes, so that whoever lost
the one lost the other; on SQLite a lock on a file beside the database. The kernel and the server
free it when a process dies.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import PermanentError
from ..models.audit import PARTS, AuditEvent, SentEvent
from ..policy.audit_leaf import SALT_BYTES, canonical_json, encode_leaf, to_time
from ..policy.merkle import leaf_hash, root_of
from ..policy.tile_tree import TileTree, count_hashes
from ..policy.tiles import TILE_WIDTH, MissingTileError, Tile, TileHashes
from . import audit_tables as tables
from .audit_index import read_mark, write_index
from .audit_migration import upgrade
from .audit_reading import from_microseconds, to_microseconds
from .audit_statements import Statements
from .database import DatabaseError, kind_of

OWN_EMITTER: Final = "audit"
_LOCK_S: Final = 3.0  # on PostgreSQL: what we closed ourselves may hold it for a moment
_LOCK_KEY: Final = 0x636F6C61  # of our own, on PostgreSQL; the second key is the schema
_BUSY_MS: Final = 5000
_CACHE_KIB: Final = 65_536  # the indexes' ends of some thousand teams stay in memory
_SALTS_BYTES: Final = SALT_BYTES * len(PARTS)
INDEXED_AT_ONCE: Final = 20_000  # events, where the mark lies far back
_ROWS_AT_ONCE: Final = 1000
_RAW_ERRORS: Final = (sqlite3.Error,)  # of what goes past SQLAlchemy
_TAKEN: Final = (
    "Another process writes this audit log already, and only one may. Stop it, or give this one a "
    "database of its own."
)

T = TypeVar("T")
EmitterKey = tuple[str, str]
"""An emitter and the incarnation of its spool."""


@dataclass
class Known:
    """What is on disk: the tree's end, the last moment, what each emitter sent last.

    `indexed`: up to which event searches go along tables. `behind`: emitters that sent since.
    """

    tree: TileTree = field(default_factory=TileTree)
    stored_us: int = 0
    last_sent: dict[EmitterKey, int] = field(default_factory=dict)
    own_incarnation: str = ""
    indexed: int = 0
    behind: set[EmitterKey] = field(default_factory=set)


class Transaction:
    """What one transaction adds. Nothing of it is known outside until it is committed."""

    def __init__(
        self,
        connection: Connection,
        statements: Statements,
        known: Known,
        now: datetime,
        draw: Callable[[int], bytes],
    ) -> None:
        self.connection = connection
        self.tree = known.tree.copy()
        self.clears_journal = False  # what it deletes must not be left in SQLite's journal
        self._statements, self._known, self._draw = statements, known, draw
        self._stored_us = max(to_microseconds(now), known.stored_us)
        self.stored_at = from_microseconds(self._stored_us)
        self.size = known.tree.size
        self._last_sent: dict[EmitterKey, int] = {}
        self._indexed = known.indexed
        self._added: list[tuple[EmitterKey, SentEvent]] = []

    def last_sent(self, key: EmitterKey) -> int:
        """The newest of an emitter's numbers in the log; 0 for none."""
        found = self._last_sent.get(key)
        return self._known.last_sent.get(key, 0) if found is None else found

    def add(self, key: EmitterKey, sent: SentEvent) -> int:
        """Give an event its place. Returns it."""
        self._added.append((key, sent))
        self._last_sent[key] = sent.sequence
        self.size += 1
        return self.size

    def add_own(self, event: AuditEvent) -> int:
        """Give an event of the service itself its place."""
        key = (OWN_EMITTER, self._known.own_incarnation)
        number = self.last_sent(key) + 1
        return self.add(key, SentEvent.model_construct(sequence=number, late=False, event=event))

    def flush(self) -> None:
        """Write what was added."""
        if not self._added:
            return
        rows, hashes = self._encode()
        tiles = [(tile.level, tile.number, full) for tile, full in self.tree.extend(hashes)]
        self._statements.insert_events(self.connection, rows)
        self._statements.insert_tiles(self.connection, tiles)
        self._added = []

    def _encode(self) -> tuple[list[tuple[Any, ...]], list[bytes]]:
        """Rows and hashes of leaves of what was added."""
        stored, stored_us = to_time(self.stored_at), self._stored_us
        salts = self._draw(_SALTS_BYTES * len(self._added))
        sequence, at = self.tree.size, 0
        rows, hashes = [], []
        for (emitter, incarnation), sent in self._added:
            event = sent.event
            sequence += 1
            body, people = encode_leaf(
                event,
                salts[at : at + _SALTS_BYTES],
                sequence,
                stored,
                emitter,
                incarnation,
                sent.sequence,
                sent.late,
            )
            at += _SALTS_BYTES
            hashes.append(leaf_hash(body))
            verb, outcome = event.verb._value_, event.outcome._value_
            text = body.decode()
            rows.append(
                (sequence, stored_us, event.contest, event.team, verb, outcome, text, people)
            )
        return rows, hashes

    def write_index(self, most: int | None = None) -> None:
        """Write what follows from events, of the next `most` or of all."""
        self.flush()
        start, end = self._indexed, self.size
        upto = end if most is None else min(end, start + most)
        if upto == start:
            return
        if not write_index(self.connection, start, upto):
            raise _changed("searches go along tables up to another event than it wrote them")
        self._indexed = upto
        # Of all, also if not all events have rows yet: a larger number takes nothing back.
        behind = {key: self.last_sent(key) for key in (*self._known.behind, *self._last_sent)}
        rows = [(*key, last) for key, last in behind.items()]
        self._statements.put_emitters(self.connection, rows)

    def keep(self) -> Known:
        """It is committed: what is known from now on."""
        known = self._known
        known.last_sent.update(self._last_sent)
        known.behind.update(self._last_sent)
        if self._indexed == self.tree.size:
            known.behind.clear()
        return Known(
            self.tree,
            self._stored_us,
            known.last_sent,
            known.own_incarnation,
            self._indexed,
            known.behind,
        )


class Writer:
    """The connection that writes, for one thread at a time.

    Parameters
    ----------
    now
        Aware UTC clock; stored times never go back with it.
    draw
        Random bytes, as many as asked.
    """

    def __init__(
        self, engine: Engine, *, now: Callable[[], datetime], draw: Callable[[int], bytes]
    ) -> None:
        self._engine, self._now, self._draw = engine, now, draw
        self._connection: Connection | None = None
        self._lock_file: int | None = None
        self.has_journal_to_clear = self._is_upgraded = False
        self._statements = Statements(engine.dialect)
        self._is_sqlite = engine.dialect.name == "sqlite"
        self.known = Known()

    def open(self) -> None:
        """Take the lock, make the tables, read what is known.

        Raises
        ------
        PermanentError
            Another process writes this log; or the log is not what it was.
        DatabaseError
            The database does not answer.
        """
        try:
            self._ready()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._give_up()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    @property
    def is_ready(self) -> bool:
        """It has its connection."""
        return self._connection is not None

    @property
    def unindexed(self) -> int:
        """How many events searches go along no table to."""
        return self.known.tree.size - self.known.indexed

    def write_index(self, most: int | None = None) -> None:
        """Write what follows from events, of the next `most` or of all. Raises DatabaseError.

        What fails is undone, and the connection stays, unless that is what failed.
        """
        self.run(lambda transaction: transaction.write_index(most), can_undo=True)

    def run(self, work: Callable[[Transaction], T], *, can_undo: bool = False) -> T:
        """What `work` returns, once all it added is on disk.

        Parameters
        ----------
        can_undo
            It adds no event: if it fails before the commit, what is known is right as it is.

        Raises
        ------
        DatabaseError
            Nothing was added, or nobody knows; what is known will be read anew.
        """
        try:
            connection, transaction, result = self._begin(work, can_undo=can_undo)
        except PermanentError as e:
            # Another took the lock, or the log was changed, since this process opened it.
            raise DatabaseError(str(e)) from e
        try:
            connection.commit()
        except SQLAlchemyError as e:
            self._give_up()
            raise DatabaseError(f"The audit log cannot be written ({kind_of(e)}).") from e
        self.known = transaction.keep()
        self.has_journal_to_clear |= transaction.clears_journal and self._is_sqlite
        if self.has_journal_to_clear:
            self.has_journal_to_clear = not self._clear_journal(connection)
        return result

    def _begin(
        self, work: Callable[[Transaction], T], *, can_undo: bool
    ) -> tuple[Connection, Transaction, T]:
        """Do the work, up to the commit. Twice if the connection died while nobody used it."""
        for is_last in (False, True):
            connection = self._ready()
            try:
                transaction = Transaction(
                    connection, self._statements, self.known, self._now(), self._draw
                )
                result = work(transaction)
                transaction.flush()
            except SQLAlchemyError as e:
                is_lost = isinstance(e, DBAPIError) and e.connection_invalidated
                if is_lost or not can_undo or not self._undo(connection):
                    self._give_up()
                if is_lost and not is_last:
                    continue
                raise DatabaseError(f"The audit log cannot be written ({kind_of(e)}).") from e
            except BaseException:
                self._give_up()
                raise
            return connection, transaction, result
        raise AssertionError("the second time ends it")

    def _undo(self, connection: Connection) -> bool:
        try:
            connection.rollback()
        except SQLAlchemyError:
            return False
        return True

    def _clear_journal(self, connection: Connection) -> bool:
        """Write SQLite's journal into the database and cut it to nothing. False: one reads it."""
        try:
            _execute(connection, "PRAGMA busy_timeout=0")  # readers are not waited for here
            is_busy, *_ = _execute(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            _execute(connection, f"PRAGMA busy_timeout={_BUSY_MS}")
        except _RAW_ERRORS:
            self._give_up()
            return False
        return not is_busy

    def _ready(self) -> Connection:
        """The connection, locked, and all that is known. Raises as `open` does."""
        if self._connection is not None:
            return self._connection
        try:
            self._lock_file_beside()
            connection = self._engine.connect()
            self._connection = connection
            connection.detach()  # closing it really closes it, and so frees the lock
            self._prepare(connection)
            if not self._is_upgraded:
                upgrade(connection)
                self._is_upgraded = True
            with connection.begin():
                self.known = _load(connection, self._draw)
        except SQLAlchemyError as e:
            self._give_up()
            raise DatabaseError(f"The audit log cannot be opened ({kind_of(e)}).") from e
        except _RAW_ERRORS as e:
            self._give_up()
            raise DatabaseError(f"The audit log cannot be opened ({type(e).__name__}).") from e
        except BaseException:
            self._give_up()
            raise
        return connection

    def _give_up(self) -> None:
        """Close the connection: what it was doing is undone, or was done."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, *_RAW_ERRORS):
                connection.close()

    def _lock_file_beside(self) -> None:
        """SQLite: nobody else writes while this process has the file beside the database."""
        if not self._is_sqlite or self._lock_file is not None:
            return
        path = self._engine.url.database
        if not path or path == ":memory:" or path.startswith("file:"):
            raise PermanentError(
                "The audit log needs a database in a file: give its path after sqlite:///."
            )
        try:
            lock_file = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise DatabaseError(f"The audit log cannot be locked: {e.strerror}.") from e
        try:
            fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(lock_file)
            if e.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise DatabaseError(f"The audit log cannot be locked: {e.strerror}.") from e
            raise PermanentError(_TAKEN) from None
        self._lock_file = lock_file

    def _prepare(self, connection: Connection) -> None:
        """Durable commits; on PostgreSQL the lock."""
        if self._is_sqlite:
            mode = _execute(connection, "PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise PermanentError(
                    f"SQLite keeps a journal of the kind {mode} here and not a WAL: put the audit "
                    "log on a local disk."
                )
            _execute(connection, "PRAGMA synchronous=FULL")
            _execute(connection, f"PRAGMA cache_size=-{_CACHE_KIB}")
            _execute(connection, "PRAGMA secure_delete=ON")
            _execute(connection, f"PRAGMA busy_timeout={_BUSY_MS}")
            return
        with connection.begin():
            schema = func.hashtext(func.current_schema())
            lock = select(func.pg_try_advisory_lock(_LOCK_KEY, schema))
            # The server lets go of a connection, and its lock, some time after it was closed.
            end = time.monotonic() + _LOCK_S
            while not connection.execute(lock).scalar():
                if time.monotonic() > end:
                    raise PermanentError(_TAKEN)
                time.sleep(0.05)
            if connection.execute(text("SHOW synchronous_commit")).scalar() == "off":
                connection.execute(text("SET synchronous_commit = on"))


def _load(connection: Connection, draw: Callable[[int], bytes]) -> Known:
    """What is on disk. Raises PermanentError if it does not fit the newest checkpoint."""
    last = connection.execute(
        select(tables.events.c.sequence, tables.events.c.stored_us)
        .order_by(tables.events.c.sequence.desc())
        .limit(1)
    ).first()
    size, stored_us = (0, 0) if last is None else (last[0], last[1])
    tree = TileTree(size, _load_unfinished(connection, size))
    _check(connection, tree)
    indexed = read_mark(connection)
    if indexed is None or not 0 <= indexed <= size:
        raise _changed("up to which event searches go along tables is not to be told")
    last_sent, behind = _load_emitters(connection, indexed)
    own = [incarnation for emitter, incarnation in last_sent if emitter == OWN_EMITTER]
    incarnation = own[0] if own else draw(16).hex()
    return Known(tree, stored_us, last_sent, incarnation, indexed, behind)


def _load_emitters(
    connection: Connection, indexed: int
) -> tuple[dict[EmitterKey, int], set[EmitterKey]]:
    """What each emitter sent last, and which have sent since the mark."""
    known = connection.execute(select(tables.emitters)).all()
    last_sent = {(row.emitter, row.incarnation): row.last_number for row in known}
    behind = set()
    columns = tables.events.c
    newer = select(columns.body).where(columns.sequence > indexed).order_by(columns.sequence)
    with connection.execute(newer.execution_options(yield_per=_ROWS_AT_ONCE)) as rows:
        for (body,) in rows:
            try:
                event = json.loads(body)
                key = event["emitter"], event["incarnation"]
                last_sent[key] = max(last_sent.get(key, 0), event["emitterSequence"])
            except (KeyError, TypeError, ValueError) as e:
                raise _changed("one of its newest events cannot be read") from e
            behind.add(key)
    return last_sent, behind


def _load_unfinished(connection: Connection, size: int) -> list[list[bytes]]:
    """Hashes of each level's last tile: of the events themselves, above of the full tiles below."""
    first = size - size % TILE_WIDTH
    columns = tables.events.c
    last = select(columns.body).where(columns.sequence > first).order_by(columns.sequence)
    found = [[leaf_hash(body.encode()) for body in connection.execute(last).scalars()]]
    level = 1
    while count_hashes(size, level):
        count = count_hashes(size, level)
        below = range(count - count % TILE_WIDTH, count)
        found.append([])
        for number in below:
            hashes = load_tile(connection, level - 1, number)
            if hashes is None:
                raise _changed(f"tile {number} of level {level - 1} is missing")
            found[-1].append(root_of(Tile(level - 1, number).split(hashes)))
        level += 1
    if len(found[0]) != size - first:
        raise _changed(f"of the events {first + 1} to {size} some are missing")
    return found


def _check(connection: Connection, tree: TileTree) -> None:
    """That the newest checkpoint's head is still the one of that many events."""
    newest = select(tables.checkpoints).order_by(tables.checkpoints.c.size.desc()).limit(1)
    row = connection.execute(newest).first()
    if row is None:
        return
    size, head = _read_head(row.note)
    if size != row.size or size > tree.size:
        raise _changed(f"its newest checkpoint is of {size} events, and there are {tree.size}")
    try:
        hashes = TileHashes(
            size, lambda tile: tree.fetch(tile, partial(load_tile, connection))
        ).frontier()
    except MissingTileError as e:
        raise _changed(str(e)) from e
    if hashes.root() != head:
        raise _changed(f"its first {size} events do not have the head that was signed")


def _read_head(note: str) -> tuple[int, bytes]:
    """Size and head of a checkpoint. Whoever holds the public key can check the signature."""
    try:
        _, size, head = note.split("\n")[:3]
        return int(size), base64.b64decode(head, validate=True)
    except ValueError as e:
        raise _changed("its newest checkpoint cannot be read") from e


def _changed(what: str) -> PermanentError:
    return PermanentError(
        f"The audit log was changed from outside: {what}. Nothing is added to it. Look at it with "
        "`jupyterhub-collab audit verify`; then put back a copy of the database."
    )


def load_tile(connection: Connection, level: int, number: int) -> bytes | None:
    """A full tile; None if it is not there."""
    columns = tables.tiles.c
    wanted = select(columns.hashes).where(columns.level == level, columns.number == number)
    found = connection.execute(wanted).scalar()
    return None if found is None else bytes(found)


def to_text(people: Mapping[str, Mapping[str, Any]]) -> str:
    """As the column `people` has it."""
    return canonical_json(people).decode() if people else ""


def _execute(connection: Connection, statement: str) -> Any:
    """Past SQLAlchemy, which would begin a transaction; SQLite takes these outside of one."""
    driver: Any = connection.connection.dbapi_connection  # also of one that is detached
    return driver.execute(statement)
