"""The quick way to check a block: it accepts the usual, and nothing that the other way does not."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from jupyterhub_collab.policy.audit_finding import Kind
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


def body_with(**parts: str) -> bytes:
    """A text as the log writes it, with parts of it as they are given."""
    fields = {
        "blind": "",
        "contest": '"contest":"sea",',
        "datasets": '"datasets":["tides","winds"],',
        "details": '"details":{"count":7,"gpu":false,"words":["a"]},',
        "emitter": '"emitter":"hub",',
        "emitterSequence": '"emitterSequence":7,',
        "incarnation": f'"incarnation":"{"a" * 32}",',
        "late": '"late":true,',
        "outcome": '"outcome":"allowed",',
        "people": "",
        "reason": '"reason":"gate-closed",',
        "schema": '"schema":1,',
        "sequence": '"sequence":7,',
        "stored": '"stored":"2027-03-01T10:00:00.004000Z",',
        "team": '"team":"ocean",',
        "thing": '"thing":"srv-7",',
        "time": '"time":"2027-03-01T10:00:00.007000Z",',
        "verb": '"verb":"login"',
    }
    assert parts.keys() <= fields.keys()
    return f"{{{''.join({**fields, **parts}.values())}}}".encode("utf-8", "surrogatepass")


def rows_with(plain: Log, body: bytes, **columns: Any) -> list[Row]:
    """Rows with another seventh event; columns fit the text that `body_with` makes."""
    fitting = {
        "people": b"",
        "stored_us": 1803895200004000,
        "contest": b"sea",
        "team": b"ocean",
        "verb": b"login",
        "outcome": b"allowed",
    }
    rows = list(plain.rows)
    rows[6] = Row(7, body, **{**fitting, **columns})
    return rows


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"blind": f'"blind":"{"0a" * 16}",'},
        {"datasets": "", "details": "", "late": "", "reason": "", "thing": ""},
        {"details": '"details":{"a":-3,"b":0,"c":[],"d":true,"e":"é{["},'},
        {"details": f'"details":{{"a":{10**40}}},'},
        {"emitterSequence": f'"emitterSequence":{10**18},'},
    ],
)
def test_what_the_log_writes_is_read_quickly(plain: Log, parts: dict[str, str]) -> None:
    rows = rows_with(plain, body_with(**parts))
    assert is_quick(rows)
    assert not check_rows(rows, 1, COUNT).findings


HOSTILE = [
    *({"blind": f'"blind":"{text}",'} for text in ("", "0A" * 16, "0a" * 15, "0a" * 17, "0g" * 16)),
    *({"datasets": f'"datasets":{text},'}
      for text in ("[]", '["a",1]', '["a", "b"]', '["a""b"]', '["a",]', '["a"b"]', '[["a"]]')),
    *({"details": f'"details":{text},'}
      for text in ("{}", '{"a":1.5}', '{"a":NaN}', '{"a":1e3}', '{"a":1,"a":1}', '{"b":1,"a":1}',
                   '{"a":01}', '{"a":-0}', '{"a":+1}', '{"a":null}', '{"a":[1]}', '{"A":1}',
                   '{"a":1,}', '{"a" :1}', '{"a":Infinity}', '{"a":"b"c"}', '{"a":1}{"b":1}')),
    *({"emitter": f'"emitter":{text},'} for text in ('""', "7", '"a","emitter":"b"')),
    *({"emitterSequence": f'"emitterSequence":{text},'}
      for text in ("0", "07", "+7", "-7", "7.0", "7e0", "1_0", " 7", "7 ", '"7"', "", str(10**19),
                   "9" * 5000, "٧")),
    *({"incarnation": f'"incarnation":"{text}",'}
      for text in ("", "A" * 32, "a" * 31, "a" * 33, "é" * 16)),
    *({"late": f'"late":{text},'} for text in ("false", "1", "true,true")),
    *({"people": f'"people":{text},'} for text in ("{}", '{"subject":""}', "{}}", "[]", "null")),
    *({"reason": f'"reason":"{text}",'} for text in ("", "\ud800", "a\x01", "a\x7fb\x00", 'a"b')),
    *({"schema": f'"schema":{text},'} for text in ("2", "1.0", "true", "01", "1 ")),
    *({"sequence": f'"sequence":{text},'} for text in ("8", "07", "7.0", "+7", "")),
    *({"stored": f'"stored":"{text}",'}
      for text in ("", "2027-03-01T10:00:00.00400Z", "2027-03-01 10:00:00.004000Z",
                   "2027-03-01T10:00:00.004000", "2027-03-01T10:00:00.00４00Z",
                   "2027-03-01T10:00:00.+04000Z")),
    *({"time": f'"time":"{text}",'}
      for text in ("", "2027-03-01T10:00:00.00700Z", "2027-03-01t10:00:00.007000Z",
                   "2027-03-01T10:00:00.0070000Z", "a027-03-01T10:00:00.007000Z")),
    *({name: f'"{name}":null,'}
      for name in ("blind", "contest", "datasets", "details", "late", "team")),
    {"contest": '"contest":"sea","contest":"sea",'},
    {"thing": '"thing":"x","unknown":"y",'},
    {"thing": '"thing":"x" ,'},
    {"thing": '"thing":7,'},
    {"verb": '"verb":"login","verb":"login"'},
    {"verb": '"verb":"login"}{'},
    {"late": "", "outcome": '"outcome":"allowed","late":true,'},
]  # fmt: skip


@pytest.mark.parametrize("parts", HOSTILE)
def test_texts_that_no_log_writes(plain: Log, parts: dict[str, str]) -> None:
    """Hashed and signed all the same, by whoever has the log's key."""
    rows = rows_with(plain, body_with(**parts))
    assert not is_quick(rows)
    report = check_rows(rows, 1, COUNT)
    assert [found.first for found in report.findings] == [7]
    other_place = parts.get("sequence") == '"sequence":8,'
    assert report.findings.counts == {Kind.REORDERED if other_place else Kind.FORM: 1}


def test_a_day_that_no_month_has(plain: Log) -> None:
    rows = rows_with(plain, body_with(stored='"stored":"2027-02-30T10:00:00.004000Z",'))
    assert not is_quick(rows)
    assert Kind.TIME in check_rows(rows, 1, COUNT).findings.counts


@pytest.mark.parametrize(
    ("part", "columns"),
    [
        ({"outcome": '"outcome":"Allowed",'}, {"outcome": b"Allowed"}),
        ({"outcome": '"outcome":"a d",'}, {"outcome": b"a d"}),
        ({"verb": '"verb":"Login"'}, {"verb": b"Login"}),
        ({"verb": '"verb":"log in"'}, {"verb": b"log in"}),
        ({"verb": '"verb":"audit.gap"'}, {"verb": b"audit.gap"}),
        ({"team": '"team":"o\\u0063ean",'}, {"team": b"ocean"}),
        ({"team": '"team":"",'}, {"team": b""}),
        ({"contest": '"contest":"",'}, {"contest": b""}),
    ],
)
def test_what_columns_repeat_is_looked_at_too(
    plain: Log, part: dict[str, str], columns: dict[str, bytes]
) -> None:
    rows = rows_with(plain, body_with(**part), **columns)
    assert not is_quick(rows)
    check_rows(rows, 1, COUNT)
    assert is_quick(list(plain.rows))


@pytest.mark.parametrize("salt", ["A" * 32, "0" * 30, "0" * 34, "0" * 31, "g" * 32, "é" * 16, ""])
@pytest.mark.parametrize("parts", [["subject"], ["actor"], ["actor", "subject"]])
def test_salts_that_are_none(plain: Log, salt: str, parts: list[str]) -> None:
    """Also where the event names nobody, and the block has no other event."""
    kept = ",".join(f'"{part}":{{"salt":"{salt}","value":{{"name":"a"}}}}' for part in parts)
    rows = list(plain.rows)
    rows[6] = rows[6]._replace(people=f"{{{kept}}}".encode())
    assert not is_quick(rows)
    assert check_rows(rows, 1, COUNT).findings
    lines = to_lines([rows[6]], 1)
    assert lines is not None
    assert check_lines(lines, 7, 1, SearchIndex()) is None
