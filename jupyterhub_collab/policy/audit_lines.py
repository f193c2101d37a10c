"""Checking a block of the audit log's events quickly, as long as all of it is as it should be.

A block comes as few long texts, a line for each event, so that most is compared once for a thousand
events. The quick way never finds fault: at whatever is unusual (also what is allowed, such as an
erased person, or a character that JSON escapes) it gives up, and `audit_block`, which looks at each
row, says what there is to say. What both accept they report alike.

It must not: accept what `audit_block` would not.
"""

from __future__ import annotations

import re
from binascii import Error, hexlify, unhexlify
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ..models.audit import PARTS
from .audit_block import MARKS, BlockReport, count_emitters, hash_leaves, to_microseconds
from .audit_form import is_plain, read_columns
from .audit_index import SearchIndex
from .audit_leaf import COMMITMENT_DOMAIN, SALT_BYTES
from .merkle import HASH_BYTES

_TEXT: Final = rb'"[^"\n]*"'
_NAMED: Final = b'"name":"'  # stands so in no string of a text without escapes
# Nearly all events have one person, the subject. The name stands where the log writes it.
_SUBJECT: Final = re.compile(
    rb'^(?:\{"subject":\{"salt":"([^"\n]+)","value":(\{'
    rb'(?:"address":' + _TEXT + rb",|)"
    rb'(?:"agent":' + _TEXT + rb",|)"
    rb'(?:"issuer":' + _TEXT + rb",|)"
    rb'(?:"name":"([^"\n]+)"|)'
    rb".*\})\}\}|.*)$",
    re.MULTILINE,
)
# Of several, each has its fields in their order, none twice.
_ENDS: Final = rb'(?:,(?=")|(?=\}))'
_FIELDS: Final = b"".join(
    rb'(?:"%b":%b%b|)' % (field, form, _ENDS)
    for field, form in (
        (b"address", _TEXT),
        (b"agent", _TEXT),
        (b"issuer", _TEXT),
        (b"name", rb'"([^"\n]*)"'),
        (b"note", _TEXT),
        (b"roles", rb"\[%b(?:,%b)*\]" % (_TEXT, _TEXT)),
        (b"subject", _TEXT),
    )
)
_PART: Final = re.compile(
    rb'(^\{|,)"(%b)":\{"salt":"([^"\n]+)","value":(\{%b\})\}(\}\n|(?=,))'
    % ("|".join(PARTS).encode(), _FIELDS),
    re.MULTILINE,
)


class Lines(NamedTuple):
    """A block's rows, column by column: of each event a line, as `audit_block.Row` has it.

    Numbers in decimal digits; an empty line for none.
    """

    sequence: bytes
    body: bytes
    people: bytes
    stored_us: bytes
    contest: bytes
    team: bytes
    verb: bytes
    outcome: bytes


@dataclass(frozen=True)
class _People:
    """Who stands in a block's events: the only subject's name, "" for none; several by place."""

    count: int
    names: Sequence[bytes]
    several: dict[int, set[bytes]]


def check_lines(lines: Lines, first: int, count: int, index: SearchIndex) -> BlockReport | None:
    """Check events `first` to `first` + `count` - 1. None: look at each row.

    Parameters
    ----------
    index
        Collects what searches should find; left as it is where the answer is None.
    """
    bodies = lines.body.split(b"\n")
    columns: Any = read_columns(lines.body, bodies)  # each a tuple of all
    if columns is None or len(bodies) != count:
        return None
    sequences = range(first, first + count)
    if not _are_columns_right(lines, columns, sequences):
        return None
    if any(mark in lines.verb for mark in MARKS):
        return None
    people = _check_people(lines.people, columns.people)
    if people is None:
        return None
    report = BlockReport(first, count, people=people.count)
    report.stored = (columns.stored[0], columns.stored[-1])
    hash_leaves(report, sequences, bodies)
    count_emitters(report, sequences, columns)
    _add_names(index, columns.sequence, people)
    index.add_columns(columns.sequence, columns)
    return report


def _are_columns_right(lines: Lines, columns: Any, sequences: Iterable[int]) -> bool:
    """Whether what is kept beside the texts is what they say, and time does not go back."""
    join = b"\n".join
    try:
        moments = _to_moments(columns.stored)
    except ValueError:
        return False
    return (
        lines.sequence == "\n".join(map(str, sequences)).encode()
        and lines.sequence == join(columns.sequence)
        and lines.stored_us == join(moments)
        and lines.contest == join(columns.contest)
        and lines.team == join(columns.team)
        and lines.verb == join(columns.verb)
        and lines.outcome == join(columns.outcome)
        and sorted(columns.stored) == list(columns.stored)
    )


def _to_moments(times: Sequence[bytes]) -> list[bytes]:
    """Microseconds since 1970 in digits. Raises ValueError for no such moment, or one before."""
    moments = {time: b"%d" % to_microseconds(time) for time in set(times)}
    return [moments[time] for time in times]


def _check_people(lines: bytes, commitments: Sequence[bytes]) -> _People | None:
    """Who stands in each event, if all are kept and fit their commitments."""
    if b"\\" in lines:
        return None
    found = _SUBJECT.findall(lines)
    if len(found) != len(commitments):
        return None
    salts, values, names = zip(*found, strict=True)
    several = None
    if not all(salts):
        texts = lines.split(b"\n")
        odd = [at for at, salt in enumerate(salts) if not salt]
        several = _check_several([texts[at] for at in odd], [commitments[at] for at in odd])
        if several is None:
            return None
        commitments = [text for text, salt in zip(commitments, salts, strict=True) if salt]
        salts, values = tuple(filter(None, salts)), tuple(filter(None, values))
    digests = _commit(salts, values)
    # None of the right texts has a line in it, so they are the same one by one.
    right = b'{"subject":"%b"}' % b'"}\n{"subject":"'.join(digests or ()) if digests else b""
    if digests is None or b"\n".join(commitments) != right:
        return None
    if not all(names) and any(
        _NAMED in value for _, value, name in found if not name
    ):  # not where the log writes it
        return None
    if several is None:
        return _People(len(found), names, {})
    return _People(len(salts) + several.people, names, dict(zip(odd, several.names, strict=True)))


def _commit(salts: Sequence[bytes], values: Sequence[bytes]) -> list[bytes] | None:
    """Commitments in digits. None: there is a salt that is none."""
    digits = b"".join(salts)
    try:
        raw = unhexlify(digits)
    except Error:
        return None
    if hexlify(raw) != digits or not {*map(len, salts)} <= {2 * SALT_BYTES}:
        return None
    begun = sha256(COMMITMENT_DOMAIN)
    found = []
    for at, value in zip(range(0, len(raw), SALT_BYTES), values, strict=True):
        committed = begun.copy()
        committed.update(raw[at : at + SALT_BYTES] + value)
        found.append(committed.digest())
    return hexlify(b"".join(found), b",", HASH_BYTES).split(b",") if found else []


class _Several(NamedTuple):
    """Who stands in events that do not have one person: how many, and each event's names."""

    people: int
    names: list[set[bytes]]


def _check_several(texts: Sequence[bytes], commitments: Sequence[bytes]) -> _Several | None:
    """Who stands in events, if all are kept and fit their commitments."""
    lines = b"".join([text + b"\n" for text in texts if text])
    found = _PART.findall(lines)
    digests = _commit([part[2] for part in found], [part[3] for part in found])
    if digests is None or not is_plain(lines):
        return None
    rebuilt = [b'%b"%b":{"salt":"%b","value":%b}%b' % (*p[:4], p[5]) for p in found]
    right = [
        b'%b"%b":"%b"%b' % (part[0], part[1], digest, part[5])
        for part, digest in zip(found, digests, strict=True)
    ]
    if lines != b"".join(rebuilt) or b"".join(right) != b"".join(
        [text + b"\n" for text in commitments if text]
    ):
        return None
    if [not text for text in texts] != [not text for text in commitments]:
        return None
    people = iter(found)
    names = []
    for text in texts:
        named, parts = set(), []
        is_more = bool(text)
        while is_more:
            _, part, _, _, name, end = next(people)
            parts.append(part)
            named.add(name)
            is_more = not end
        if parts != sorted({*parts}):
            return None
        names.append(named - {b""})
    return _Several(len(found), names)


def _add_names(index: SearchIndex, sequences: Sequence[bytes], people: _People) -> None:
    places, names = list(sequences), list(people.names)
    for at, several in sorted(people.several.items(), reverse=True):
        places[at : at + 1] = [sequences[at]] * len(several)
        names[at : at + 1] = several
    index.add_names(places, names)
