"""The audit log on SQLite and PostgreSQL: places without gaps, stored once, one tree over all."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone

import pytest

from jupyterhub_collab.errors import PermanentError
from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.policy.audit_leaf import is_committed
from jupyterhub_collab.policy.merkle import (
    EMPTY_ROOT,
    is_consistent,
    is_included,
    leaf_hash,
    make_consistency_proof,
    make_inclusion_proof,
    root_of,
)
from jupyterhub_collab.storage.audit_log import AuditLog, EventQuery, Scope

NOW = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
FIRST, SECOND = "0" * 32, "1" * 32
ALL = EventQuery(Scope(everything=True))


class Clock:
    def __init__(self):
        self.moment = NOW

    def __call__(self):
        return self.moment


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(engine, clock):
    log = AuditLog(engine, now=clock)
    log.open()
    yield log
    log.close()


def make_event(number=1, **more):
    return AuditEvent(
        **{"time": NOW, "verb": Verb.LOGIN, "thing": f"t{number}", "team": "ocean", **more}
    )


def make_batch(numbers, incarnation=FIRST, **more):
    sent = [SentEvent(sequence=n, event=make_event(n, **more)) for n in numbers]
    return SentBatch(incarnation=incarnation, events=sent)


def stored(log):
    return list(log.leaves(0, log.size))


def check_whole(log):
    """Places without gaps, and the tree over what is really there."""
    events = stored(log)
    assert [event.sequence for event in events] == list(range(1, log.size + 1))
    assert [json.loads(event.body)["sequence"] for event in events] == list(range(1, log.size + 1))
    hashes = [leaf_hash(event.body) for event in events]
    assert log.frontier().root() == root_of(hashes)
    assert log.at(log.size).frontier().root() == root_of(hashes)
    return events


async def test_what_is_sent_is_stored_once_in_order(log):
    assert log.size == 0
    assert log.frontier().root() == EMPTY_ROOT
    first = await log.append("hub", make_batch([1, 2, 3]))
    assert (first.first, first.last, first.acknowledged, first.missing) == (1, 3, 3, None)
    again = await log.append("hub", make_batch([2, 3, 4]))
    assert (again.first, again.last, again.acknowledged) == (4, 4, 4)
    nothing = await log.append("hub", make_batch([1, 4]))
    assert (nothing.first, nothing.last, nothing.acknowledged) == (None, None, 4)
    other = await log.append("hub", make_batch([1], SECOND))
    assert other.first == 5
    assert (await log.append("provisioner", make_batch([1]))).first == 6
    bodies = [json.loads(event.body) for event in check_whole(log)]
    assert [body["emitterSequence"] for body in bodies] == [1, 2, 3, 4, 1, 1]


async def test_what_never_came_is_recorded_with_what_came_after_it(log):
    await log.append("hub", make_batch([1]))
    gap = await log.append("hub", make_batch([4, 5, 9]))
    assert (gap.missing, gap.acknowledged) == (range(2, 4), 5)
    rest = await log.append("hub", make_batch([9]))
    assert (rest.missing, rest.acknowledged) == (range(6, 9), 9)
    new = await log.append("hub", make_batch([3], SECOND))
    assert new.missing == range(1, 3)
    bodies = [json.loads(event.body) for event in check_whole(log)]
    gaps = [body for body in bodies if body["verb"] == "audit.gap"]
    assert [(g["details"]["first"], g["details"]["last"]) for g in gaps] == [(2, 3), (6, 8), (1, 2)]
    assert [g["emitterSequence"] for g in gaps] == [1, 2, 3]


async def test_nobody_sends_as_the_log_itself(log):
    with pytest.raises(ValueError, match="no emitter"):
        await log.append("audit", make_batch([1]))
    assert await log.append_own(make_event(verb=Verb.AUDIT_START)) == 1


async def test_stored_times_never_go_back(log, clock):
    told = []
    for step in (0, 60, -3600, 30, 90):
        clock.moment = NOW + timedelta(seconds=step)
        await log.append_own(make_event(verb=Verb.AUDIT_START))
        told.append(json.loads(stored(log)[-1].body)["stored"])
    assert told == sorted(told)
    assert told[1:4] == ["2027-03-01T10:01:00.000000Z"] * 3
    assert told[4] == "2027-03-01T10:01:30.000000Z"


async def test_it_goes_on_where_it_ended(engine, clock, log):
    for start in range(1, 700, 50):
        await log.append("hub", make_batch(range(start, start + 50)))
    size, root = log.size, log.frontier().root()
    log.close()
    clock.moment = NOW - timedelta(hours=1)
    again = AuditLog(engine, now=clock)
    again.open()
    assert (again.size, again.frontier().root()) == (size, root)
    more = await again.append("hub", make_batch([size, size + 1]))
    assert more.first == more.last == size + 1
    bodies = [json.loads(event.body) for event in check_whole(again)]
    assert bodies[-1]["stored"] == bodies[0]["stored"]
    again.close()


async def test_proofs_of_any_event_under_any_head(log):
    await asyncio.gather(
        *(log.append(f"e{emitter}", make_batch(range(1, 201))) for emitter in range(4))
    )
    leaves = [leaf_hash(event.body) for event in check_whole(log)]
    for size in (1, 255, 256, 257, 512, 700, 800):
        tree = log.at(size)
        root = root_of(leaves[:size])
        assert tree.frontier().root() == root
        for index in {0, size // 2, size - 1}:
            path = make_inclusion_proof(index, size, tree.range_hash)
            assert is_included(leaves[index], index, size, path, root)
        path = make_consistency_proof(size, 800, log.range_hash)
        assert is_consistent(size, 800, root, root_of(leaves), path)
    assert log.tile(0, 0) == b"".join(leaves[:256])
    assert log.tile(0, 3) == b"".join(leaves[768:])
    assert log.tile(0, 4) is log.tile(2, 0) is None


async def test_what_is_personal_stands_beside_the_leaf(log):
    who = Person(name="ada", address="10.0.0.1")
    await log.append("hub", make_batch([1], subject=who, actor=Person(name="grace")))
    (event,) = stored(log)
    assert b"ada" not in event.body
    assert event.people["subject"]["value"] == {"name": "ada", "address": "10.0.0.1"}
    for part, commitment in json.loads(event.body)["people"].items():
        assert is_committed(commitment, event.people[part])


async def test_another_writer_is_refused_in_a_sentence(engine, clock, log):
    other = AuditLog(engine, now=clock)
    with pytest.raises(PermanentError, match="Another process writes this audit log"):
        other.open()
    other.close()
    await log.append("hub", make_batch([1]))
    log.close()
    other = AuditLog(engine, now=clock)
    other.open()
    assert other.size == 1
    other.close()


async def test_checkpoints_are_kept(log):
    assert await log.last_checkpoint() is None
    await log.add_checkpoint(1, "one")
    await log.add_checkpoint(3, "three")
    await log.add_checkpoint(3, "three again")
    assert await log.checkpoints() == ((1, "one"), (3, "three"))
    assert await log.last_checkpoint() == (3, "three")


async def test_pages_go_both_ways(log):
    await log.append("hub", make_batch(range(1, 31)))
    newest = await log.read(ALL, limit=10)
    assert [e.sequence for e in newest] == list(range(30, 20, -1))
    older = await log.read(ALL, before=21, limit=10)
    assert [e.sequence for e in older] == list(range(20, 10, -1))
    assert [e.sequence for e in await log.read(ALL, after=25)] == [26, 27, 28, 29, 30]
    assert [e.sequence for e in await log.read(ALL, before=8, after=6)] == [7]
