"""Logs to check, made in memory, and all that an attacker may do to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from jupyterhub_collab.models.audit import AuditEvent
from jupyterhub_collab.policy.audit_block import (
    PART_NUMBERS,
    BlockReport,
    Row,
    check_block,
    to_microseconds,
)
from jupyterhub_collab.policy.audit_index import SearchIndex
from jupyterhub_collab.policy.audit_leaf import SALT_BYTES, Origin, canonical_json, make_leaf
from jupyterhub_collab.policy.audit_lines import Lines, check_lines
from jupyterhub_collab.policy.audit_verify import Evidence, LogCheck, LogShape, Note, Verdict
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from jupyterhub_collab.policy.tile_tree import TileTree
from jupyterhub_collab.policy.tiles import Tile

START = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
SPOOL, OTHER_SPOOL, OWN_SPOOL = "a" * 32, "b" * 32, "c" * 32
SIGNER = LogSigner.generate("collab.example.org/audit")
VERBS = ("login", "server.start", "dataset.read", "token.create", "impersonate", "egress.connect")


def make_event(number: int, **more: Any) -> AuditEvent:
    """One of many kinds; every seventh without anybody, some with text that JSON escapes."""
    verb = VERBS[number % len(VERBS)]
    event: dict[str, Any] = {
        "time": START + timedelta(milliseconds=number),
        "verb": verb,
        "outcome": ("succeeded", "refused", "allowed")[number % 3],
    }
    if number % 2:
        event |= {"contest": "sea", "team": f"team-{number % 40}", "thing": f"srv-{number}"}
    if number % 3 == 0:
        event["datasets"] = ("tides", "winds")[: 1 + number % 2]
    if number % 5 == 0:
        event["details"] = {"image": "registry/basic@sha256:ab", "count": number, "gpu": False}
    if number % 25 == 0:
        event["details"] = {"words": ("a", "b"), "quoted": f'say "{number}" \\ ü'}
    if number % 11 == 0:
        event["reason"] = "gate-closed"
    if number % 7:
        event["subject"] = {"name": f"user-{number % 30}", "roles": [f"member {number % 40}"]}
    if verb == "impersonate":
        event["actor"] = {"name": "admin", "note": f"asked by Zoë {number}"}
    return AuditEvent.model_validate({**event, **more})


def draw(number: int) -> bytes:
    """Salts: not random, so that a failure can be repeated."""
    return hashlib.sha512(b"%d" % number).digest()[: 3 * SALT_BYTES]


def to_row(sequence: int, body: bytes, people: Any) -> Row:
    """A row as the database keeps it, with columns that fit the body."""
    said = json.loads(body)
    return Row(
        sequence,
        body,
        canonical_json(people) if people else b"",
        to_microseconds(said["stored"].encode()),
        said.get("contest", "").encode(),
        said.get("team", "").encode(),
        said["verb"].encode(),
        said["outcome"].encode(),
    )


def make_row(sequence: int, event: AuditEvent, **origin: Any) -> Row:
    """A row of an event."""
    at = START + timedelta(milliseconds=sequence // 4 * 4)
    told = {"emitter": "hub", "incarnation": SPOOL, "emitter_sequence": sequence, **origin}
    leaf = make_leaf(event, Origin(sequence, at, **told), draw(sequence))
    return to_row(sequence, leaf.body, leaf.people)


@dataclass(frozen=True)
class Log:
    """A log as an attacker has it: rows, hashes, and the notes that it keeps itself."""

    rows: Sequence[Row]
    inside: Sequence[Note]
    tiles: dict[tuple[int, int], bytes]

    def changed(self, rows: Iterable[Row]) -> Log:
        """Other rows, all else as it was."""
        return replace(self, rows=list(rows))


def hashes_of(rows: Iterable[Row]) -> list[bytes]:
    return [leaf_hash(row.body or b"") for row in rows]


def full_tiles(leaves: Iterable[bytes]) -> dict[tuple[int, int], bytes]:
    """Full tiles of a tree."""
    tree = TileTree()
    full = [pair for leaf in leaves for pair in tree.append(leaf)]
    return {(tile.level, tile.number): data for tile, data in full}


def fetch_of(leaves: Sequence[bytes]) -> Callable[[Tile], bytes | None]:
    """Tiles of any width, as a folder outside has them."""
    tree = TileTree()
    full = {(tile.level, tile.number): data for leaf in leaves for tile, data in tree.append(leaf)}
    return lambda tile: tree.fetch(tile, lambda level, number: full.get((level, number)))


def sign(leaves: Sequence[bytes], size: int, place: str, signer: LogSigner = SIGNER) -> Note:
    at = START + timedelta(seconds=size)
    return Note(f"{place}/{size}", signer.sign(size, root_of(leaves[:size]), at))


def make_log(rows: Sequence[Row], sizes: Iterable[int] = (), signer: LogSigner = SIGNER) -> Log:
    """A log with hashes and notes that fit its rows."""
    leaves = hashes_of(rows)
    notes = [sign(leaves, size, "inside", signer) for size in sizes]
    return Log(rows, notes, full_tiles(leaves))


def to_lines(rows: Sequence[Row], count: int) -> Lines | None:
    """As a database gives them; None where it gives only rows."""
    columns = list(zip(*rows, strict=True))
    if len(rows) != count or None in (*columns[1], *columns[2]):
        return None

    def text(value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value or "").encode()

    assert Row._fields == Lines._fields
    return Lines._make(b"\n".join(map(text, column)) for column in columns)


def check_rows(
    rows: Sequence[Row], first: int, count: int, index: SearchIndex | None = None
) -> BlockReport:
    """Check a block in both ways; the quick one, if it answers, says what the other one says."""
    index = SearchIndex() if index is None else index
    report = check_block(rows, first, count, index)
    lines, other = to_lines(rows, count), SearchIndex()
    quick = None if lines is None else check_lines(lines, first, count, other)
    if quick is None:
        assert not other.names
        return report
    assert not report.findings
    assert not quick.findings
    assert replace(quick, findings=report.findings) == report
    assert (other.names, other.datasets) == (index.names, index.datasets)
    return quick


class Checker:
    """Checks logs that share most of their rows; blocks that it saw are not checked again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[Any, ...], tuple[BlockReport, SearchIndex]] = {}

    def remember(self, log: Log, step: int = 256) -> None:
        """Blocks of the log that all others are made of."""
        for first, count, rows in _blocks(log.rows, step):
            index = SearchIndex()
            self._seen[(first, count, *rows)] = (check_rows(rows, first, count, index), index)

    def check(
        self, log: Log, evidence: Evidence, step: int = 256, *, keeps_hashes: bool = True
    ) -> Verdict:
        rows = log.rows
        there = {row.sequence: row for row in rows}

        def leaf_hashes(start: int, end: int) -> list[bytes]:
            found = (there.get(sequence) for sequence in range(start + 1, end + 1))
            return [leaf_hash(row.body) for row in found if row is not None and row.body]

        shape = LogShape(
            first=rows[0].sequence if rows else 1,
            last=rows[-1].sequence if rows else 0,
            inside=log.inside,
            full_tile=(lambda level, number: log.tiles.get((level, number)))
            if keeps_hashes
            else None,
            leaf_hashes=leaf_hashes if keeps_hashes else None,
        )
        check = LogCheck(shape, evidence)
        for first, count, some in _blocks(rows, step):
            seen = self._seen.get((first, count, *some))
            check.add(seen[0] if seen else check_rows(some, first, count))
        return check.finish()


def _blocks(rows: Sequence[Row], step: int) -> Iterable[tuple[int, int, list[Row]]]:
    if not rows:
        return
    start = rows[0].sequence - (rows[0].sequence - 1) % 256
    last = rows[-1].sequence
    there: dict[int, list[Row]] = {}
    for row in rows:
        there.setdefault((row.sequence - start) // step, []).append(row)
    for number, at in enumerate(range(start, last + 1, step)):
        yield at, min(step, last + 1 - at), there.get(number, [])


def check(log: Log, outside: Sequence[Note] = (), tiles: Sequence[Any] = ()) -> Verdict:
    """Check a log as a whole, columns and all."""
    return Checker().check(log, Evidence(SIGNER.verifier, outside, tiles), 1024)


def edit_body(row: Row, **changes: Any) -> Row:
    """A row whose body says something else, canonical again; columns fit."""
    body = json.loads(row.body or b"")
    for key, value in changes.items():
        if value is None:
            body.pop(key, None)
        else:
            body[key] = value
    people = json.loads(row.people) if row.people else {}
    return to_row(row.sequence, canonical_json(body), people)


def renumber(row: Row, sequence: int) -> Row:
    """A row at another place that says so itself."""
    return edit_body(row, sequence=sequence)._replace(sequence=sequence)


def without(row: Row, part: str) -> Row:
    """A row from which somebody was erased."""
    people = json.loads(row.people or b"{}")
    people.pop(part, None)
    return row._replace(people=canonical_json(people) if people else b"")


def parts_of(row: Row) -> list[str]:
    return [part for part in PART_NUMBERS if part in json.loads(row.people or b"{}")]
