"""A check of the audit log: what it finds, how exactly, in which words; and what it lets pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyterhub_collab.policy.audit_block import Row
from jupyterhub_collab.policy.audit_finding import Kind
from jupyterhub_collab.policy.audit_leaf import canonical_json
from jupyterhub_collab.policy.audit_verify import CannotCheckError, Evidence, Note, Verdict
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import root_of
from tests.policy.audit_logs import (
    OTHER_SPOOL,
    OWN_SPOOL,
    SIGNER,
    START,
    Checker,
    Log,
    check,
    edit_body,
    fetch_of,
    hashes_of,
    make_event,
    make_log,
    make_row,
    renumber,
    sign,
    without,
)

SIZE = 1500


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [make_row(n, make_event(n)) for n in range(1, SIZE + 1)]


@pytest.fixture(scope="module")
def log(rows: list[Row]) -> Log:
    return make_log(rows, range(100, SIZE + 1, 100))


@pytest.fixture(scope="module")
def outside(rows: list[Row]) -> list[Note]:
    leaves = hashes_of(rows)
    return [sign(leaves, size, "outside") for size in (700, 1400)]


@pytest.fixture(scope="module")
def tiles(rows: list[Row]) -> list[Any]:
    return [fetch_of(hashes_of(rows)[:1400])]


def own_row(sequence: int, verb: str, number: int, **details: Any) -> Row:
    """An event of the service itself."""
    event = make_event(7, verb=verb, details=details)
    return make_row(
        sequence, event, emitter="audit", incarnation=OWN_SPOOL, emitter_sequence=number
    )


def kinds(verdict: Verdict) -> set[Kind]:
    return {found.kind for found in verdict.findings}


def test_an_untouched_log(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    verdict = check(log, outside, tiles)
    assert verdict.findings == ()
    assert verdict.is_fine
    assert verdict.first_bad is None
    assert (verdict.size, verdict.anchored, verdict.unanchored) == (SIZE, 1400, (1401, SIZE))
    assert (verdict.outside, verdict.inside) == (2, 15)
    assert verdict.people > SIZE * 6 // 7
    assert json.loads(json.dumps(verdict.to_wire()))["unanchored"] == [1401, SIZE]


def test_nothing_from_outside_and_an_empty_log(log: Log) -> None:
    verdict = check(log)
    assert (verdict.is_fine, verdict.anchored, verdict.unanchored) == (True, 0, (1, SIZE))
    empty = check(make_log([]), [sign([], 0, "outside")])
    assert (empty.is_fine, empty.size, empty.unanchored) == (True, 0, None)


@pytest.mark.parametrize("event", [1, 2, 256, 257, 699, 700, 701, 1024, 1025, 1399, 1400])
def test_an_edited_event_is_named(
    log: Log, outside: list[Note], tiles: list[Any], event: int
) -> None:
    rows = list(log.rows)
    rows[event - 1] = edit_body(rows[event - 1], thing="another")
    changed = log.changed(rows)
    verdict = check(changed, outside, tiles)
    first = verdict.first_bad
    assert first is not None
    assert (first.kind, first.first, first.last) == (Kind.EDITED, event, event)
    assert first.text == f"Event {event} was edited."
    assert verdict.anchored == (700 if event > 700 else 0)

    # The database's own hashes, too, name it, as long as they lead to the head from outside.
    if event <= 1280:  # beyond, they are not full tiles: the event itself would be its witness
        first = check(changed, outside).first_bad
        assert first is not None
        assert (first.first, first.is_exact) == (event, True)

    # Whoever edits these, too, is found out by heads, between which it must be.
    verdict = check(make_log(rows), outside)
    first = verdict.first_bad
    assert first is not None
    low, high = (1, 700) if event <= 700 else (701, 1400)
    assert (first.kind, first.first, first.last) == (Kind.CHANGED, low, high)
    assert first.text.startswith(f"Between event {low} and {high} something was edited")


def test_what_is_not_anchored_is_held_by_the_log_itself(log: Log, outside: list[Note]) -> None:
    rows = list(log.rows)
    rows[1449] = edit_body(rows[1449], thing="another")
    verdict = check(log.changed(rows), outside)
    first = verdict.first_bad
    assert first is not None
    assert (first.kind, first.first, first.last) == (Kind.CHANGED, 1401, 1500)
    assert verdict.anchored == 1400


def test_a_missing_event(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    hole = [row for row in log.rows if row.sequence != 900]
    for given in (tiles, []):
        verdict = check(log.changed(hole), outside, given)
        assert kinds(verdict) == {Kind.MISSING, Kind.EMITTER}
        first = verdict.first_bad
        assert first is not None
        assert (first.kind, first.first, first.text) == (Kind.MISSING, 900, "Event 900 is missing.")
    moved = [*log.rows[:899], *(renumber(r, r.sequence - 1) for r in log.rows[900:])]
    first = check(make_log(moved), outside, tiles).first_bad
    assert first is not None
    assert first.first == 900
    moved = [*log.rows[:899], *(r._replace(sequence=r.sequence - 1) for r in log.rows[900:])]
    found = check(log.changed(moved), outside, tiles).findings
    assert "Event 900 is missing; what followed was moved up." in [f.text for f in found]


def test_an_event_put_in(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    false = make_row(900, make_event(3, thing="false"), emitter_sequence=900)
    later = [r._replace(sequence=r.sequence + 1) for r in log.rows[899:]]
    verdict = check(log.changed([*log.rows[:899], false, *later]), outside, tiles)
    assert "An event was put in at the place 900." in [found.text for found in verdict.findings]
    assert verdict.first_bad is not None
    assert verdict.first_bad.first == 900

    copy = log.rows[899]._replace(sequence=901)
    later = [r._replace(sequence=r.sequence + 1) for r in log.rows[900:]]
    verdict = check(log.changed([*log.rows[:900], copy, *later]), outside, tiles)
    text = "At the place 901 a copy of event 900 was put in."
    assert text in [found.text for found in verdict.findings]


def test_events_that_changed_places(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    rows = list(log.rows)
    rows[99], rows[119] = rows[119]._replace(sequence=100), rows[99]._replace(sequence=120)
    found = check(log.changed(rows), outside, tiles).findings
    assert "Events 100 and 120 changed places." in [finding.text for finding in found]
    rows = [*log.rows[:99], *log.rows[100:130], log.rows[99], *log.rows[130:]]
    rows = [row._replace(sequence=at) for at, row in enumerate(rows, 1)]
    found = check(log.changed(rows), outside, tiles).findings
    assert "Between 100 and 130 an event was moved." in [finding.text for finding in found]


def test_a_log_that_was_cut(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    for length in (1399, 1024, 701, 700, 1):
        cut = Log(log.rows[:length], [], make_log(log.rows[:length]).tiles)
        verdict = check(cut, outside, tiles)
        first = verdict.first_bad
        assert first is not None
        assert (first.kind, first.first) == (Kind.CUT, length + 1)
        assert f"cut after event {length}" in first.text
        assert verdict.anchored == (700 if length >= 700 else 0)
    gone = check(make_log([]), outside)
    assert kinds(gone) == {Kind.CUT}


def test_a_log_that_was_rewritten(log: Log, outside: list[Note], tiles: list[Any]) -> None:
    rows = [edit_body(row, thing="mine") if row.sequence > 10 else row for row in log.rows]
    rewritten = make_log(rows, range(100, SIZE + 1, 100))  # signed with the stolen key
    verdict = check(rewritten, outside, tiles)
    first = verdict.first_bad
    assert first is not None
    assert (first.kind, first.first) == (Kind.REWRITTEN, 11)
    verdict = check(rewritten, outside)
    assert kinds(verdict) == {Kind.REWRITTEN, Kind.CHANGED}
    assert any("rewritten with its own key" in found.text for found in verdict.findings)
    assert check(rewritten).is_fine  # which is why heads are kept outside

    other = LogSigner.generate(SIGNER.origin)
    forged = make_log(rows, range(100, SIZE + 1, 100), other)
    verdict = check(forged, outside)
    assert {Kind.CHECKPOINT, Kind.CHANGED} <= kinds(verdict)
    assert not check(forged).is_fine


def test_two_heads_of_one_size(log: Log, outside: list[Note]) -> None:
    false = Note("post", SIGNER.sign(700, root_of([bytes(32)] * 700), START))
    verdict = check(log, [*outside, false])
    assert kinds(verdict) == {Kind.CHECKPOINT}
    assert any("signed two heads of 700 events" in found.text for found in verdict.findings)


def test_checkpoints_of_others(log: Log, outside: list[Note]) -> None:
    other = LogSigner.generate("other.example.org/audit")
    leaves = hashes_of(log.rows)
    false = sign(leaves, 700, "outside", other)
    verdict = check(log, [*outside, false])
    assert [found.kind for found in verdict.findings] == [Kind.CHECKPOINT]
    assert "of the log other.example.org/audit" in verdict.findings[0].text
    with pytest.raises(CannotCheckError, match="None of the checkpoints from outside is signed"):
        check(log, [false])
    assert kinds(check(Log(log.rows, [false], log.tiles), outside)) == {Kind.CHECKPOINT}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda p: {**p, "salt": "00" * 16}, Kind.PERSON),
        (lambda p: {**p, "salt": p["salt"].upper()}, Kind.PERSON),
        (lambda p: {**p, "salt": " " + p["salt"]}, Kind.PERSON),
        (lambda p: {**p, "salt": None}, Kind.PERSON),
        (lambda p: {**p, "more": 1}, Kind.PERSON),
        (lambda p: {**p, "value": {**p["value"], "name": "eve"}}, Kind.PERSON),
        (lambda p: {**p, "value": {**p["value"], "name": 'e"\\v'}}, Kind.PERSON),
        (lambda p: {**p, "value": {"name": p["value"]["name"]}}, Kind.PERSON),
        (lambda p: {**p, "value": []}, Kind.PERSON),
        (lambda p: {"salt": p["salt"]}, Kind.PERSON),
        (lambda p: {}, Kind.PERSON),
        (lambda p: 1, Kind.PERSON),
    ],
)
def test_who_is_kept_must_be_who_was_recorded(
    log: Log, outside: list[Note], change: Any, kind: Kind
) -> None:
    rows = list(log.rows)
    people = json.loads(rows[100].people or b"")
    people["subject"] = change(people["subject"])
    rows[100] = rows[100]._replace(people=canonical_json(people))
    verdict = check(log.changed(rows), outside)
    assert kinds(verdict) == {kind}
    assert verdict.findings[0].first == 101
    assert verdict.anchored == 1400  # the tree stands
    assert "user-" not in json.dumps(verdict.to_wire())


@pytest.mark.parametrize(
    "people",
    [
        b"nothing",
        b"\xff",
        b"[]",
        b'{"subject":{},"subject":{}}',
        b'{"actor":{"salt":"00","value":{}}}',
        b" ",
        b'{"subject":{"salt":"' + b"zz" * 16 + b'","value":{"name":"a"}}}',
    ],
)
def test_people_that_cannot_be_read(log: Log, outside: list[Note], people: bytes) -> None:
    rows = list(log.rows)
    rows[100] = rows[100]._replace(people=people)
    verdict = check(log.changed(rows), outside)
    assert Kind.PERSON in kinds(verdict)
    assert {found.first for found in verdict.findings} == {101}


def test_erasure_with_and_without_authority(rows: list[Row]) -> None:
    base = rows[:600]
    erasing = own_row(601, "audit.erase", 1, sequences=["101:subject", "299:actor"])
    erased = list(base)
    assert "subject" in json.loads(base[100].people or b"")
    erased[100] = without(erased[100], "subject")
    full = [*base, erasing]
    leaves = hashes_of(full)
    outside = [sign(leaves, 601, "outside")]
    verdict = check(make_log([*erased, erasing]), outside)
    assert verdict.findings == ()
    assert verdict.redacted == {601: 1}

    # Erased, and not named.
    more = list(erased)
    more[108] = without(more[108], "subject")
    verdict = check(make_log([*more, erasing]), outside)
    assert [(f.kind, f.first) for f in verdict.findings] == [(Kind.ERASED, 109)]
    assert verdict.findings[0].text == "Event 109: its subject was erased, and no event allows it."
    # Named, and still there.
    verdict = check(make_log(full), outside)
    assert verdict.is_fine
    assert "Event 601 erased the subject of event 101; it is still kept." in verdict.warnings

    # An event that names what comes after it allows nothing; nor one of another emitter.
    early = own_row(601, "audit.erase", 1, sequences=["602:subject"])
    late = [*base, early, make_row(602, make_event(1), emitter_sequence=601)]
    gone = [*base, early, without(late[-1], "subject")]
    verdict = check(make_log(gone), [sign(hashes_of(late), 602, "outside")])
    assert kinds(verdict) == {Kind.ERASED}
    event = make_event(7, verb="audit.erase", details={"sequences": ["101:subject"]})
    false = make_row(601, event, emitter_sequence=601)
    verdict = check(make_log([*erased, false]), [sign(hashes_of([*base, false]), 601, "outside")])
    assert kinds(verdict) == {Kind.ERASED, Kind.FORM}


def test_an_erasure_that_is_not_anchored_is_said(rows: list[Row]) -> None:
    base = rows[:600]
    erased = list(base)
    erased[100] = without(erased[100], "subject")
    erasing = own_row(601, "audit.erase", 1, sequences=["101:subject"])
    verdict = check(make_log([*erased, erasing]), [sign(hashes_of(base), 600, "outside")])
    assert verdict.is_fine
    assert verdict.warnings == ("Event 601, which erased people, is not anchored yet.",)


def test_retirement_with_and_without_authority(rows: list[Row]) -> None:
    base = rows[:900]
    full = [*base, own_row(901, "audit.retire", 1, first=1, until=512)]
    whole = make_log(full, [300, 901])
    leaves = hashes_of(full)
    outside = [sign(leaves, size, "outside") for size in (300, 901)]
    verdict = check(whole.changed(full[512:]), outside)
    assert verdict.findings == ()
    assert (verdict.retired, verdict.retired_by, verdict.anchored) == (512, 901, 901)
    assert verdict.outside == 2  # the tiles stand for what is gone

    verdict = check(whole.changed(full[513:]), outside)
    first = verdict.first_bad
    assert first is not None
    assert (first.kind, first.first, first.last) == (Kind.MISSING, 513, 513)
    # Without the hashes nothing stands for them.
    for level, number in ((0, 0), (0, 1)):
        tiles = {key: data for key, data in whole.tiles.items() if key != (level, number)}
        assert not check(Log(full[512:], whole.inside, tiles), outside).is_fine
        tiles[level, number] = bytes(8192)
        assert not check(Log(full[512:], whole.inside, tiles), outside).is_fine

    whole = make_log(base, [300, 900])
    verdict = check(whole.changed(base[512:]), [sign(hashes_of(base), 900, "outside")])
    first = verdict.first_bad
    assert first is not None
    assert first.text == "Events 1 to 512 are missing, and no event allows it."


@pytest.mark.parametrize("key", [(0, 0), (0, 4)])
def test_the_hashes_that_a_log_keeps(rows: list[Row], key: tuple[int, int]) -> None:
    log = make_log(rows[:1300])
    tiles = dict(log.tiles)
    tiles[key] = tiles[key][:100] + bytes([tiles[key][100] ^ 1]) + tiles[key][101:]
    outside = [sign(hashes_of(log.rows), 1290, "outside")]
    verdict = check(Log(log.rows, (), tiles), outside, [fetch_of(hashes_of(log.rows))])
    assert kinds(verdict) == {Kind.TILE}
    assert verdict.findings[0].first == key[1] * 256 + 4
    del tiles[key]
    verdict = check(Log(log.rows, (), tiles), outside)
    assert kinds(verdict) == {Kind.TILE}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("stored_us", 1),
        ("stored_us", b"1"),
        ("contest", b""),
        ("contest", b"other"),
        ("team", b"other"),
        ("verb", b"login2"),
        ("outcome", b"failed"),
    ],
)
def test_columns_that_hide_an_event(
    log: Log, outside: list[Note], column: str, value: object
) -> None:
    rows = list(log.rows)
    rows[100] = rows[100]._replace(**{column: value})
    verdict = check(log.changed(rows), outside)
    assert [(found.kind, found.first) for found in verdict.findings] == [(Kind.INDEX, 101)]
    assert "hidden from searches" in verdict.findings[0].text


def test_an_emitters_gaps_and_repeats(rows: list[Row]) -> None:
    other = {"incarnation": OTHER_SPOOL}
    base = rows[:20]
    gapped = [*base, make_row(21, make_event(1), emitter_sequence=1, **other)]
    gapped.append(make_row(22, make_event(1), emitter_sequence=5, **other))
    verdict = check(make_log(gapped))
    assert [(f.kind, f.first) for f in verdict.findings] == [(Kind.EMITTER, 22)]
    assert "numbers 2 to 4 of emitter hub are missing" in verdict.findings[0].text
    gap = {"emitter": "hub", "incarnation": OTHER_SPOOL, "first": 2, "last": 4}
    assert check(make_log([*gapped, own_row(23, "audit.gap", 1, **gap)])).is_fine
    assert not check(make_log([*gapped, own_row(23, "audit.gap", 1, **gap | {"last": 3})])).is_fine

    twice = [*base, make_row(21, make_event(1), emitter_sequence=20)]
    assert kinds(check(make_log(twice))) == {Kind.EMITTER}
    late = [*base, make_row(21, make_event(1), emitter_sequence=3, **other)]
    assert kinds(check(make_log(late))) == {Kind.EMITTER}


def test_time_that_goes_back(rows: list[Row]) -> None:
    for place in (10, 256):  # inside of a block, and at its beginning
        changed = list(rows[:300])
        changed[place] = edit_body(changed[place], stored="2027-02-28T10:00:00.000000Z")
        found = Checker().check(make_log(changed), Evidence(SIGNER.verifier)).findings
        assert {f.kind for f in found} == {Kind.TIME}
        assert found[0].first == place + 1
    changed = list(rows[:300])
    body = (changed[5].body or b"").replace(b'"stored":"2027-03-01', b'"stored":"2027-02-31')
    changed[5] = changed[5]._replace(body=body)
    assert Kind.TIME in kinds(check(make_log(changed)))


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.replace(b'{"', b'{ "', 1),
        lambda b: b + b" ",
        lambda b: b"\n" + b,
        lambda b: b.replace(b'"schema":1', b'"schema":2'),
        lambda b: b.replace(b'"schema":1', b'"schema":1,"schema":1'),
        lambda b: b.replace(b'"schema":1', b'"schema":1.0'),
        lambda b: b.replace(b'"verb"', b'"zverb"'),
        lambda b: b.replace(b'"verb"', b'"veto":1,"verb"'),
        lambda b: b.replace(b'"outcome":"', b'"outcome":1,"x":"'),
        lambda b: b[:-1],
        lambda b: b"",
        lambda b: b"[]",
        lambda b: b"\xff" + b,
        lambda b: b.replace(b'"thing":"', b'"thing":"\xff'),
        lambda b: b.replace(b'"thing":"', b'"thing":"\\u0061'),
        lambda b: b.replace(b'"thing":"', b'"thing":"a},\n{'),
        lambda b: b.replace(b'{"contest', b'{"details":{"b":1,"a":2},"contest'),
        lambda b: b.replace(b',"emitter"', b',"details":{"b":1,"a":2},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"details":{"a":1,"a":2},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"details":{"a":{"b":1}},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"details":{"a":1.5},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"details":{"a":-0},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"details":{},"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"datasets":[],"emitter"'),
        lambda b: b.replace(b',"emitter"', b',"datasets":[{"a":1}],"emitter"'),
        lambda b: b.replace(b'"late"', b'"late"') + b"}{",
        lambda b: b.replace(b'"people":{', b'"people":{"actor":"00",'),
        lambda b: b"[" * 100_000,
        lambda b: b.replace(b'"thing":"', b'"thing":"' + b"a" * 70_000),
    ],
)
def test_texts_that_are_no_event(rows: list[Row], change: Any) -> None:
    base = list(rows[:300])
    body = base[100].body or b""
    assert b'"details"' not in body
    assert b'"datasets"' not in body
    assert change(body) != body
    base[100] = base[100]._replace(body=change(body))
    verdict = check(make_log(base))
    assert Kind.FORM in kinds(verdict)
    found = [found for found in verdict.findings if found.kind is Kind.FORM]
    assert [finding.first for finding in found] == [101]
    assert "aaaa" not in found[0].text


def test_tiles_from_outside_that_are_false_are_not_believed(
    log: Log, outside: list[Note], tiles: list[Any]
) -> None:
    rows = list(log.rows)
    rows[99] = edit_body(rows[99], thing="another")
    false = fetch_of(hashes_of(rows)[:1400])
    assert check(log, outside, [false]).is_fine
    first = check(log.changed(rows), outside, [false, *tiles]).first_bad
    assert first is not None
    assert (first.kind, first.first) == (Kind.EDITED, 100)

    def damaged(tile: Any) -> bytes | None:
        return None if (tile.level, tile.number) == (0, 0) else tiles[0](tile)

    first = check(make_log(rows), outside, [damaged]).first_bad
    assert first is not None
    assert (first.kind, first.first, first.last) == (Kind.CHANGED, 1, 256)
    assert check(log, outside, [damaged]).is_fine
