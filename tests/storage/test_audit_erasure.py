"""Erasing a person and retiring events: gone for good, authorised in the log, the tree unhurt."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.models.audit_query import EventQuery, Scope
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from jupyterhub_collab.storage.audit_log import AuditLog

NOW = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
NAME = "zebediah-quillfeather"
ADMIN = Person(name="grace", roles=("admin of the hub",), note="asked for by letter")
WHY = AuditEvent(time=NOW, verb=Verb.AUDIT_ERASE, reason="asked", actor=ADMIN)
EVERYTHING = Scope(everything=True)


@pytest.fixture
def log(engine):
    log = AuditLog(engine, now=lambda: NOW)
    log.open()
    yield log
    log.close()


def make_batch(first, count, subjects, **more):
    numbers = range(first, first + count)
    sent = [
        SentEvent(
            sequence=n,
            event=AuditEvent(
                time=NOW,
                verb=Verb.DATASET_READ,
                contest="sea",
                datasets=("tides", "winds"),
                subject=Person(name=subjects[n % len(subjects)], address="10.9.8.7"),
                **more,
            ),
        )
        for n in numbers
    ]
    return SentBatch(incarnation="0" * 32, events=sent)


def people_of(name):
    return EventQuery(EVERYTHING, people=frozenset({name}))


def hashes_of(log, start=0):
    return [leaf_hash(event.body) for event in log.leaves(start, log.size)]


def count_rows(engine):
    with engine.connect() as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()
            for table in inspect(engine).get_table_names()
            if table.startswith("audit_")
        }


def is_in_files(engine, word):
    folder = Path(engine.url.database).parent
    return [path.name for path in folder.iterdir() if word.encode() in path.read_bytes()]


async def test_a_person_is_erased_from_each_part_and_nobody_else(log):
    await log.append("hub", make_batch(1, 9, [NAME, "ada", "eve"], actor=Person(name="grace")))
    await log.append_own(WHY.model_copy(update={"recipient": Person(name=NAME, note="by name")}))
    before = hashes_of(log)
    erased = await log.erase(NAME, authorised=WHY)
    assert (erased.events, erased.parts, erased.recorded) == (4, 4, (11,))
    assert hashes_of(log)[:10] == before
    assert log.frontier().root() == root_of(hashes_of(log))
    assert await log.read(people_of(NAME)) == ()
    assert len(await log.read(people_of("ada"))) == 3
    events = list(log.leaves(0, log.size))
    assert NAME not in repr([event.people for event in events])
    assert [sorted(event.people) for event in events[:3]] == [
        ["actor", "subject"],
        ["actor", "subject"],
        ["actor"],
    ]
    record = json.loads(events[-1].body)
    assert record["verb"] == "audit.erase"
    assert record["details"]["sequences"] == ["3:subject", "6:subject", "9:subject", "10:recipient"]
    assert events[-1].people["actor"]["value"]["name"] == "grace"
    again = await log.erase(NAME, authorised=WHY)
    assert (again.events, again.recorded, log.size) == (0, (), 11)


async def test_who_erases_themself_is_not_named_by_it(log):
    await log.append("hub", make_batch(1, 1, ["grace"]))
    await log.erase("grace", authorised=WHY)
    assert "grace" not in repr([event.people for event in log.leaves(0, 2)])
    assert await log.read(people_of("grace")) == ()


async def test_much_is_erased_in_events_that_stay_small(log):
    more = {"actor": Person(name=NAME), "recipient": Person(name=NAME)}
    for first in range(1, 801, 400):
        await log.append("hub", make_batch(first, 400, [NAME], **more))
    erased = await log.erase(NAME, authorised=WHY)
    assert (erased.events, erased.parts, erased.recorded) == (800, 2400, (801, 802, 803))
    records = list(log.leaves(800, 803))
    named = [text for r in records for text in json.loads(r.body)["details"]["sequences"]]
    assert len(set(named)) == 2400
    assert max(len(record.body) for record in records) < 32 * 1024


async def test_the_bytes_are_gone_from_the_files(tmp_path):
    """Control: they are there before, and a part of a name would be found."""
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = AuditLog(engine, now=lambda: NOW)
    log.open()
    note = Person(name=NAME, note="n" * 1000, agent="zebediah's own browser" * 40)
    for first in range(1, 601, 100):
        batch = make_batch(first, 100, [NAME, "ada"], actor=note if first > 300 else None)
        await log.append("hub", batch)
    assert is_in_files(engine, NAME)
    salts = [event.people["subject"]["salt"] for event in log.leaves(0, 2)]
    erased = await log.erase(NAME, authorised=WHY)
    assert erased.is_overwritten
    for word in (NAME, "quillf", "zebediah's"):
        assert is_in_files(engine, word) == []
    assert [bool(is_in_files(engine, salt)) for salt in salts] == [True, False]
    log.close()
    engine.dispose()


async def test_a_reader_in_the_way_is_told_and_the_bytes_go_later(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = AuditLog(engine, now=lambda: NOW)
    log.open()
    await log.append("hub", make_batch(1, 50, [NAME]))
    with engine.connect() as reader:
        reader.exec_driver_sql("BEGIN")
        reader.execute(text("SELECT count(*) FROM audit_events")).all()
        erased = await log.erase(NAME, authorised=WHY)
        assert erased.parts == 50
        assert not erased.is_overwritten
        assert is_in_files(engine, NAME)
    await log.append("hub", make_batch(51, 1, ["ada"]))
    assert is_in_files(engine, NAME) == []
    log.close()
    engine.dispose()


@pytest.mark.parametrize("name", ["", "x"])
async def test_an_erasure_that_cannot_be_told_is_not_begun(log, name):
    await log.append("hub", make_batch(1, 1, ["x"]))
    large = WHY.model_copy(update={"details": {"x": "y" * 5000}})
    with pytest.raises(ValueError):
        await log.erase(name, authorised=large)
    assert len(await log.read(people_of("x"))) == 1


async def test_whole_tiles_are_retired_and_the_tree_stays(engine, log):
    for first in range(1, 701, 100):
        await log.append("hub", make_batch(first, 100, ["ada", NAME]))
    leaves, old_root = hashes_of(log), log.frontier().root()
    retired = await log.retire(600, authorised=WHY)
    assert (retired.events, retired.until, retired.recorded) == (512, 512, (701,))
    assert [event.sequence for event in log.leaves(0, log.size)] == list(range(513, 702))
    record = json.loads(next(log.leaves(700, 701)).body)
    assert record["verb"] == "audit.retire"
    assert record["details"] == {"first": 1, "until": 512}
    assert log.at(700).frontier().root() == old_root == root_of(leaves)
    rows = count_rows(engine)
    assert (rows["audit_events"], rows["audit_people"], rows["audit_datasets"]) == (189, 189, 376)
    assert rows["audit_tiles"] == 2
    assert (await log.retire(600, authorised=WHY)).events == 0
    await log.add_checkpoint(700, f"x\n700\n{_base64(old_root)}\n")
    log.close()
    again = AuditLog(engine, now=lambda: NOW)
    again.open()
    assert again.size == 701
    assert again.frontier().root() == root_of([*leaves, *hashes_of(again, 700)])
    assert (await again.append("hub", make_batch(700, 2, ["ada"]))).first == 702
    again.close()


async def test_much_is_retired_bit_by_bit(engine, log, monkeypatch):
    monkeypatch.setattr("jupyterhub_collab.storage.audit_erasure.RETIRED_AT_ONCE", 256)
    for first in range(1, 1025, 128):
        await log.append("hub", make_batch(first, 128, ["ada"]))
    retired = await log.retire(10**9, authorised=WHY)
    assert (retired.events, retired.until, retired.recorded) == (
        1024,
        1024,
        (1025, 1026, 1027, 1028),
    )
    assert await log.read(people_of("ada")) == ()
    assert [event.sequence for event in log.leaves(0, log.size)] == [1025, 1026, 1027, 1028]


def _base64(data):
    return base64.b64encode(data).decode()
