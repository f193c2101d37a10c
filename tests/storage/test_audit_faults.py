"""Faults of the audit log's database: nothing acknowledged is lost, nothing is half done."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import NullPool, create_engine, event, text

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from jupyterhub_collab.storage import audit_log
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.database import DatabaseError
from tests.storage.test_audit_index import check_tables

NOW = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[2]


def make_batch(numbers, incarnation="0" * 32, **more):
    sent = [
        SentEvent(sequence=n, event=AuditEvent(time=NOW, verb=Verb.LOGIN, thing=f"t{n}", **more))
        for n in numbers
    ]
    return SentBatch(incarnation=incarnation, events=sent)


def open_log(engine, **how):
    """What searches go along is written when it is closed: no fault hits that instead of events."""
    log = AuditLog(engine, now=lambda: NOW, **{"index_after_s": 10**6, **how})
    log.open()
    return log


@pytest.fixture
def log(engine):
    log = open_log(engine)
    yield log
    log.close()


def check_whole(log):
    events = list(log.leaves(0, log.size))
    assert [event.sequence for event in events] == list(range(1, log.size + 1))
    assert log.frontier().root() == root_of(leaf_hash(event.body) for event in events)
    return [json.loads(event.body) for event in events]


class Commits:
    """Makes commits fail: before they happen, or after they did."""

    def __init__(self, engine):
        self.fails, self._do = "", engine.dialect.do_commit
        engine.dialect.do_commit = self._commit

    def _commit(self, connection):
        fails = ""
        if connection.in_transaction:  # else it only read
            fails, self.fails = self.fails, ""
        error = sqlite3.OperationalError("disk I/O error")
        if fails == "before":
            raise error
        self._do(connection)
        if fails == "after":
            raise error


async def test_a_commit_that_fails_leaves_nothing_and_one_whose_answer_is_lost_is_known(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = open_log(engine)
    await log.append("hub", make_batch([1]))
    commits = Commits(engine)
    root = log.frontier().root()
    for fails, stored in (("before", 1), ("after", 3)):
        commits.fails = fails
        with pytest.raises(DatabaseError, match="cannot be written"):
            await log.append("hub", make_batch([2, 3]))
        assert (log.size, log.frontier().root()) == (1, root)
        with engine.connect() as other:
            assert other.execute(text("SELECT count(*) FROM audit_events")).scalar() == stored
    again = await log.append("hub", make_batch([2, 3, 4]))
    assert (again.first, again.last, again.acknowledged) == (4, 4, 4)
    check_whole(log)
    log.close()
    engine.dispose()


async def test_a_full_disk_takes_nothing_and_it_goes_on_when_there_is_room(tmp_path, caplog):
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite", poolclass=NullPool)
    pages = 10**6

    @event.listens_for(engine, "connect")
    def limit(connection, _):
        connection.execute(f"PRAGMA max_page_count={pages}")

    log = open_log(engine)
    await log.append("hub", make_batch(range(1, 301)))
    with engine.connect() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar() + 20
    log.close()
    log = open_log(engine)
    first, error = 301, None
    while error is None and first < 5000:
        try:
            await log.append("hub", make_batch(range(first, first + 100)))
            first += 100
        except DatabaseError as e:
            error = e
    assert "OperationalError" in str(error)
    for _ in range(3):
        with pytest.raises(DatabaseError):
            await log.append("hub", make_batch(range(first, first + 100)))
    assert caplog.text.count("not stored") == 1
    assert log.size == first - 1
    check_whole(log)
    pages = 10**6
    assert (await log.append("hub", make_batch(range(first, first + 100)))).first == first
    assert "stored again" in caplog.text
    check_whole(log)
    log.close()
    engine.dispose()


async def test_one_event_that_no_database_takes_does_not_take_the_others(log):
    batches = [make_batch([1], f"{n:032x}") for n in range(9)]
    bad = SentEvent.model_construct(
        sequence=1,
        late=False,
        event=batches[0].events[0].event.model_copy(update={"thing": "\ud800"}),
    )
    batches[4] = SentBatch.model_construct(incarnation="4" * 32, events=(bad,))
    done = await asyncio.gather(
        *(log.append("hub", batch) for batch in batches), return_exceptions=True
    )
    assert [type(one).__name__ for one in done].count("Appended") == 8
    assert isinstance(done[4], UnicodeEncodeError)
    assert len(check_whole(log)) == 8


async def test_a_database_that_hangs_is_told_in_time_and_nothing_is_stored_twice(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = open_log(engine, timeout_s=0.3)
    await log.append("hub", make_batch([1]))
    hog = sqlite3.connect(tmp_path / "audit.sqlite", isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseError, match=r"no answer in 0\.3 s"):
        await log.append("hub", make_batch([2]))
    hog.execute("ROLLBACK")
    hog.close()
    for _ in range(50):
        try:
            await log.append("hub", make_batch([2, 3]))
            break
        except DatabaseError:
            continue
    assert [body["emitterSequence"] for body in check_whole(log)] == [1, 2, 3]
    log.close()
    engine.dispose()


async def test_too_many_that_wait_are_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(audit_log, "WAITING_MAX", 4)
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = open_log(engine)
    hog = sqlite3.connect(tmp_path / "audit.sqlite", isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    waiting = [
        asyncio.create_task(log.append("hub", make_batch([1], f"{n:032x}"))) for n in range(6)
    ]
    for task in waiting[4:]:
        with pytest.raises(DatabaseError, match="Too many"):
            await task
    hog.execute("ROLLBACK")
    hog.close()
    await asyncio.gather(*waiting[:4])
    assert len(check_whole(log)) == 4
    # One batch larger than all that may wait is taken when nothing waits.
    await log.append("hub", make_batch(range(1, 10), "f" * 32))
    log.close()
    with pytest.raises(DatabaseError, match="closed"):
        await log.append("hub", make_batch([2]))
    engine.dispose()


def test_who_waits_in_another_loop_is_answered_there(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = open_log(engine)
    hog = sqlite3.connect(tmp_path / "audit.sqlite", isolation_level=None)
    hog.execute("BEGIN IMMEDIATE")
    asked, wrong, done = threading.Semaphore(0), [], []

    async def ask(incarnation):
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: wrong.append(context))
        tasks = [
            asyncio.create_task(log.append("hub", make_batch([1], f"{incarnation}{n:031x}")))
            for n in range(3)
        ]
        await asyncio.sleep(0)
        asked.release()
        done.extend(await asyncio.gather(*tasks))

    # In its debug mode a loop refuses what another thread does to its futures.
    threads = [
        threading.Thread(target=lambda n=n: asyncio.run(ask(n), debug=True), daemon=True)
        for n in range(2)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert asked.acquire(timeout=5)
    hog.execute("ROLLBACK")
    hog.close()
    for thread in threads:
        thread.join(10)
    assert wrong == []
    assert sorted(one.first for one in done) == [1, 2, 3, 4, 5, 6]
    log.close()
    engine.dispose()


async def test_a_waiter_that_gives_up_hurts_nobody(log):
    waiting = [
        asyncio.create_task(log.append("hub", make_batch([1], f"{n:032x}"))) for n in range(20)
    ]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(one.acknowledged == 1 for one in done[1::2])
    check_whole(log)


async def test_a_query_under_way_does_not_hold_the_writer_up(engine, log):
    await log.append("hub", make_batch([1]))
    with engine.connect() as reader:
        assert reader.execute(text("SELECT count(*) FROM audit_events")).scalar() == 1
        for n in range(2, 20):
            await log.append("hub", make_batch([n]))


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_a_server_that_drops_its_connections_loses_nothing(engine, log):
    await log.append("hub", make_batch([1]))
    other = create_engine(engine.url)
    drop = text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    )

    def end_writer():
        with other.begin() as connection:
            assert connection.execute(drop).all()

    end_writer()
    assert (await log.append("hub", make_batch([2]))).first == 2
    # Whoever takes the lock meanwhile has it; the first goes on behind it, when it is free.
    end_writer()
    second = open_log(other)
    await second.append("hub", make_batch([3]))
    with pytest.raises(DatabaseError, match="Another process"):
        await log.append("hub", make_batch([3, 4]))
    second.close()
    more = await log.append("hub", make_batch([3, 4]))
    assert (more.first, more.acknowledged) == (4, 4)
    check_whole(log)
    other.dispose()


CHANGES = {
    "the tail is cut": "DELETE FROM audit_events WHERE sequence > 590",
    "an event of the end is gone": "DELETE FROM audit_events WHERE sequence = 595",
    "an event of the end is changed": (
        "UPDATE audit_events SET body = replace(body, 't595', 't596') WHERE sequence = 595"
    ),
    "a tile is gone": "DELETE FROM audit_tiles WHERE number = 0",
    "a tile is changed": "UPDATE audit_tiles SET hashes = (SELECT t.hashes FROM audit_tiles AS t "
    "WHERE t.number = 1) WHERE number = 0",
    "the checkpoint is changed": "UPDATE audit_checkpoints SET note = replace(note, '600', '599')",
    "the checkpoint is none": "UPDATE audit_checkpoints SET note = 'x'",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_log_that_was_changed_while_it_was_closed_is_not_opened(engine, change):
    log = open_log(engine)
    for first in range(1, 601, 200):
        await log.append("hub", make_batch(range(first, first + 200)))
    head = base64.b64encode(log.frontier().root()).decode()
    await log.add_checkpoint(600, f"sea/audit\n600\n{head}\ntime x\n\n")
    log.close()
    open_log(engine).close()  # control
    with engine.begin() as connection:
        connection.execute(text(CHANGES[change]))
    with pytest.raises(PermanentError, match="audit verify"):
        open_log(engine)
    with engine.connect() as connection:  # and the lock is free
        connection.execute(text("SELECT 1"))


PROGRAM = """
import asyncio, sys
from datetime import datetime, timezone
from sqlalchemy import create_engine
from jupyterhub_collab.storage.audit_log import AuditLog
from tests.storage.test_audit_faults import make_batch

async def main():
    log = AuditLog(create_engine(sys.argv[1]), now=lambda: datetime.now(timezone.utc))
    log.open()
    async def write(emitter):
        for n in range(1, 100_000):
            done = await log.append(emitter, make_batch([n], sys.argv[2]))
            print(emitter, done.acknowledged, flush=True)
    await asyncio.gather(*(write(f"e{i}") for i in range(8)))

asyncio.run(main())
"""


def test_what_a_killed_process_acknowledged_is_there(url, engine):
    acknowledged: dict[tuple[str, str], int] = {}
    for number in range(4):
        incarnation = f"{number:032x}"
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, url, incarnation],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(40 + 397 * number)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        for line in lines:
            if line.endswith("\n") and line.strip():
                emitter, last = line.split()
                acknowledged[emitter, incarnation] = int(last)
        log = None
        for _ in range(100):  # PostgreSQL frees the lock once it sees that the process is gone
            try:
                log = open_log(engine)
                break
            except PermanentError:
                threading.Event().wait(0.05)
        assert log is not None
        bodies = check_whole(log)
        assert log.indexed == log.size
        check_tables(engine, log)
        log.close()
        there: dict[tuple[str, str], list[int]] = {}
        for body in bodies:
            key = body["emitter"], body["incarnation"]
            there.setdefault(key, []).append(body["emitterSequence"])
        for key, last in acknowledged.items():
            assert there[key][:last] == list(range(1, last + 1))
        for numbers in there.values():
            assert numbers == list(range(1, len(numbers) + 1))
    assert len(acknowledged) == 32


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("append"),
            st.sampled_from(["hub", "gateway"]),
            st.sampled_from(["0" * 32, "1" * 32]),
            st.integers(1, 40),
            st.integers(1, 120),
            st.sampled_from(["", "", "before", "after"]),
        ),
        st.tuples(st.just("at once"), st.integers(2, 12)),
        st.tuples(st.just("own")),
        st.tuples(st.just("index after"), st.sampled_from([1, 30, 10**6])),
        st.tuples(st.just("reopen")),
        st.tuples(st.just("clock"), st.integers(-7200, 7200)),
    ),
    min_size=3,
    max_size=25,
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_any_course_of_events_gives_one_log_without_gaps(steps, tmp_path_factory):
    path = tmp_path_factory.mktemp("audit") / "audit.sqlite"
    asyncio.run(follow(f"sqlite:///{path}", steps))


async def follow(url, steps):
    """Emitters send from where they were acknowledged, from before it, or after it."""
    engine = create_engine(url)
    commits = Commits(engine)
    now = NOW

    index_events = 60

    def open_again():
        log = AuditLog(engine, now=lambda: now, index_events=index_events, index_after_s=10**6)
        log.open()
        assert log.indexed == log.size
        return log

    log = open_again()
    acknowledged: dict[tuple[str, str], int] = {}
    missing: list[tuple[str, str, int, int]] = []
    others = 0
    for what, *more in steps:
        if what == "append":
            emitter, incarnation, first, count, fails = more
            commits.fails = fails
            numbers = range(first, first + count)
            try:
                done = await log.append(emitter, make_batch(numbers, incarnation))
            except DatabaseError:
                assert fails
                done = await log.append(emitter, make_batch(numbers, incarnation))
            commits.fails = ""
            assert done.acknowledged >= numbers[-1]
            if done.missing:
                assert done.missing.stop == first
                assert done.missing.start > acknowledged.get((emitter, incarnation), 0)
            acknowledged[emitter, incarnation] = done.acknowledged
            last = acknowledged.get((emitter, incarnation), 0)
            assert last == done.acknowledged
        elif what == "at once":
            batches = [make_batch([1, 2], f"{others + n:032x}") for n in range(more[0])]
            await asyncio.gather(*(log.append("many", batch) for batch in batches))
            others += more[0]
        elif what == "own":
            await log.append_own(AuditEvent(time=now, verb=Verb.AUDIT_START))
        elif what in ("reopen", "index after"):
            index_events = more[0] if more else index_events
            log.close()
            log = open_again()
        else:
            now += timedelta(seconds=more[0])
    bodies = check_whole(log)
    log.close()
    assert log.indexed == log.size
    check_tables(engine, log)
    engine.dispose()
    assert [body["stored"] for body in bodies] == sorted(body["stored"] for body in bodies)
    numbers: dict[tuple[str, str], list[int]] = {}
    for body in bodies:
        numbers.setdefault((body["emitter"], body["incarnation"]), []).append(
            body["emitterSequence"]
        )
        if body["verb"] == "audit.gap":
            details = body["details"]
            missing.append(tuple(details[k] for k in ("emitter", "incarnation", "first", "last")))
    told: dict[tuple[str, str], set[int]] = {}
    for emitter, incarnation, first, last in missing:
        told.setdefault((emitter, incarnation), set()).update(range(first, last + 1))
    for key, found in numbers.items():
        assert found == sorted(set(found))
        assert set(found) | told.get(key, set()) == set(range(1, found[-1] + 1))
        assert not set(found) & told.get(key, set())
        if key in acknowledged:
            assert found[-1] == acknowledged[key]


def test_people_of_any_text_are_kept_as_they_are(tmp_path):
    """Both what is hashed and what is kept beside it survive the database to the byte."""
    engine = create_engine(f"sqlite:///{tmp_path}/audit.sqlite")
    log = open_log(engine)
    names = ["é", "日本", "a'b\"c\\", "\u2028", "x" * 1000, "\U0001f600", "<script>"]

    async def store():
        for number, name in enumerate(names, 1):
            await log.append("hub", make_batch([number], subject=Person(name=name)))

    asyncio.run(store())
    found = [event.people["subject"]["value"]["name"] for event in log.leaves(0, log.size)]
    assert found == names
    check_whole(log)
    log.close()
    engine.dispose()
