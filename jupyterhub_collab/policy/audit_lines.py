"""Checking a block of the audit log's events quickly, as long as all of it is as it should be.

A block comes as few long texts, a line for each event, so that most is compared once for a thousand
events. The quick way never finds fault: at whatever is unusual (also what is allowed, such as an
erased person, or a character that JSON escapes) it gives up, and `audit_block`, which looks at each
row, says what there is to say. What both accept they report alike.

It must not: accept what `audit_block` would not.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, NamedTuple

from ..models.audit import PARTS
from .audit_block import MARKS, BlockReport, count_emitters, hash_leaves, to_microseconds
from .audit_form import Facts, is_plain, read_lines
from .audit_index import SearchIndex
from .audit_leaf import COMMITMENT_DOMAIN, SALT_BYTES

_SALT: Final = rb'"salt":"([0-9a-f]{%d})"' % (2 * SALT_BYTES)
_TEXT: Final = rb'"[^"\n]*"'
_NAMED: Final = b'"name":"'  # stands so in no string of a text without escapes
# Nearly all events have one person, the subject. The name stands where the log writes it.
_SUBJECT: Final = re.compile(
    rb'^(?:\{"subject":\{' + _SALT + rb',"value":(\{'
    rb'(?:"address":' + _TEXT + rb",|)"
    rb'(?:"agent":' + _TEXT + rb",|)"
    rb'(?:"issuer":' + _TEXT + rb",|)"
    rb'(?:"name":"([^"\n]+)"|)'
    rb"[^\n]*\})\}\}|.*)$",
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
    rb'"(%b)":\{%b,"value":(\{%b\})\}' % ("|".join(PARTS).encode(), _SALT, _FIELDS)
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
    if len(bodies) != count:
        return None
    found = read_lines(lines.body, bodies, with_people=False)
    if found is None:
        return None
    columns: Any = Facts._make(zip(*found, strict=True))  # each a tuple of all
    sequences = range(first, first + count)
    if not _are_columns_right(lines, columns, sequences) or not MARKS.isdisjoint(columns.verb):
        return None
    people = _check_people(lines.people, columns.people)
    if people is None:
        return None
    report = BlockReport(first, count, people=people.count)
    report.stored = (columns.stored[0], columns.stored[-1])
    hash_leaves(report, sequences, bodies)
    count_emitters(report, sequences, columns)
    _add_names(index, sequences, people)
    index.add_columns(sequences, columns)
    if any(columns.datasets):
        for sequence, fact in zip(sequences, found, strict=True):
            if fact[1]:
                index.add_datasets(sequence, fact[0], fact[1])
    return report


def _are_columns_right(lines: Lines, columns: Any, sequences: Iterable[int]) -> bool:
    """Whether what is kept beside the texts is what they say, and time does not go back."""
    join = b"\n".join
    try:
        moments = {time: b"%d" % to_microseconds(time) for time in set(columns.stored)}
    except ValueError:
        return False
    return (
        lines.sequence == "\n".join(map(str, sequences)).encode()
        and lines.sequence == join(columns.sequence)
        and lines.stored_us == join([moments[time] for time in columns.stored])
        and lines.contest == join(columns.contest)
        and lines.team == join(columns.team)
        and lines.verb == join(columns.verb)
        and lines.outcome == join(columns.outcome)
        and sorted(columns.stored) == list(columns.stored)
    )


def _check_people(lines: bytes, commitments: Sequence[bytes]) -> _People | None:
    """Who stands in each event, if all are kept and fit their commitments."""
    if b"\\" in lines:
        return None
    found = _SUBJECT.findall(lines)
    if len(found) != len(commitments):
        return None
    salts, values, names = zip(*found, strict=True)
    several: dict[int, set[bytes]] = {}
    count = len(found)
    if not all(salts):
        texts = lines.split(b"\n")
        odd = [at for at, salt in enumerate(salts) if not salt]
        for at in odd:
            who = _read_several(texts[at], commitments[at])
            if who is None:
                return None
            parts, several[at] = who
            count += parts - 1
        commitments = [text for text, salt in zip(commitments, salts, strict=True) if salt]
        salts, values = tuple(filter(None, salts)), tuple(filter(None, values))
    if not _are_committed(salts, values, commitments):
        return None
    if not all(names) and any(
        _NAMED in value for _, value, name in found if not name
    ):  # not where the log writes it
        return None
    return _People(count, names, several)


def _are_committed(
    salts: Sequence[bytes], values: Sequence[bytes], commitments: Sequence[bytes]
) -> bool:
    """Whether each event has one person, the subject, and salt and value are those it was."""
    raw = unhexlify(b"".join(salts))
    digests = [
        sha256(COMMITMENT_DOMAIN + raw[at : at + SALT_BYTES] + value).hexdigest()
        for at, value in zip(range(0, len(raw), SALT_BYTES), values, strict=True)
    ]
    # None of the right texts has a line in it, so they are the same one by one.
    right = '"}\n{"subject":"'.join(digests).encode()
    return b"\n".join(commitments) == (b'{"subject":"%b"}' % right if digests else b"")


def _read_several(text: bytes, committed: bytes) -> tuple[int, set[bytes]] | None:
    """How many people stand in an event, and their names, if all are kept and fit."""
    found = _PART.findall(text)
    parts = [part for part, _, _, _ in found]
    rebuilt = b",".join([b'"%b":{"salt":"%b","value":%b}' % part[:3] for part in found])
    is_right = parts == sorted({*parts}) and is_plain(text)
    if not is_right or text != (b"{%b}" % rebuilt if found else b""):
        return None
    right = b",".join(
        [
            b'"%b":"%b"' % (part, sha256(_salted(salt, value)).hexdigest().encode())
            for part, salt, value, _ in found
        ]
    )
    if committed != (b"{%b}" % right if found else b""):
        return None
    return len(found), {name for _, _, _, name in found if name}


def _salted(salt: bytes, value: bytes) -> bytes:
    return COMMITMENT_DOMAIN + unhexlify(salt) + value


def _add_names(index: SearchIndex, sequences: Sequence[int], people: _People) -> None:
    known = index.names
    for sequence, name in zip(sequences, people.names, strict=True):
        if name:
            known[name].append(sequence)
    for at, names in people.several.items():
        for name in names:
            insort(known[name], sequences[at])  # they rise, also among those just added
