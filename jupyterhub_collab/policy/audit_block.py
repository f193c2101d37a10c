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

from pydantic_core import from_json, to_json

from ..models.audit import PARTS, Verb
from .audit_bundle import BundleError, read_json
from .audit_finding import Findings, Kind
from .audit_form import Facts, read_forms
from .audit_index import SearchIndex
from .audit_leaf import COMMITMENT_DOMAIN, SALT_BYTES, canonical_json, is_committed
from .merkle import HASH_BYTES, fold, leaf_hashes
from .tiles import TILE_WIDTH

BLOCK_EVENTS: Final = 4 * TILE_WIDTH  # a few MB when all events are as large as they may be
PART_NUMBERS: Final = {part: number for number, part in enumerate(PARTS)}
PARTS_SHIFT: Final = 2  # bits that a part's number takes

MARKS: Final = frozenset(
    verb.value.encode() for verb in (Verb.AUDIT_ERASE, Verb.AUDIT_RETIRE, Verb.AUDIT_GAP)
)
_NO_HASH: Final = bytes(HASH_BYTES)
_SALT: Final = re.compile(f"[0-9a-f]{{{2 * SALT_BYTES}}}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

# Nearly all events have one person, the subject: salt and value are taken by their places, which
# are written as numbers below, because this is where a check spends its time.
_COMMITTED_BYTES: Final = len(b'{"subject":""}') + 64
_KEPT, _VALUE, _END = b'{"subject":{"salt":"', b'","value":', b"}}"
_QUOTE: Final = ord('"')
_NAME: Final = b'"name":"'  # stands so in no string of a text without escapes


class Row(NamedTuple):
    """An event as it is kept. Texts are UTF-8.

    Attributes
    ----------
    body, people
        None: longer than an event can be.
    stored_us, contest, team, verb, outcome
        Columns to search by, as they are kept beside the event; empty or None for none.
    """

    sequence: int
    body: bytes | None
    people: bytes | None
    stored_us: Any = 0
    contest: bytes | None = b""
    team: bytes | None = b""
    verb: bytes | None = b""
    outcome: bytes | None = b""


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
    hash_leaves(report, sequences, bodies)
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


def hash_leaves(report: BlockReport, sequences: Sequence[int], bodies: Sequence[bytes]) -> None:
    """Tell the hashes of events that are there, and which are not."""
    leaves = leaf_hashes(bodies)
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
    count_emitters(report, sequences, columns)
    if not MARKS.isdisjoint(columns.verb):
        found = zip(sequences, facts, strict=True)
        report.marks = [(at, Facts(*fact)) for at, fact in found if fact[-1] in MARKS]
    _check_people(report, rows, columns.people, index)
    if index is not None:
        _check_columns(report, rows, columns)
        index.add_columns([b"%d" % sequence for sequence in sequences], columns)


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


def count_emitters(report: BlockReport, sequences: Sequence[int], columns: Any) -> None:
    """Tell runs of each spool's own count; `columns` are those of `Facts`."""
    numbers = list(map(int, columns.emitter_sequence))
    first, last_number = numbers[0], numbers[-1]
    is_one = len({*columns.emitter}) == len({*columns.incarnation}) == 1
    if is_one and numbers == list(range(first, last_number + 1)):
        emitter, incarnation = columns.emitter[0], columns.incarnation[0]
        report.runs = [Run(emitter, incarnation, first, last_number, sequences[0])]
        return
    last: dict[tuple[bytes, bytes], list[Any]] = {}
    spools = zip(columns.emitter, columns.incarnation, strict=True)
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
        moments = {time: to_microseconds(time) for time in set(columns.stored)}
        stored = tuple([moments[time] for time in columns.stored])
    except ValueError:
        stored = ()
    if (
        stored == kept.stored_us
        and columns.verb == kept.verb
        and columns.outcome == kept.outcome
        and columns.contest == _without_none(kept.contest)
        and columns.team == _without_none(kept.team)
    ):
        return
    names = ("time", "contest", "team", "verb", "outcome")
    for at, row in enumerate(rows):
        try:
            moment = to_microseconds(columns.stored[at])
        except ValueError:
            report.findings.add(Kind.TIME, row[0], f"Event {row[0]} has a time that is none.")
            continue
        right = (moment, *(getattr(columns, name)[at] or None for name in names[1:]))
        found = (row[3], *(text or None for text in row[4:]))
        wrong = [n for n, said, is_in in zip(names, found, right, strict=True) if said != is_in]
        if wrong:
            report.findings.add(
                Kind.INDEX,
                row[0],
                f"Event {row[0]} is hidden from searches: the database has it under another"
                f" {' and '.join(wrong)} than the event says.",
            )


def _without_none(texts: tuple[bytes | None, ...]) -> tuple[bytes | None, ...]:
    return tuple([text or b"" for text in texts]) if None in texts else texts


def _check_people(
    report: BlockReport,
    rows: list[Row],
    commitments: Sequence[bytes],
    index: SearchIndex | None,
) -> None:
    """The value of each part against its commitment."""
    fitting = 0
    for row, committed in zip(rows, commitments, strict=True):
        text = row[2] or b""
        if not text and not committed:
            continue
        if (
            len(committed) == _COMMITTED_BYTES  # of no other part: their names are longer, shorter
            and text[:20] == _KEPT
            and text[52:62] == _VALUE
            and text[-2:] == _END
            and b"\\" not in text
            and _is_fitting(text[20:52], text[62:-2], committed[12:76])
        ):
            fitting += 1
            at = text.find(_NAME, 62) + len(_NAME)
            if index is not None and at >= len(_NAME) and text[at] != _QUOTE:
                index.add_name(row[0], text[at : text.index(b'"', at)])
        elif b"\\" in text or not _check_several(report, row[0], committed, text, index):
            _check_people_slowly(report, row[0], committed, text, index)
    report.people += fitting


def _is_fitting(salt: bytes, value: bytes, commitment: bytes) -> bool:
    """Whether a salt in hex digits and a value's text are those of a commitment."""
    try:
        raw = unhexlify(salt)
    except (Error, ValueError):
        return False
    return (
        hexlify(raw) == salt  # lower case
        and hexlify(sha256(COMMITMENT_DOMAIN + raw + value).digest()) == commitment
    )


def _check_several(
    report: BlockReport, sequence: int, committed: bytes, text: bytes, index: SearchIndex | None
) -> bool:
    """Whether several people are all kept and fit; if not, more has to be looked at."""
    try:
        people, commitments = from_json(text), from_json(committed)
    except ValueError:
        return False
    is_plain = isinstance(people, dict) and people.keys() == commitments.keys()
    if not is_plain or to_json(people) != text:
        return False
    names: set[str] = set()
    for part, kept in people.items():
        if not isinstance(kept, dict) or tuple(kept) != ("salt", "value"):
            return False
        salt, value = kept["salt"], kept["value"]
        if not isinstance(salt, str) or not isinstance(value, dict):
            return False
        if not _is_fitting(salt.encode(), to_json(value), commitments[part].encode()):
            return False
        names |= _names_in(value)
    report.people += len(people)
    if index is not None:
        for name in names:
            index.add_name(sequence, name.encode())
    return True


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
    names: set[str] = set()
    for part, kept in people.items():
        if part not in commitments:
            tell("somebody is kept beside it in a part that it does not name.")
        elif not _fits(commitments[part], kept):
            tell(f"who is kept as its {part} is not who was recorded.")
        else:
            report.people += 1
            names |= _names_in(kept["value"])
    if index is not None:
        for name in names:
            index.add_name(sequence, name.encode())
    gone = sorted(PART_NUMBERS[part] for part in commitments if part not in people)
    report.absent.extend(sequence << PARTS_SHIFT | number for number in gone)


def _names_in(value: Any) -> set[str]:
    name = value.get("name") if isinstance(value, dict) else None
    return {name} if name and isinstance(name, str) else set()


def _fits(commitment: str, kept: Any) -> bool:
    if not isinstance(kept, dict) or set(kept) != {"salt", "value"}:
        return False
    salt = kept["salt"]
    return (
        isinstance(salt, str)
        and _SALT.fullmatch(salt) is not None
        and is_committed(commitment, kept)
    )
