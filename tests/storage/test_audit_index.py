"""What searches go along is written behind the events: nothing is missed, doubled or left over."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.models.audit_query import EventQuery, Scope
from jupyterhub_collab.storage import audit_behind
from jupyterhub_collab.storage import audit_tables as tables
from jupyterhub_collab.storage.audit_behind import Behind
from jupyterhub_collab.storage.audit_index import INDEX_TABLES
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.audit_writer import Writer
from jupyterhub_collab.storage.database import DatabaseError

NOW = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[2]
TEAMS, NAMES = ["ocean", "reef", "cloud"], ["ada", "grace", 'o"é\\', "\U0001f600"]
EVERYTHING = Scope(everything=True)
NEVER = {"index_events": 10**9, "index_after_s": 10**6}  # but when the log is closed


@cache
def make_event(number: int) -> AuditEvent:
    chance = random.Random(number)
    names = chance.sample([*NAMES, ""], 2)
    return AuditEvent(
        time=NOW,
        verb=chance.choice([Verb.LOGIN, Verb.DATASET_READ, Verb.AUDIT_START]),
        contest=chance.choice(["sea", None]),
        team=chance.choice([*TEAMS, None]),
        datasets=chance.choice([(), ("tides",), ("tides", "winds", "tides")]),
        details={"datasets": "none", "name": "nobody", "other": ("sequence", "\x01\u2028")},
        subject=Person(name=names[0]) if number % 5 else None,
        actor=Person(name=names[1], note="x") if number % 3 == 0 else None,
        recipient=Person(name=names[0]) if number % 7 == 0 else None,
    )


def make_batch(numbers: range) -> SentBatch:
    events = tuple(SentEvent(sequence=n, event=make_event(n)) for n in numbers)
    return SentBatch(incarnation="0" * 32, events=events)


def open_log(engine: Engine, **how: float) -> AuditLog:
    log = AuditLog(engine, now=lambda: NOW, **how)  # type: ignore[arg-type]
    log.open()
    return log


@pytest.fixture
def behind(engine: Engine) -> Iterator[AuditLog]:
    """A log of 500 events, of which 300 have rows."""
    log = open_log(engine, **NEVER)
    asyncio.run(log.append("hub", make_batch(range(1, 301))))
    log.close()
    log = open_log(engine, **NEVER)
    asyncio.run(log.append("hub", make_batch(range(301, 501))))
    assert (log.indexed, log.size) == (300, 500)
    yield log
    log.close()


def rows_of(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    """What stands in each table."""
    with engine.connect() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(*table.columns))))
            for table in INDEX_TABLES
        }


def check_tables(engine: Engine, log: AuditLog) -> None:
    """Each table has exactly what the events up to the mark say, and the emitters are known."""
    wanted: dict[str, set[tuple[object, ...]]] = {table.name: set() for table in INDEX_TABLES}
    for stored in log.leaves(0, log.indexed):
        body, at = json.loads(stored.body), stored.sequence
        contest = body.get("contest")
        wanted["audit_verbs"].add((body["verb"], body["outcome"], at))
        if contest:
            wanted["audit_contests"].add((contest, at))
        if "team" in body:
            wanted["audit_teams"].add((body["team"], at))
        for dataset in body.get("datasets", ()):
            wanted["audit_datasets"].add((contest or "", dataset, at))
        for kept in stored.people.values():
            if name := kept["value"].get("name"):
                wanted["audit_people"].add((name, at))
    assert rows_of(engine) == {name: sorted(rows) for name, rows in wanted.items()}
    with engine.connect() as connection:
        assert connection.execute(select(tables.indexed.c.upto)).scalars().all() == [log.indexed]


def is_of(query: EventQuery, number: int) -> bool:
    said = make_event(number)
    people = {who.name for who in (said.subject, said.actor, said.recipient) if who}
    scope = query.scope
    return (scope.everything or said.team in scope.teams or scope.person in people) and (
        (scope.everything or said.verb is not Verb.AUDIT_START)
        and (not query.people or bool(people & query.people))
        and (not query.datasets or (said.contest == "sea" and "tides" in said.datasets))
    )


QUERIES = [
    EventQuery(EVERYTHING),
    EventQuery(Scope(teams=frozenset({"ocean"}))),
    EventQuery(Scope(teams=frozenset({"reef"}), person="ada")),
    EventQuery(EVERYTHING, people=frozenset({'o"é\\'})),
    EventQuery(EVERYTHING, datasets=frozenset({("sea", "tides")}), people=frozenset({"grace"})),
]


@pytest.mark.parametrize("index_events", [1, 7, 60])
async def test_no_event_is_missed_or_doubled_at_the_mark_while_it_moves(engine, index_events):
    """Readers page both ways while events come and rows are written behind them."""
    log = open_log(engine, index_events=index_events, index_after_s=10**6)
    count, chance, marks, tails = 600, random.Random(3), set(), 0

    async def write() -> None:
        at = 1
        while at <= count:
            upto = min(count, at + chance.randrange(20))
            await log.append("hub", make_batch(range(at, upto + 1)))
            at = upto + 1

    async def look_back(query: EventQuery) -> None:
        nonlocal tails
        while (size := log.size) < count:
            marks.add(log.indexed)
            tails += log.indexed < log.size
            before, limit = chance.randint(1, size + 1), chance.randint(1, 50)
            found = await log.read(query, before=before, limit=limit)
            wanted = [n for n in range(before - 1, 0, -1) if is_of(query, n)][:limit]
            assert [one.sequence for one in found] == wanted

    async def follow(query: EventQuery) -> None:
        seen: list[int] = []
        while (size := log.size) < count or not seen or seen[-1] < last_of(query, count):
            after = seen[-1] if seen else 0
            page = await log.read(query, after=after, limit=chance.randint(1, 50))
            seen += [one.sequence for one in page]
            if not page:
                assert last_of(query, size) <= after
                await asyncio.sleep(0)
        assert seen == [n for n in range(1, count + 1) if is_of(query, n)]

    def last_of(query: EventQuery, upto: int) -> int:
        return max((n for n in range(1, upto + 1) if is_of(query, n)), default=0)

    readers = [work(query) for query in QUERIES for work in (look_back, follow)]
    await asyncio.gather(write(), *readers)
    log.close()
    assert log.indexed == count
    check_tables(engine, log)
    assert len(marks) > 2  # control: it moved meanwhile
    assert tails or index_events == 1


async def test_rows_come_after_some_events_or_some_time(engine):
    log = open_log(engine, index_events=10, index_after_s=10**6)
    await log.append("hub", make_batch(range(1, 10)))
    await log.append_own(make_event(1))  # behind the first in the thread
    assert log.size == 10
    log.close()
    assert log.indexed == 10
    log = open_log(engine, index_events=10**6, index_after_s=0.01)
    await log.append("hub", make_batch(range(10, 12)))
    for _ in range(6000):
        if log.indexed == log.size:
            break
        await asyncio.to_thread(threading.Event().wait, 0.01)
    assert log.indexed == 11 + 1
    check_tables(engine, log)
    log.close()


async def test_what_is_written_behind_is_found_before_and_after(behind, engine):
    for query in QUERIES:
        found = await behind.read(query, limit=1000)
        wanted = [n for n in range(500, 0, -1) if is_of(query, n)]
        assert [one.sequence for one in found] == wanted
    check_tables(engine, behind)
    behind.close()
    assert behind.indexed == 500
    check_tables(engine, behind)


async def test_a_host_of_many_contests_asks_for_many_people(behind):
    """SQLite takes no thousand parts of one OR."""
    hosted = frozenset({"sea", *(f"contest-{n}" for n in range(40))})
    names = frozenset({"ada", *(f"user-{n}" for n in range(60))})
    query = EventQuery(Scope(contests=hosted), people=names)
    wanted = [
        n
        for n in range(500, 0, -1)
        if make_event(n).contest and is_of(EventQuery(EVERYTHING, people=names), n)
    ]
    assert [one.sequence for one in await behind.read(query, limit=1000)] == wanted
    asked = EventQuery(query.scope, people=names, contests=frozenset({"sea", "elsewhere"}))
    assert [one.sequence for one in await behind.read(asked, limit=1000)] == wanted
    nothing = EventQuery(query.scope, people=names, contests=frozenset({"elsewhere"}))
    assert await behind.read(nothing) == ()


async def test_nothing_of_an_erased_person_is_left_before_the_mark_comes(behind, engine):
    """Events without rows name them, and get none afterwards."""
    named = [n for n in range(1, 501) if is_of(QUERIES[3], n)]
    assert any(n > behind.indexed for n in named)
    erased = await behind.erase('o"é\\', authorised=make_event(5))
    assert erased.events == len(named)
    assert await behind.read(QUERIES[3], limit=1000) == ()
    behind.close()
    check_tables(engine, behind)
    assert not [row for row in rows_of(engine)["audit_people"] if row[0] == 'o"é\\']


async def test_what_is_retired_gets_no_rows_afterwards(behind, engine):
    await behind.append("hub", make_batch(range(501, 521)))
    retired = await behind.retire(600, authorised=make_event(5))
    assert (retired.events, retired.until) == (512, 512)
    behind.close()
    assert min(row[-1] for rows in rows_of(engine).values() for row in rows) == 513
    check_tables(engine, behind)


async def test_what_is_held_is_not_retired_whatever_its_table_says(behind, engine):
    first = next(n for n in range(257, 501) if make_event(n).contest == "sea")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_contests WHERE sequence <= 512"))
        change = "UPDATE audit_events SET contest = NULL WHERE sequence <= 256"
        connection.execute(text(change))
    hold = frozenset({"sea"})
    await behind.append("hub", make_batch(range(501, 521)))
    retired = await behind.retire(512, authorised=make_event(5), hold=hold)
    assert (retired.events, retired.until) == (256, 256)
    assert (await behind.retire(512, authorised=make_event(5), hold=hold)).events == 0
    found = await behind.read(EventQuery(EVERYTHING), after=0, limit=1)
    assert found[0].sequence == 257 <= first


PROGRAM = """
import asyncio, os, signal, sys
from sqlalchemy import create_engine, event
from tests.storage.test_audit_index import NEVER, make_batch, open_log

engine = create_engine(sys.argv[1])
log = open_log(engine, **{**NEVER, "index_events": 40})
asyncio.run(log.append("hub", make_batch(range(1, 31))))
left = int(sys.argv[2])

def count(connection, cursor, statement, *more):
    global left
    if "INTO audit_events" in statement or "INTO audit_tiles" in statement:
        return
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

event.listen(engine, "before_cursor_execute", count)
do_commit = engine.dialect.do_commit

def commit(connection):
    count(None, None, "")
    do_commit(connection)
    count(None, None, "")

engine.dialect.do_commit = commit
done = asyncio.run(log.append("hub", make_batch(range(31, 51))))
print(done.acknowledged, flush=True)
log.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize("place", [1, 2, 3, 5, 8, 9, 10, 11])
def test_killed_anywhere_between_events_and_rows_opening_writes_the_rest(url, place):
    """Commits of the events count, too: at places 1 and 2 they are it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, url, str(place)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    engine = create_engine(url)
    log = None
    for _ in range(100):  # PostgreSQL frees the lock once it sees that the process is gone
        try:
            log = open_log(engine, **NEVER)
            break
        except PermanentError:
            threading.Event().wait(0.05)
    assert log is not None
    assert log.size == (30 if place == 1 else 50)
    assert log.indexed == log.size
    check_tables(engine, log)
    before = log.size
    again = asyncio.run(log.append("hub", make_batch(range(1, 60))))
    assert (again.first, again.acknowledged, again.missing) == (before + 1, 59, None)
    log.close()
    engine.dispose()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("ERROR")
    return caplog


async def test_rows_that_cannot_be_written_hold_no_event_up(engine, quiet):
    log = open_log(engine, index_events=10, index_after_s=10**6)
    fails, attempts = True, 0

    def refuse(connection, cursor, statement, *more):
        nonlocal attempts
        if fails and "INTO audit_teams" in statement:
            attempts += 1
        if fails and "INTO audit_teams" in statement:
            raise SQLAlchemyError("no")

    event.listen(engine, "before_cursor_execute", refuse)
    for first in range(1, 61, 10):
        done = await log.append("hub", make_batch(range(first, first + 10)))
        assert done.acknowledged == first + 9
    for query in QUERIES:
        found = await log.read(query, limit=1000)
        assert [one.sequence for one in found] == [n for n in range(60, 0, -1) if is_of(query, n)]
    with pytest.raises(DatabaseError):  # whose rows are needed to erase
        await log.erase("ada", authorised=make_event(5))
    assert quiet.text.count("what they go along is not written") == 1
    assert log.indexed == 0
    assert attempts <= 2  # also by whoever erased
    fails = False
    log.close()
    assert log.indexed == 60
    check_tables(engine, log)


class Hand:
    """A clock that is set by hand."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_rows_that_fail_are_tried_again_later_each_time_and_on_the_same_connection(
    engine, quiet, monkeypatch
):
    clock, made, attempts, fails = Hand(), [], [], True
    monkeypatch.setattr(audit_behind, "time", clock)
    writer = Writer(engine, now=lambda: NOW, draw=os.urandom)
    writer.open()

    def refuse(connection, cursor, statement, *more):
        if fails and "INTO audit_teams" in statement:
            attempts.append(clock.now_s)
            clock.now_s += 30.0  # it takes long
            raise SQLAlchemyError("no")

    event.listen(engine, "before_cursor_execute", refuse)
    event.listen(engine, "connect", lambda *more: made.append(1))
    behind = Behind(writer, 10, 0.2)
    for number in range(300):
        writer.run(lambda transaction, n=number: transaction.add_own(make_event(n)))
        clock.now_s += 1.0
        behind.write()
    waits = [late - early - 30 for early, late in itertools.pairwise(attempts)]
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (made, writer.known.indexed, writer.known.tree.size) == ([], 0, 300)
    fails = False
    behind.write_all()
    assert behind.wait_s() is None
    assert writer.known.indexed == 300
    writer.close()


async def test_what_lies_far_back_is_written_piece_by_piece(behind, engine, monkeypatch):
    monkeypatch.setattr(audit_behind, "INDEXED_AT_ONCE", 30)
    behind.close()
    marks = []

    def note(connection, cursor, statement, values, *more):
        if "INTO audit_teams" in statement:
            marks.append(1)

    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_indexed SET upto = 280"))
    event.listen(engine, "before_cursor_execute", note)
    log = open_log(engine, **NEVER)
    assert (log.indexed, len(marks)) == (500, 8)
    log.close()
    check_tables(engine, log)


async def test_rows_that_somebody_put_there_stop_nothing(behind, engine):
    """A row beyond the mark is not the log's; verifying tells of it, and events go on."""
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO audit_verbs VALUES ('login', 'failed', 400)"))
        connection.execute(text("INSERT INTO audit_people VALUES ('ada', 501)"))
    await behind.append("hub", make_batch(range(501, 510)))
    behind.close()
    assert behind.indexed == 509
    rows = rows_of(engine)
    assert ("login", "failed", 400) in rows["audit_verbs"]
    assert len(rows["audit_verbs"]) == 510


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit_indexed",
        "INSERT INTO audit_indexed VALUES (3)",
        "UPDATE audit_indexed SET upto = 501",
        "UPDATE audit_indexed SET upto = -1",
    ],
)
async def test_a_mark_that_cannot_be_right_is_not_gone_on_from(behind, engine, change):
    behind.close()
    with engine.begin() as connection:
        connection.execute(text(change))
    with pytest.raises(PermanentError, match="audit verify"):
        open_log(engine)


async def test_a_mark_that_was_moved_meanwhile_is_not_written_over(behind, engine, quiet):
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_indexed SET upto = 7"))
    with pytest.raises(DatabaseError, match="changed from outside"):
        await behind.erase("ada", authorised=make_event(5))
    for _ in range(100):  # PostgreSQL frees the lock once it sees that the connection is gone
        with suppress(DatabaseError):
            await behind.append("hub", make_batch(range(501, 503)))
            break
        await asyncio.sleep(0.05)
    assert (behind.indexed, behind.size) == (7, 502)  # as it is now: the rest is written again
    behind.close()
    check_tables(engine, behind)


async def test_a_mark_that_was_moved_back_is_made_good(behind, engine):
    behind.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_indexed SET upto = 7"))
        connection.execute(text("DELETE FROM audit_teams WHERE sequence > 7"))
    log = open_log(engine, **NEVER)
    assert log.indexed == 500
    check_tables(engine, log)
    log.close()


async def test_emitters_are_known_though_they_are_written_behind(behind, engine):
    with engine.connect() as connection:
        last = select(func.max(tables.emitters.c.last_number))
        assert connection.execute(last).scalar() == 300
    again = await behind.append("hub", make_batch(range(400, 502)))
    assert (again.first, again.acknowledged, again.missing) == (501, 501, None)
    behind.close()
    with engine.connect() as connection:
        assert connection.execute(last).scalar() == 501


@pytest.mark.parametrize(
    "nul",
    ["\0", "\\\0", "\\u0000", "\\\\u0000\0"],
)
async def test_an_event_with_a_character_that_postgresql_does_not_take_gets_its_rows(
    engine, quiet, nul
):
    """Stored before such events were refused."""
    told = make_event(8)
    nasty = told.model_copy(update={"details": {"text": nul}, "datasets": ("tides",)})
    log = open_log(engine, **NEVER)
    sent = SentEvent.model_construct(sequence=1, late=False, event=nasty)
    await log.append("hub", SentBatch.model_construct(incarnation="0" * 32, events=(sent,)))
    pair = (told.contest or "", "tides")
    query = EventQuery(EVERYTHING, datasets=frozenset({pair}))
    assert len(await log.read(query)) == 1
    log.close()
    assert (log.indexed, quiet.text) == (1, "")
    log = open_log(engine, **NEVER)
    assert len(await log.read(query)) == 1
    check_tables(engine, log)
    await log.append("hub", make_batch(range(2, 257)))
    assert (await log.retire(256, authorised=make_event(5))).events == 256
    log.close()
    check_tables(engine, log)


async def test_the_longest_name_gets_its_row(engine, quiet):
    chance = random.Random(5)
    name = "".join(chr(chance.randrange(0x10000, 0x20000)) for _ in range(512))
    who = make_event(5).model_copy(update={"subject": Person(name=name)})
    log = open_log(engine, **NEVER)
    await log.append_own(who)
    log.close()
    assert (log.indexed, quiet.text) == (1, "")
    check_tables(engine, log)


async def test_rows_that_cannot_be_written_stop_no_start(behind, engine, quiet):
    behind.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_indexed SET upto = 280"))
        change = text("UPDATE audit_events SET people = :people WHERE sequence = 450")
        kept = text("SELECT people FROM audit_events WHERE sequence = 450")
        people = connection.execute(kept).scalar()
        connection.execute(change, {"people": "[[["})
    log = open_log(engine, **NEVER)
    assert "audit verify" in quiet.text
    await log.append("hub", make_batch(range(501, 510)))
    assert (log.indexed, log.size) == (280, 509)
    with engine.begin() as connection:
        connection.execute(change, {"people": people})
    log.close()
    check_tables(engine, log)
    assert log.indexed == 509


async def test_newest_events_that_cannot_be_read_are_said_when_it_is_opened(behind, engine):
    behind.close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE audit_indexed SET upto = 280"))
        connection.execute(text("UPDATE audit_events SET body = '{}' WHERE sequence = 300"))
    with pytest.raises(PermanentError, match="audit verify"):
        open_log(engine)


@pytest.mark.parametrize("detail", ["a\0", ("a", "\0")])
def test_what_postgresql_does_not_take_is_no_event(detail):
    with pytest.raises(ValueError, match="U\\+0000"):
        AuditEvent(time=NOW, verb=Verb.LOGIN, details={"said": detail})
    with pytest.raises(ValueError, match="2048 bytes"):
        Person(name="\U0001f600" * 513)
