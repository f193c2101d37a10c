"""Checking a block of the audit log's events by itself: all that needs no other block.

Blocks can be checked in several processes. What they report is small and is put together, in the
order of the log, by `audit_verify`: hashes of leaves, runs of each emitter's count, people whose
values are gone, and the service's own events that may explain that.

It must not: read events, or know of heads held elsewhere.
"""

from __future__ import annotations

import re
from array import array
from binascii import Error, hexlify, unhexlify
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final, NamedTuple

from ..models.audit import PARTS, Verb
from .audit_bundle import BundleError, read_json
from .audit_finding import Findings, Kind
from .audit_form import Facts, read_forms
from .audit_index import SearchIndex
from .audit_leaf import COMMITMENT_DOMAIN, SALT_BYTES, canonical_json, is_committed
from .merkle import HASH_BYTES, fold
from .tiles import TILE_WIDTH

BLOCK_EVENTS: Final = 4 * TILE_WIDTH  # a few MB when all events are as large as they may be
PART_NUMBERS: Final = {part: number for number, part in enumerate(PARTS)}
PARTS_SHIFT: Final = 2  # bits that a part's number takes

_MARKS: Final = frozenset(
    verb.value.encode() for verb in (Verb.AUDIT_ERASE, Verb.AUDIT_RETIRE, Verb.AUDIT_GAP)
)
_NO_HASH: Final = bytes(HASH_BYTES)
_SALT: Final = re.compile(f"[0-9a-f]{{{2 * SALT_BYTES}}}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Nearly all events have one person, the subject: its salt and value are taken by their places.
_COMMITTED: Final = b'{"subject":"'
_KEPT, _VALUE, _END = b'{"subject":{"salt":"', b'","value":', b"}}"
_COMMITTED_AT: Final = slice(len(_COMMITTED), len(_COMMITTED) + 64)
_COMMITTED_BYTES: Final = len(_COMMITTED) + 64 + 2
_SALT_AT: Final = slice(len(_KEPT), len(_KEPT) + 2 * SALT_BYTES)
_VALUE_FROM: Final = len(_KEPT) + 2 * SALT_BYTES + len(_VALUE)
_NAME: Final = re.compile(rb'"name":"([^"\\]+)"')  # in a text without escapes


class Row(NamedTuple):
    """An event as it is kept. Texts are UTF-8.

    Attributes
    ----------
    body, people
        None: longer than an event can be.
    stored_us, contest, team, verb, outcome
        Columns to search by, as they are kept beside the event; empty for none.
    """

    sequence: int
    body: bytes | None
    people: bytes | None
    stored_us: Any = 0
    contest: bytes = b""
    team: bytes = b""
    verb: bytes = b""
    outcome: bytes = b""


class Run(NamedTuple):
    """Events of one spool of an emitter, by its own count, without a gap.

    `at` is the sequence of the first of them in the log.
    """

    emitter: bytes
    incarnation: bytes
    first: int
    last: int
    at: int


@dataclass
class BlockReport:
    """What one block has.

    Attributes
    ----------
    first, count
        Places that it covers.
    leaves
        Hashes of leaves, one after the other; zeros where an event is missing.
    holes
        Sequences that are missing.
    runs
        Of emitters' counts, in the order of the log.
    absent
        Parts of people without a value: ``sequence << PARTS_SHIFT | part``, rising.
    marks
        Own events of the service about erasures, retirements and gaps: sequence, facts.
    stored
        Times of the first and the last event; empty without events.
    """

    first: int
    count: int
    leaves: bytes = b""
    heads: list[bytes] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    absent: array[int] = field(default_factory=lambda: array("Q"))
    marks: list[tuple[int, Facts]] = field(default_factory=list)
    stored: tuple[bytes, bytes] | None = None
    people: int = 0
    findings: Findings = field(default_factory=Findings)


def check_block(
    rows: Sequence[Row], first: int, count: int, index: SearchIndex | None = None
) -> BlockReport:
    """Check events `first` to `first` + `count` - 1.

    Parameters
    ----------
    rows
        By rising sequence, all within these places.
    index
        Collects what searches should find. None: there is nothing to search in.
    """
    report = BlockReport(first, count)
    kept: Any = [row for row in rows if row[1] is not None and row[2] is not None]
    for row in rows:
        if row[1] is None or row[2] is None:
            report.findings.add(Kind.FORM, row[0], f"Event {row[0]} is longer than any can be.")
    sequences = [row[0] for row in kept]
    bodies = [row[1] for row in kept]
    _hash_leaves(report, sequences, bodies)
    facts, errors = read_forms(bodies)
    if errors:
        for at, error in errors.items():
            report.findings.add(
                Kind.FORM, sequences[at], f"Event {sequences[at]} is not the text of one: {error}."
            )
        kept = [row for at, row in enumerate(kept) if at not in errors]
        sequences = [row[0] for row in kept]
        facts = [found for at, found in enumerate(facts) if at not in errors]
    if kept:
        _check_facts(report, kept, sequences, facts, index)
    return report


def _hash_leaves(report: BlockReport, sequences: list[int], bodies: list[bytes]) -> None:
    leaves = [sha256(b"\x00" + body).digest() for body in bodies]
    first, count = report.first, report.count
    if len(leaves) != count:
        there = dict(zip(sequences, leaves, strict=True))
        places = range(first, first + count)
        report.holes = [sequence for sequence in places if sequence not in there]
        leaves = [there.get(sequence, _NO_HASH) for sequence in places]
    report.leaves = b"".join(leaves)
    if report.holes or (first - 1) % TILE_WIDTH:
        return
    for at in range(0, count - TILE_WIDTH + 1, TILE_WIDTH):
        report.heads.append(fold(leaves[at : at + TILE_WIDTH]))


def _check_facts(
    report: BlockReport,
    rows: list[Row],
    sequences: list[int],
    facts: list[Facts],
    index: SearchIndex | None,
) -> None:
    columns: Any = Facts._make(zip(*facts, strict=True))  # each a tuple of all
    told = list(map(int, columns.sequence))
    if told != sequences:
        for sequence, said in zip(sequences, told, strict=True):
            if sequence != said:
                report.findings.add(
                    Kind.REORDERED, sequence, f"At the place of event {sequence} stands {said}."
                )
    _check_times(report, sequences, columns.stored)
    _count_emitters(report, sequences, columns)
    if not _MARKS.isdisjoint(columns.verb):
        found = zip(sequences, facts, strict=True)
        report.marks = [(at, Facts(*fact)) for at, fact in found if fact[-1] in _MARKS]
    for row, committed in zip(rows, columns.people, strict=True):
        text = row[2]
        if committed or text:
            _check_people(report, row[0], committed, text or b"", index)
    if index is not None:
        _check_columns(report, rows, columns)
        if any(columns.datasets):
            for row, fact in zip(rows, facts, strict=True):
                if fact[1]:
                    index.add_datasets(row[0], fact[0], fact[1])


_seconds: dict[bytes, int] = {}


def to_microseconds(time: bytes) -> int:
    """Of ``2027-03-01T10:00:00.123456Z``, since 1970. Raises ValueError for no such moment."""
    second = time[:20]
    whole = _seconds.get(second)
    if whole is None:
        at = datetime.fromisoformat(second[:19].decode()).replace(tzinfo=timezone.utc)
        if len(_seconds) > 10_000:
            _seconds.clear()
        whole = _seconds[second] = (at - _EPOCH) // _MICROSECOND
    return whole + int(time[20:26])


_MICROSECOND: Final = datetime.resolution


def _check_times(report: BlockReport, sequences: list[int], stored: Sequence[bytes]) -> None:
    report.stored = (stored[0], stored[-1])
    if all(before <= after for before, after in pairwise(stored)):
        return
    for sequence, (before, after) in zip(sequences[1:], pairwise(stored), strict=True):
        if after < before:
            report.findings.add(
                Kind.TIME, sequence, f"Event {sequence} was stored before the one before it."
            )


def _count_emitters(report: BlockReport, sequences: list[int], columns: Any) -> None:
    """Runs of each spool's own count."""
    last: dict[tuple[bytes, bytes], list[Any]] = {}
    spools = zip(columns.emitter, columns.incarnation, strict=True)
    numbers = map(int, columns.emitter_sequence)
    runs = []
    for sequence, spool, number in zip(sequences, spools, numbers, strict=True):
        run = last.get(spool)
        if run is not None and number == run[3] + 1:
            run[3] = number
        else:
            last[spool] = run = [*spool, number, number, sequence]
            runs.append(run)
    report.runs = [Run(*run) for run in runs]


def _check_columns(report: BlockReport, rows: list[Row], columns: Any) -> None:
    kept: Any = Row._make(zip(*rows, strict=True))
    try:
        stored = tuple(map(to_microseconds, columns.stored))
    except ValueError:
        stored = ()
    wanted = (stored, columns.contest, columns.team, columns.verb, columns.outcome)
    if wanted == kept[3:]:
        return
    for at, row in enumerate(rows):
        try:
            moment = to_microseconds(columns.stored[at])
        except ValueError:
            report.findings.add(Kind.TIME, row[0], f"Event {row[0]} has a time that is none.")
            continue
        right = (moment, *(column[at] for column in wanted[1:]))
        names = ("time", "contest", "team", "verb", "outcome")
        wrong = [n for n, said, is_in in zip(names, row[3:], right, strict=True) if said != is_in]
        if wrong:
            report.findings.add(
                Kind.INDEX,
                row[0],
                f"Event {row[0]} is hidden from searches: the database has it under another"
                f" {' and '.join(wrong)} than the event says.",
            )


def _check_people(
    report: BlockReport, sequence: int, committed: bytes, text: bytes, index: SearchIndex | None
) -> None:
    """The value of each part against its commitment."""
    if (
        len(committed) == _COMMITTED_BYTES
        and text.startswith(_KEPT)
        and text[_SALT_AT.stop : _VALUE_FROM] == _VALUE
        and committed.startswith(_COMMITTED)
        and text.endswith(_END)
        and b"\\" not in text
    ):
        salt = text[_SALT_AT]
        try:
            kept = COMMITMENT_DOMAIN + unhexlify(salt) + text[_VALUE_FROM:-2]
        except (Error, ValueError):
            kept = b""
        is_lower = not salt.isupper() and salt == salt.lower()
        if is_lower and hexlify(sha256(kept).digest()) == committed[_COMMITTED_AT]:
            report.people += 1
            name = _NAME.search(text, _VALUE_FROM)
            if name is not None and index is not None:
                index.add_name(sequence, name[1])
            return
    _check_people_slowly(report, sequence, committed, text, index)


def _check_people_slowly(
    report: BlockReport, sequence: int, committed: bytes, text: bytes, index: SearchIndex | None
) -> None:
    def tell(words: str) -> None:
        report.findings.add(Kind.PERSON, sequence, f"Event {sequence}: {words}")

    commitments = read_json(committed) if committed else {}
    try:
        people = read_json(text) if text else {}
        is_canonical = not text or canonical_json(people) == text
    except (BundleError, ValueError):
        tell("who is kept beside it cannot be read.")
        return
    if not is_canonical:
        tell("who is kept beside it is not in the form that the log writes.")
    names = set()
    for part, kept in people.items():
        if part not in commitments:
            tell("somebody is kept beside it in a part that it does not name.")
        elif not _fits(commitments[part], kept):
            tell(f"who is kept as its {part} is not who was recorded.")
        else:
            report.people += 1
            value = kept["value"]
            names.add(value.get("name", "") if isinstance(value, dict) else "")
    if index is not None:
        for name in names - {""}:
            index.add_name(sequence, name.encode())
    gone = sorted(PART_NUMBERS[part] for part in commitments if part not in people)
    report.absent.extend(sequence << PARTS_SHIFT | number for number in gone)


def _fits(commitment: str, kept: Any) -> bool:
    if not isinstance(kept, dict) or set(kept) != {"salt", "value"}:
        return False
    salt = kept["salt"]
    return (
        isinstance(salt, str)
        and _SALT.fullmatch(salt) is not None
        and is_committed(commitment, kept)
    )
