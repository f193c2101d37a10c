"""The quick way to check a block: it accepts the usual, and nothing that the other way does not."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from jupyterhub_collab.policy.audit_index import SearchIndex
from jupyterhub_collab.policy.audit_leaf import COMMITMENT_DOMAIN
from jupyterhub_collab.policy.audit_lines import check_lines
from tests.policy.audit_logs import (
    Log,
    Row,
    check_rows,
    edit_body,
    make_event,
    make_log,
    make_row,
    to_lines,
)
from tests.policy.audit_mutations import BESIDE, EDITS, PLACES, SHIFTS, mutations

COUNT = 256


def make_plain(number: int) -> Row:
    """As `make_event`, without characters that JSON escapes."""
    more: dict[str, Any] = {"details": {"count": number, "words": ("a", "b")}}
    if number % 9 == 0:
        more["actor"] = {"name": f"user-{number % 4}", "address": "10.0.0.1", "note": "asked {x}"}
        more["recipient"] = {"name": "Zoë", "agent": "x", "issuer": "i", "subject": "s"}
    if number % 10 == 0:
        more["subject"] = {"roles": ["nobody by name"]}
    return make_row(number, make_event(number, **more))


@pytest.fixture(scope="module")
def plain() -> Log:
    return make_log([make_plain(number) for number in range(1, COUNT + 1)])


def is_quick(rows: list[Row]) -> bool:
    lines = to_lines(rows, COUNT)
    return lines is not None and check_lines(lines, 1, COUNT, SearchIndex()) is not None


def test_the_usual_is_checked_quickly(plain: Log) -> None:
    rows = list(plain.rows)
    assert is_quick(rows)
    report = check_rows(rows, 1, COUNT)
    assert report.people > COUNT
    assert len(report.leaves) == 32 * COUNT
    for first in (2, 129):  # not at the beginning of a tile
        assert not check_rows(rows[first - 1 :], first, COUNT + 1 - first).heads


def test_tampering_of_each_kind(plain: Log) -> None:
    """`check_rows` compares both ways; whatever is wrong is told by the slow one."""
    quick: Counter[bool] = Counter()
    for kinds in (EDITS, BESIDE, PLACES, SHIFTS):
        for mutation in mutations(plain, kinds, range(1, COUNT, 7), each=3):
            rows = [row for row in mutation.log.rows if row.sequence <= COUNT]
            report = check_rows(rows, 1, COUNT)
            is_other = report.leaves != check_rows(plain.rows, 1, COUNT).leaves
            assert is_other or report.findings or report.absent or not is_quick(rows)
            quick[is_quick(rows)] += 1
    assert quick[True] > 5  # of those with another, right text; its leaf tells
    assert quick[False] > 200


@pytest.mark.parametrize("column", ["body", "people"])
@pytest.mark.parametrize("event", [3, 7, 9, 10, 18, 90])
def test_each_byte_of_an_event(plain: Log, event: int, column: str) -> None:
    rows = list(plain.rows[:32])
    text: bytes = getattr(rows[event % 32 - 1], column)
    at = event % 32 - 1
    for place in range(len(text)):
        for byte in (text[place] ^ 1, text[place] ^ 32, b"\n\\}\0\xff"[place % 5]):
            changed = text[:place] + bytes([byte]) + text[place + 1 :]
            if changed != text:
                rows[at] = plain.rows[at]._replace(**{column: changed})
                check_rows(rows, 1, 32)
    for changed in (text + b"\n", b"\n" + text, text + b" ", b"x" + text, b"{}", b"x", b""):
        rows[at] = plain.rows[at]._replace(**{column: changed})
        check_rows(rows, 1, 32)


def test_values_that_no_log_writes(plain: Log) -> None:
    """Committed to all the same, by whoever has the log's key."""
    for value in (
        b'{"name":"a","name":"b"}',
        b'{"note":"x","name":"b"}',
        b'{"name":""}',
        b'{"name":"a",}',
        b'{"name" :"a"}',
        b'{"name":"a"}x}',
        b'{"name":{"name":"b"}}',
        b'{"roles":["name"],"name":"b"}',
        b"{}",
        b'{"x":1}',
        b'{"name":"\x01"}',
        b'{"name":"\xff"}',
        b'{"name":"a","roles":[]}',
    ):
        for parts in (["subject"], ["actor"], ["actor", "subject"], ["subject", "actor"]):
            rows = list(plain.rows)
            commitment = hashlib.sha256(COMMITMENT_DOMAIN + bytes(16) + value).hexdigest()
            people = b",".join(
                b'"%b":{"salt":"%b","value":%b}' % (part.encode(), b"0" * 32, value)
                for part in parts
            )
            row = edit_body(rows[6], people=dict.fromkeys(sorted(parts), commitment))
            rows[6] = row._replace(people=b"{%b}" % people)
            check_rows(rows, 1, COUNT)


def test_people_of_other_lines(plain: Log) -> None:
    """Two lines in one and none in the next are as many lines."""
    rows = list(plain.rows)
    both = (rows[0].people or b"") + b"\n" + (rows[1].people or b"")
    rows[0], rows[1] = rows[0]._replace(people=both), rows[1]._replace(people=b"")
    assert check_rows(rows, 1, COUNT).findings
    assert to_lines([rows[0]._replace(people=None)], 1) is None
