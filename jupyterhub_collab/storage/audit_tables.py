"""Tables of the audit log. Their names and columns are read by `audit verify` too.

An event is kept as the text that is hashed (`body`), and what is personal beside it (`people`,
JSON). All other columns and tables repeat what stands in these two, to find events by; `audit
verify` compares them, for an event that no search finds is tampering too.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    SmallInteger,
    String,
    Table,
    Text,
)

from ..models.audit import StoredEvent

# SQLite: INTEGER as primary key is the row's own number, without another index.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

VERSION_TABLE: Final = "audit_schema_version"  # the hub's own alembic has another

tables: Final = MetaData()
events: Final = Table(
    "audit_events",
    tables,
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    Column("stored_us", BigInteger, nullable=False),  # since 1970; never less than the one before
    Column("contest", String),
    Column("team", String),
    Column("verb", String, nullable=False),
    Column("outcome", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("people", Text, nullable=False),  # "" for nobody
)

# What searches go along: rows that repeat what stands in an event, written some time after it.
contests: Final = Table(
    "audit_contests",
    tables,
    Column("contest", String, primary_key=True),
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
teams: Final = Table(
    "audit_teams",
    tables,
    Column("team", String, primary_key=True),
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
# Who asks for an outcome alone asks for it with each verb: one table less to write.
verbs: Final = Table(
    "audit_verbs",
    tables,
    Column("verb", String, primary_key=True),
    Column("outcome", String, primary_key=True),
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
people: Final = Table(
    "audit_people",
    tables,
    Column("name", String, primary_key=True),
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
datasets: Final = Table(
    "audit_datasets",
    tables,
    Column("contest", String, primary_key=True),  # "" for none
    Column("dataset", String, primary_key=True),
    Column("sequence", _Sequence, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
# One row: up to which event the five tables above and the emitters are written.
indexed: Final = Table(
    "audit_indexed",
    tables,
    Column("upto", _Sequence, primary_key=True, autoincrement=False),
)
tiles: Final = Table(
    "audit_tiles",
    tables,
    Column("level", SmallInteger, primary_key=True, autoincrement=False),
    Column("number", _Sequence, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),  # 256 of 32 bytes
)
checkpoints: Final = Table(
    "audit_checkpoints",
    tables,
    Column("size", _Sequence, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
emitters: Final = Table(
    "audit_emitters",
    tables,
    Column("emitter", String, primary_key=True),
    Column("incarnation", String(32), primary_key=True),
    Column("last_number", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def to_stored(row: Row[Any, Any, Any]) -> StoredEvent:
    """Of a row's sequence, body and people."""
    sequence, body, kept = row
    return StoredEvent(sequence, body.encode(), json.loads(kept) if kept else {})
