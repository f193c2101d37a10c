"""Spent tokens: once in all processes, on SQLite and on PostgreSQL, and never when nobody knows."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text

from jupyterhub_collab.storage import database
from jupyterhub_collab.storage.database import DatabaseError
from jupyterhub_collab.storage.spent_tokens import KEPT, SpentTokens

NOW = datetime(2027, 1, 31, 12, 0, tzinfo=timezone.utc)
LATER = NOW + timedelta(seconds=150)
ROOT = Path(__file__).parents[2]


class Clock:
    def __init__(self):
        self.moment = NOW

    def __call__(self):
        return self.moment


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def spent(engine, clock):
    spent = SpentTokens(engine, now=clock)
    spent.create_tables()
    yield spent
    spent.close()


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(
            text("SELECT issuer, id_hash, expires FROM collab_spent_tokens")
        ).all()


async def test_true_once_then_never_again(spent, engine):
    assert await spent.spend("portal", "token", LATER)
    assert not await spent.spend("portal", "token", LATER)
    assert not await spent.spend("portal", "token", LATER + timedelta(days=1))
    assert await spent.spend("another portal", "token", LATER)
    assert await spent.spend("portal", "Token", LATER)
    assert len(rows(engine)) == 3


async def test_no_id_is_kept_only_its_hash(spent, engine):
    await spent.spend("portal", "a personal id", LATER)
    ((issuer, hashed, expires),) = rows(engine)
    assert issuer == "portal"
    assert len(hashed) == 64
    assert "personal" not in hashed
    assert expires >= LATER.timestamp()


async def test_ids_that_are_hard_to_keep(spent):
    for token_id in [
        "",
        "\x00",
        "a\x00b",
        "é" * 10_000,
        "\ud800",
        "'; DROP TABLE collab_spent_tokens; --",
    ]:
        assert await spent.spend("portal", token_id, LATER)
        assert not await spent.spend("portal", token_id, LATER)


async def test_of_many_at_once_one_is_the_first(spent):
    first = await asyncio.gather(*(spent.spend("portal", "token", LATER) for _ in range(40)))
    assert sum(first) == 1


def test_of_several_processes_one_is_the_first(url):
    """They also make the table at the same time."""
    count = 100
    command = [sys.executable, "-W", "error", str(Path(__file__).with_name("racing.py")), url]
    command += [str(count), str(int((datetime.now(timezone.utc) + KEPT).timestamp()))]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(2)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        told = [racer.communicate(timeout=60)[0].split() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert [racer.returncode for racer in racers] == [0, 0]
    assert sorted(map(int, told[0] + told[1])) == list(range(count))
    assert not set(told[0]) & set(told[1])


async def test_a_restart_forgets_nothing(spent, engine, url):
    assert await spent.spend("portal", "token", LATER)
    engine.dispose()
    other = create_engine(url)
    again = SpentTokens(other)
    again.create_tables()
    assert not await again.spend("portal", "token", LATER)
    again.close()
    other.dispose()


async def test_rows_go_some_time_after_their_tokens_did(spent, engine, clock):
    await spent.spend("portal", "old", LATER)
    clock.moment = LATER + KEPT
    assert await spent.purge() == 0
    assert not await spent.spend("portal", "old", LATER)
    clock.moment = LATER + KEPT + timedelta(seconds=3)
    await spent.spend("portal", "new", LATER + KEPT + timedelta(minutes=2))  # purges by the way
    assert len(rows(engine)) == 1


async def test_without_a_table_nobody_is_let_in(engine, clock):
    spent = SpentTokens(engine, now=clock)
    with pytest.raises(DatabaseError) as refused:
        await spent.spend("portal", "a personal id", LATER)
    assert "personal" not in str(refused.value)
    spent.close()


async def test_a_purge_that_fails_does_not_change_the_answer(spent, clock, monkeypatch, caplog):
    async def broken():
        raise DatabaseError("no")

    monkeypatch.setattr(spent, "purge", broken)
    assert await spent.spend("portal", "token", LATER)
    assert "stay for now" in caplog.text


async def test_a_database_that_hangs_holds_nobody_up_and_lets_nobody_in(tmp_path, clock):
    """Another writer holds SQLite's lock; our answer comes too late for anybody."""
    path = tmp_path / "spent.sqlite"
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})
    spent = SpentTokens(engine, now=clock, timeout_s=0.5)
    spent.create_tables()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    committed = threading.Event()
    event.listen(engine, "commit", lambda _: committed.set())
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    with pytest.raises(DatabaseError, match=r"no answer in 0\.5 s"):
        await spent.spend("portal", "token", LATER)
    counting.cancel()
    await asyncio.gather(counting, return_exceptions=True)
    assert turns > 100  # the loop went on meanwhile
    writer.rollback()
    writer.close()
    assert await asyncio.to_thread(committed.wait, 30)  # spent, though nobody was let in for it
    patient = SpentTokens(engine, now=clock)
    assert not await patient.spend("portal", "token", LATER)
    patient.close()
    spent.close()
    engine.dispose()


async def test_a_database_that_is_away_lets_nobody_in(tmp_path):
    engine = create_engine(f"sqlite:///{tmp_path}/no/such/folder/spent.sqlite")
    spent = SpentTokens(engine)
    with pytest.raises(DatabaseError, match="OperationalError"):
        await spent.spend("portal", "token", LATER)
    with pytest.raises(DatabaseError, match="OperationalError"):
        spent.create_tables()
    spent.close()


def test_the_longest_wait_for_a_lock_ends_before_the_answer_is_given_up():
    assert database.TIMEOUT_S > 5.0  # sqlite3's own
