"""Checking a log in its database: written by the log itself, tampered with by SQL."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from jupyterhub_collab.errors import PermanentError, UserError
from jupyterhub_collab.managers import audit_verification
from jupyterhub_collab.managers.audit_proof import prove_from_bundle, prove_from_database
from jupyterhub_collab.managers.audit_verification import verify_bundle, verify_database
from jupyterhub_collab.models.audit import AuditEvent
from jupyterhub_collab.policy import audit_bundle, audit_index
from jupyterhub_collab.policy.audit_block import Row
from jupyterhub_collab.policy.audit_bundle import Manifest, check_proof
from jupyterhub_collab.policy.audit_finding import Kind
from jupyterhub_collab.policy.audit_lines import Lines
from jupyterhub_collab.policy.audit_verify import CannotCheckError, Evidence, Verdict
from jupyterhub_collab.policy.merkle import make_inclusion_proof
from jupyterhub_collab.policy.tiles import Tile
from jupyterhub_collab.storage import audit_offline
from jupyterhub_collab.storage import audit_tables as tables
from jupyterhub_collab.storage.audit_files import Bundle, TileFiles
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.audit_offline import OfflineLog
from tests.policy.audit_logs import SIGNER, to_lines
from tests.storage.written_log import ANCHORED, SIZE, START, Written, append, export, sign, zipped

ADMIN = AuditEvent.model_validate(
    {"time": START, "verb": "audit.erase", "subject": {"name": "grace", "note": "asked to"}}
)


@pytest.fixture
def written(url: str, tmp_path: Path) -> Iterator[Written]:
    written = Written(url, tmp_path)
    yield written
    written.engine.dispose()


def kinds(verdict: Verdict) -> set[Kind]:
    return {found.kind for found in verdict.findings}


def test_untouched_erased_and_retired_logs_pass(written: Written) -> None:
    verdict = written.verify()
    assert verdict.findings == ()
    assert (verdict.size, verdict.anchored, verdict.outside, verdict.inside) == (
        SIZE,
        ANCHORED,
        2,
        3,
    )
    with written.log() as log:
        erased = asyncio.run(log.erase("user-8", authorised=ADMIN))
        retired = asyncio.run(log.retire(300, authorised=ADMIN))
        sign(log)
    assert erased.parts > 10
    assert retired.until == 256
    verdict = written.verify()
    assert verdict.findings == ()
    assert (verdict.retired, verdict.retired_by) == (256, SIZE + 2)
    assert 0 < sum(verdict.redacted.values()) < erased.parts  # the rest is retired
    assert set(verdict.redacted) == {SIZE + 1}
    assert len(verdict.warnings) == 2
    assert "not anchored yet" in verdict.warnings[0]


@pytest.mark.parametrize("at", [256.5, 1024.5, 1280.25])
@pytest.mark.parametrize("table", ["teams", "people"])
def test_a_row_for_no_whole_number_between_blocks_is_told(
    tmp_path: Path, table: str, at: float
) -> None:
    written = Written(f"sqlite:///{tmp_path}/test.sqlite", tmp_path)
    written.execute(f"INSERT INTO audit_{table} VALUES ('eve', {at})")
    found = {(one.kind, one.first) for one in written.verify(processes=2).findings}
    written.engine.dispose()
    assert found == {(Kind.INDEX, 0)}


@pytest.mark.parametrize("also", ["", "audit_contests", tables.VERSION_TABLE])
def test_without_the_mark_all_tables_are_still_compared(written: Written, also: str) -> None:
    written.execute("DROP TABLE audit_indexed")
    if also:
        written.execute(f"DROP TABLE {also}")
    written.execute("DELETE FROM audit_teams WHERE sequence = 303")
    found = {(one.kind, one.first) for one in written.verify().findings}
    assert {(Kind.INDEX, 0), (Kind.INDEX, 303)} <= found


@pytest.mark.parametrize("table", ["audit_contests", "audit_teams", "audit_verbs"])
def test_a_table_that_searches_go_along_was_taken_out(written: Written, table: str) -> None:
    written.execute(f"DROP TABLE {table}")
    assert [found.text for found in written.verify().findings] == [
        f"The table {table} was taken out."
    ]


TAMPERED = [
    ("UPDATE audit_events SET body = REPLACE(body, 'token', 'taken') WHERE sequence = 303", 303),
    ("UPDATE audit_events SET people = REPLACE(people, 'user', 'eve') WHERE sequence = 303", 303),
    ("UPDATE audit_events SET people = '' WHERE sequence = 303", 303),
    ("UPDATE audit_events SET people = '{}' WHERE sequence = 303", 303),
    ("DELETE FROM audit_events WHERE sequence = 303", 303),
    ("DELETE FROM audit_events WHERE sequence > 1100", 1101),
    ("DELETE FROM audit_events WHERE sequence <= 256", 1),
    ("DELETE FROM audit_events WHERE sequence <= 300", 1),
    ("DELETE FROM audit_events", 1),
    ("UPDATE audit_events SET team = 'other' WHERE sequence = 303", 303),
    ("UPDATE audit_events SET team = NULL WHERE sequence = 303", 303),
    ("UPDATE audit_events SET verb = 'logout' WHERE sequence = 303", 303),
    ("UPDATE audit_events SET stored_us = stored_us + 1 WHERE sequence = 303", 303),
    ("DELETE FROM audit_people WHERE sequence = 303", 303),
    ("UPDATE audit_people SET name = 'eve' WHERE sequence = 303", 303),
    ("INSERT INTO audit_people (name, sequence) VALUES ('eve', 303)", 303),
    ("DELETE FROM audit_people", 1),
    ("DELETE FROM audit_datasets WHERE sequence = 303", 303),
    ("UPDATE audit_datasets SET contest = 'lake' WHERE sequence = 303", 303),
    ("DELETE FROM audit_contests WHERE sequence = 303", 303),
    ("UPDATE audit_contests SET contest = 'lake' WHERE sequence = 303", 303),
    ("INSERT INTO audit_contests (contest, sequence) VALUES ('lake', 303)", 303),
    ("DELETE FROM audit_teams WHERE sequence = 303", 303),
    ("UPDATE audit_teams SET team = 'other' WHERE sequence = 303", 303),
    ("DELETE FROM audit_verbs WHERE sequence = 303", 303),
    ("UPDATE audit_verbs SET outcome = 'refused' WHERE sequence = 303", 303),
    ("UPDATE audit_verbs SET sequence = 1400 WHERE sequence = 303", 303),
    ("INSERT INTO audit_people (name, sequence) VALUES ('eve', 1301)", 1301),
    ("INSERT INTO audit_teams (team, sequence) VALUES ('other', -3)", 0),
    ("UPDATE audit_indexed SET upto = 1299", 1300),
    ("UPDATE audit_indexed SET upto = 1301", 0),
    ("UPDATE audit_indexed SET upto = -1", 0),
    ("INSERT INTO audit_indexed (upto) VALUES (1000)", 0),
    ("DELETE FROM audit_indexed", 0),
    ("DELETE FROM audit_tiles WHERE number = 1", 257),
    ("UPDATE audit_tiles SET hashes = (SELECT t.hashes FROM audit_tiles t WHERE t.number = 0)"
     " WHERE number = 1", 257),
    ("UPDATE audit_checkpoints SET note = REPLACE(note, '600', '601') WHERE size = 600", 0),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "event"), TAMPERED)
def test_tampering_by_sql_is_found(written: Written, statement: str, event: int) -> None:
    written.execute(statement)
    verdict = written.verify()
    first = verdict.first_bad
    assert first is not None
    assert first.first == event
    assert first.is_exact
    assert not written.verify(with_tiles=False).is_fine


INDEXED = ("contests", "teams", "verbs", "people", "datasets")


def move_mark(written: Written, to: int) -> None:
    """The mark and the tables as they are before the rows of later events are written."""
    for name in INDEXED:
        written.execute(f"DELETE FROM audit_{name} WHERE sequence > {to}")
    written.execute(f"UPDATE audit_indexed SET upto = {to}")


BEHIND = [
    ("UPDATE audit_events SET team = 'other' WHERE sequence = 1250", 1250),
    ("UPDATE audit_events SET verb = 'logout' WHERE sequence = 1250", 1250),
    ("UPDATE audit_events SET people = '' WHERE sequence = 1250", 1250),
    ("UPDATE audit_indexed SET upto = 1299", 1201),
    ("UPDATE audit_indexed SET upto = 1199", 1200),
    *(
        statement
        for name, values in (
            ("contests", "'sea'"),
            ("teams", "'ocean'"),
            ("verbs", "'login', 'failed'"),
            ("people", "'eve'"),
            ("datasets", "'sea', 'tides'"),
        )
        for statement in (
            (f"DELETE FROM audit_{name} WHERE sequence = (SELECT MAX(sequence) FROM audit_{name})",
             -1),
            (f"INSERT INTO audit_{name} VALUES ({values}, 1250)", 1250),
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "event"), BEHIND)
def test_tampering_on_both_sides_of_the_mark_is_found(
    written: Written, statement: str, event: int
) -> None:
    """Also where events have no rows yet; they are checked all the same."""
    move_mark(written, 1200)
    written.execute(statement)
    first = written.verify().first_bad
    assert first is not None
    assert first.is_exact
    assert first.first == event if event > 0 else 1180 < first.first <= 1200
    if written.engine.dialect.name == "sqlite":  # processes take long to start, and read alike
        assert first == written.verify(processes=2).first_bad


def test_a_mark_that_lies_behind_is_no_tampering(written: Written) -> None:
    move_mark(written, 1200)
    assert written.verify().findings == ()
    assert written.verify(processes=2).findings == ()


def test_a_mark_that_lies_far_back_is_told(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No event is hidden by it, and all searches are slow."""
    monkeypatch.setattr(audit_index, "BEHIND_MAX", 150)
    move_mark(written, SIZE - 150)
    assert written.verify().findings == ()
    move_mark(written, SIZE - 151)
    first = written.verify().first_bad
    assert first is not None
    assert (first.kind, first.first, first.last) == (Kind.INDEX, SIZE - 150, SIZE)
    assert "one by one" in first.text


def test_a_whole_rewrite_with_the_stolen_key(url: str, tmp_path: Path, written: Written) -> None:
    with TileFiles(written.anchor) as files:
        evidence = Evidence(SIGNER.verifier, files.notes(), [files.fetch])
        other = create_engine(f"sqlite:///{tmp_path}/other.sqlite")
        log = AuditLog(other, now=written.clock)
        log.open()
        append(log, 2, 1250)  # all but the first event; a gap that it tells of
        sign(log)
        log.close()
        other.dispose()
        false = f"sqlite:///{tmp_path}/other.sqlite"
        assert verify_database(false, Evidence(SIGNER.verifier)).is_fine
        first = verify_database(false, evidence).first_bad
        assert first is not None
        assert (first.kind, first.first) == (Kind.REWRITTEN, 1)


def test_what_is_in_a_database_may_be_anything(written: Written) -> None:
    written.execute("UPDATE audit_events SET body = :big WHERE sequence = 301", big="a" * 10**6)
    first = written.verify().first_bad
    assert first is not None
    assert (first.kind, first.first) == (Kind.FORM, 301)
    written.execute("UPDATE audit_events SET people = '[[[[' WHERE sequence = 300")
    assert Kind.PERSON in kinds(written.verify())
    written.execute("UPDATE audit_events SET sequence = 4000000000000 WHERE sequence = 1300")
    with pytest.raises(CannotCheckError, match="numbered up to 4000000000000"):
        written.verify()


@pytest.mark.parametrize(
    "statement",
    [
        *(
            f"UPDATE audit_events SET {column} = CAST({column} AS BLOB) WHERE sequence = 303"
            for column in ("contest", "team", "verb", "outcome")
        ),
        "UPDATE audit_people SET name = CAST(name AS BLOB) WHERE sequence = 303",
        "UPDATE audit_datasets SET contest = CAST(contest AS BLOB) WHERE sequence = 303",
        "UPDATE audit_datasets SET dataset = CAST(dataset AS BLOB) WHERE sequence = 303",
    ],
)
def test_a_text_kept_as_bytes_is_found_by_no_search_and_so_by_the_check(
    tmp_path: Path, statement: str
) -> None:
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)
    try:
        assert written.verify().is_fine
        written.execute(statement)
        first = written.verify().first_bad
        assert first is not None
        assert first.first == 303
    finally:
        written.engine.dispose()


def test_sqlite_keeps_no_types(tmp_path: Path) -> None:
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)
    try:
        for statement in (
            "UPDATE audit_events SET stored_us = 'soon' WHERE sequence = 301",
            "UPDATE audit_events SET body = x'ff00' WHERE sequence = 302",
            "UPDATE audit_events SET body = 7 WHERE sequence = 303",
            "UPDATE audit_events SET people = x'ff' WHERE sequence = 304",
            "UPDATE audit_events SET team = x'ff' WHERE sequence = 305",
            "UPDATE audit_tiles SET hashes = 'text' WHERE number = 0",
            "UPDATE audit_checkpoints SET note = 5",
            "UPDATE audit_people SET sequence = 'soon' WHERE sequence = 400",
            "UPDATE audit_teams SET sequence = 401.5 WHERE sequence = 401",
            "UPDATE audit_indexed SET upto = 1300",
        ):
            written.execute(statement)
        bad = {found.first for found in written.verify().findings}
        assert {0, 1, 301, 302, 303, 304, 305, 400, 401} <= bad
    finally:
        written.engine.dispose()


def test_lines_are_given_of_what_is_as_it_should_be(tmp_path: Path) -> None:
    """All else is read row by row; a text kept as bytes is found by no search."""
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)

    def lines() -> Lines | None:
        with OfflineLog(written.url) as log:
            assert len(log.rows(301, 10)) == 10
            return log.lines(301, 10)

    try:
        if sys.version_info < (3, 11):  # its sqlite3 cannot bound what is read
            assert lines() is None
            return
        found = lines()
        assert found is not None
        assert found.sequence == b"\n".join(b"%d" % number for number in range(301, 311))
        with OfflineLog(written.url) as log:
            rows = log.rows(301, 10)
            assert found == to_lines([Row._make(row) for row in rows], 10)
            assert log.lines(SIZE - 5, 10) is None
        for column in ("stored_us", "verb", "outcome", "body", "people", "contest", "team"):
            value = "x'61'" if column in ("contest", "team") else f"CAST({column} AS BLOB)"
            written.execute(f"UPDATE audit_events SET {column} = {value} WHERE sequence = 305")
            assert lines() is None
            back = f"CAST({column} AS TEXT)" if column != "stored_us" else "1"
            written.execute(f"UPDATE audit_events SET {column} = {back} WHERE sequence = 305")
            assert lines() is not None
        written.execute("UPDATE audit_events SET body = :big WHERE sequence = 305", big="a" * 2**25)
        with OfflineLog(written.url) as log:
            assert log.lines(301, 10) is None
    finally:
        written.engine.dispose()


def test_several_processes_find_the_same(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_verification, "SHARE_EVENTS", 1024)
    assert written.verify(processes=2) == written.verify()
    written.execute(
        "UPDATE audit_events SET body = REPLACE(body, 'token', 'taken') WHERE sequence = 303",
        "DELETE FROM audit_people WHERE sequence = 1101",
    )
    verdict = written.verify(processes=2)
    assert verdict == written.verify()
    assert {found.first for found in verdict.findings} >= {303, 1101}


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_rows_for_no_event_are_told_once(
    written: Written, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """Of each table before the log, between two shares of it, and after it."""
    monkeypatch.setattr(audit_verification, "SHARE_EVENTS", 1024)
    move_mark(written, 1290)
    for name, values in (("people", "'eve'"), ("teams", "'ocean'"), ("verbs", "'a', 'b'")):
        for sequence in (-3, 0, 1295, 1301):
            written.execute(f"INSERT INTO audit_{name} VALUES ({values}, {sequence})")
    found = written.verify(processes=processes)
    assert Counter(one.first for one in found.findings) == {0: 6, 1295: 3, 1301: 3}
    assert found.counts == {"index": 12}


@pytest.mark.parametrize("with_json", [True, False])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("kept", "event"), [("CAST(sequence AS BLOB)", 1299), ("sequence + 0.5", 0), ("'soon'", 0)]
)
def test_a_row_whose_number_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, event: int, *,
    with_json: bool, processes: int
) -> None:  # fmt: skip
    """Bytes read like the number that they stand for, and no search finds the event by them."""
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)
    connect = sqlite3.connect

    def without_json(*args: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*args, **named)
        connection.set_authorizer(
            lambda action, _, name, *__: int(action == 31 and name == "json_group_array")
        )
        return connection

    if not with_json:
        monkeypatch.setattr(audit_offline.sqlite3, "connect", without_json)
    try:
        assert written.verify(processes=processes).findings == ()
        last = "(SELECT MAX(sequence) FROM audit_people WHERE name = 'user-9')"
        written.execute(
            f"UPDATE audit_people SET sequence = {kept} WHERE name = 'user-9' AND sequence = {last}"
        )
        told = {found.first for found in written.verify(processes=processes).findings}
        assert 0 in told
        assert len(told) == 2
    finally:
        written.engine.dispose()


def test_only_as_many_events_as_needed_are_counted(written: Written) -> None:
    with OfflineLog(written.url) as log:
        assert (log.first, log.last) == (1, SIZE)
        assert [log.count(most) for most in (1, SIZE - 1, SIZE, SIZE + 1)] == [
            1,
            SIZE - 1,
            SIZE,
            SIZE,
        ]


def test_workers_wait_for_one_another(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they tell is bounded, also where one is far ahead."""
    whole = written.verify()
    monkeypatch.setattr(audit_verification, "SHARE_EVENTS", 1)  # so that each block is one
    monkeypatch.setattr(audit_verification, "_WAITING_MAX", 1)
    for processes in (2, 3):
        assert written.verify(processes=processes) == whole


@pytest.mark.parametrize("when", ["open", "ask"])
def test_a_worker_that_ends(written: Written, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    workers = audit_verification._Workers
    go_on = getattr(workers, when)

    def kill(self: Any, *args: Any) -> Any:
        self._processes[1].kill()
        self._processes[1].join()
        return go_on(self, *args)

    monkeypatch.setattr(workers, when, kill)
    with pytest.raises(PermanentError, match="--processes 1"):
        written.verify(processes=2)
    assert not multiprocessing.active_children()


def test_a_worker_that_cannot_read() -> None:
    with pytest.raises(PermanentError, match="no database"):
        verify_database("sqlite:////nowhere/audit.sqlite", Evidence(SIGNER.verifier), processes=2)
    assert not multiprocessing.active_children()


def test_a_service_that_writes_is_not_disturbed(written: Written) -> None:
    """Events, an erasure and a checkpoint between the look of the check and its reading."""
    with TileFiles(written.anchor) as files, written.log() as log:
        evidence = Evidence(SIGNER.verifier, files.notes(), [files.fetch])
        done = []

        def meanwhile(count: int, of: int) -> None:
            if not done:
                append(log, SIZE + 1, SIZE + 300)
                asyncio.run(log.erase("user-8", authorised=ADMIN))
                sign(log)
            done.append(count)

        with OfflineLog(written.url) as look:
            append(log, SIZE + 1, SIZE + 100)
            assert look.last == SIZE
            assert len(look.rows(SIZE - 10, 500)) == 11
        verdict = verify_database(written.url, evidence, progress=meanwhile)
    assert verdict.findings == ()
    assert verdict.size == SIZE + 100
    assert written.verify().is_fine


def test_a_copy_where_nothing_can_be_written(on_sqlite: Written, tmp_path: Path) -> None:
    """SQLite cannot make there what its readers share, and refuses to read."""
    with tempfile.TemporaryDirectory() as folder:  # not below one that only root may enter
        on_sqlite.engine.dispose()  # the last one to close writes all into the file
        copy = Path(folder) / "copy.sqlite"
        copy.write_bytes((tmp_path / "log.sqlite").read_bytes())
        copy.chmod(0o444)
        Path(folder).chmod(0o555)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # root may write anywhere
                with OfflineLog(f"sqlite:///{copy}") as log:
                    code = 0 if len(log.rows(1, 5)) == 5 else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        Path(folder).chmod(0o755)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nothing", "not the address of a database"),
        ("sqlite:////nowhere/audit.sqlite", "no database"),
        ("sqlite://", "no database"),
        ("mysql://host/audit", "SQLite and in PostgreSQL only"),
        ("postgresql+psycopg://nobody@localhost:1/none", "cannot be read as an audit log"),
    ],
)
def test_databases_that_are_none(url: str, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        OfflineLog(url)


def test_files_that_are_no_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.sqlite"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(PermanentError, match="cannot be read as an audit log"):
        OfflineLog(f"sqlite:///{path}")
    path.unlink()
    sqlite3.connect(path).close()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(PermanentError, match="cannot be read as an audit log"):
        OfflineLog(f"sqlite:///{path}")


def check_bundle(written: Written, path: Path, *, with_tiles: bool = True) -> Verdict:
    with TileFiles(written.anchor) as files, Bundle(path) as bundle:
        evidence = Evidence(SIGNER.verifier, files.notes(), [files.fetch] if with_tiles else [])
        return verify_bundle(bundle, evidence)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Iterator[Written]:
    written = Written(f"sqlite:///{tmp_path}/log.sqlite", tmp_path)
    yield written
    written.engine.dispose()


def test_bundles(on_sqlite: Written, tmp_path: Path) -> None:
    folder = export(on_sqlite, tmp_path)
    for path in (folder, zipped(folder)):
        verdict = check_bundle(on_sqlite, path)
        assert verdict.findings == ()
        assert (verdict.size, verdict.anchored) == (SIZE, ANCHORED)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)

    def tampered(changed: list[bytes]) -> tuple[Kind, int]:
        (folder / "events.jsonl").write_bytes(b"".join(changed))
        for with_tiles in (True, False):
            verdict = check_bundle(on_sqlite, folder, with_tiles=with_tiles)
            assert verdict.first_bad is not None
        first = check_bundle(on_sqlite, zipped(folder)).first_bad
        assert first is not None
        return first.kind, first.first

    assert (
        tampered([*lines[:300], lines[300].replace(b"server", b"sorver"), *lines[301:]])[1] == 301
    )
    assert tampered([*lines[:300], *lines[301:]]) == (Kind.MISSING, 301)
    assert tampered([*lines[:300], lines[299], *lines[300:]]) == (Kind.INSERTED, 301)
    swapped = [*lines[:300], lines[301], lines[300], *lines[302:]]
    assert tampered(swapped) == (Kind.REORDERED, 301)
    far = [*lines[:300], lines[700], *lines[301:700], lines[300], *lines[701:]]
    assert tampered(far)[1] == 301
    assert tampered(lines[:-1]) == (Kind.MISSING, SIZE)
    assert tampered(lines[:900]) == (Kind.MISSING, 901)
    assert tampered([*lines, lines[-1]]) == (Kind.INSERTED, SIZE + 1)
    assert tampered([*lines[:300], b"nothing\n", *lines[301:]])[1] == 301
    assert tampered([]) == (Kind.MISSING, 1)


def test_an_older_bundle_and_one_that_was_cut(on_sqlite: Written, tmp_path: Path) -> None:
    folder = export(on_sqlite, tmp_path)
    lines = (folder / "events.jsonl").read_bytes().splitlines(keepends=True)

    def cut_to(size: int) -> Verdict:
        (folder / "events.jsonl").write_bytes(b"".join(lines[:size]))
        manifest = Manifest("log", SIGNER.origin, size)
        (folder / "bundle.json").write_bytes(audit_bundle.manifest_file(manifest))
        for path in (folder / "checkpoints").iterdir():
            if int(path.name) > size:
                path.unlink()
        (folder / "checkpoint").write_text(on_sqlite.notes[0].text)
        return check_bundle(on_sqlite, folder)

    first = cut_to(700).first_bad
    assert first is not None
    assert (first.kind, first.first) == (Kind.CUT, 701)
    older = cut_to(600)  # of which the log once signed a head: as good as an older export
    assert older.findings == ()
    assert older.anchored == 600
    assert any("older than" in warning for warning in older.warnings)


def test_selections(on_sqlite: Written, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    folder.mkdir()
    note = on_sqlite.notes[1].text
    with on_sqlite.log() as log:
        tree = log.at(ANCHORED)
        wanted = [3, 17, 1199]
        events = [next(log.leaves(n - 1, n)) for n in wanted]
        paths = [make_inclusion_proof(n - 1, ANCHORED, tree.range_hash) for n in wanted]
    lines = [audit_bundle.event_line(event.body, event.people) for event in events]
    proofs = [audit_bundle.proof_line(n - 1, path) for n, path in zip(wanted, paths, strict=True)]
    manifest = Manifest("selection", SIGNER.origin, ANCHORED)
    (folder / "bundle.json").write_bytes(audit_bundle.manifest_file(manifest))
    (folder / "checkpoint").write_text(note)
    (folder / "events.jsonl").write_bytes(b"".join(lines))
    (folder / "proofs.jsonl").write_bytes(b"".join(proofs))
    verdict = check_bundle(on_sqlite, folder)
    assert (verdict.findings, verdict.selected, verdict.anchored) == ((), 3, ANCHORED)
    with Bundle(folder) as bundle:
        assert verify_bundle(bundle, Evidence(SIGNER.verifier)).warnings
        proof = prove_from_bundle(bundle, 17, SIGNER.verifier)
        assert check_proof(proof, SIGNER.verifier).size == ANCHORED
        with pytest.raises(UserError, match="no event 18"):
            prove_from_bundle(bundle, 18, SIGNER.verifier)
    for changed_lines, changed_proofs in (
        ([lines[0].replace(b"user", b"eve"), *lines[1:]], proofs),
        ([lines[1], lines[0], lines[2]], proofs),
        (lines, proofs[:2]),
        (lines[:2], proofs),
        ([*lines, b"x\n"], [*proofs, b"y\n"]),
    ):
        (folder / "events.jsonl").write_bytes(b"".join(changed_lines))
        (folder / "proofs.jsonl").write_bytes(b"".join(changed_proofs))
        assert not check_bundle(on_sqlite, folder).is_fine


def test_proofs_of_single_events(written: Written, tmp_path: Path) -> None:
    with OfflineLog(written.url) as log:
        for event in (1, 256, 257, 1200, SIZE):
            proof = prove_from_database(log, event, SIGNER.verifier)
            assert check_proof(proof, SIGNER.verifier).size == SIZE
        proof = prove_from_database(log, 5, SIGNER.verifier, written.notes)
        assert check_proof(proof, SIGNER.verifier).size == ANCHORED
        with pytest.raises(UserError, match="no checkpoint of this key over event 1250"):
            prove_from_database(log, 1250, SIGNER.verifier, written.notes)
        with pytest.raises(UserError, match="no event 9999"):
            prove_from_database(log, 9999, SIGNER.verifier)
    with Bundle(export(written, tmp_path)) as bundle:
        proof = prove_from_bundle(bundle, 257, SIGNER.verifier)
        assert check_proof(proof, SIGNER.verifier).size == SIZE
    written.execute("UPDATE audit_events SET body = REPLACE(body, 'o', 'x') WHERE sequence = 301")
    with (
        OfflineLog(written.url) as log,
        pytest.raises(PermanentError, match="cannot be proved"),
    ):
        prove_from_database(log, 301, SIGNER.verifier)


def test_hostile_bundles(on_sqlite: Written, tmp_path: Path) -> None:
    folder = export(on_sqlite, tmp_path)
    events = folder / "events.jsonl"
    good = events.read_bytes()

    def refused(words: str) -> None:
        for path in (folder, zipped(folder)):
            with pytest.raises((PermanentError, CannotCheckError), match=words):
                check_bundle(on_sqlite, path)

    events.write_bytes(b"a" * 10**6)
    refused("a line of more than")
    events.write_bytes(b"\n" * 10**6)
    refused("lines are no events")
    events.write_bytes(b"\xff\xfe" * 100 + b"\n" + good)
    assert not check_bundle(on_sqlite, folder).is_fine
    far = audit_bundle.event_line(b'{"sequence":4000000000,"stored":"x"}', {})
    events.write_bytes(good + far)
    refused("too many are missing")
    events.unlink()
    refused(r"has no events\.jsonl")
    for manifest in (b"", b"[]", b"{}", b"\xff", b'{"format":"other"}'):
        (folder / "bundle.json").write_bytes(manifest)
        refused("is no bundle")
    (folder / "bundle.json").unlink()
    refused("is no bundle")
    nothing = tmp_path / "nothing.zip"
    for data in (b"", b"PK\x05\x06" + b"\xff" * 18, b"PK\x03\x04" + bytes(100), os.urandom(1000)):
        nothing.write_bytes(data)
        with pytest.raises(PermanentError, match="cannot be read as a zip"):
            Bundle(nothing)
    with pytest.raises(PermanentError, match="no folder or zip"):
        Bundle(tmp_path / "missing")


def test_a_zip_bomb_takes_no_memory(on_sqlite: Written, tmp_path: Path) -> None:
    folder = export(on_sqlite, tmp_path)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("bundle.json", "checkpoint"):
            archive.write(folder / name, name)
        with archive.open("events.jsonl", "w") as file:
            for _ in range(64):
                file.write(bytes(1024 * 1024))
        with archive.open("tile/0/000", "w") as file:
            for _ in range(64):
                file.write(bytes(1024 * 1024))
    tracemalloc.start()
    with pytest.raises(PermanentError, match="a line of more than"):
        check_bundle(on_sqlite, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024


def test_wider_tiles_serve_for_narrower(on_sqlite: Written) -> None:
    with TileFiles(on_sqlite.anchor) as files:
        whole = files.fetch(Tile(0, 4, ANCHORED - 1024))
        assert whole is not None
        assert files.fetch(Tile(0, 4, 10)) == whole[:320]
        assert files.fetch(Tile(0, 0, 10)) == (files.fetch(Tile(0, 0)) or b"")[:320]
        assert files.fetch(Tile(0, 5)) is None
