"""A captain's page: the newest 100 events of one team among 5,000, over a million, on SQLite.

The peer finds the same by looking through the whole log, as one would without an index. Notes show
other pages: all, a team that does much, an event deep in the past, a person, a data set, a rare
refusal in a contest, somebody whom a busy team does not have, a moment. `BENCH_EVENTS` shrinks it.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from datetime import datetime, timedelta, timezone
from typing import Any

from sqlalchemy import create_engine, text

from benchmarks._audit_events import make_batch, make_sent
from benchmarks.measure import Result, finish
from jupyterhub_collab.storage.audit_log import AuditLog, EventQuery, Scope

EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
TEAMS, PAIRS, BATCH = 5000, 10, 500
BEGAN = datetime(2027, 3, 1, tzinfo=timezone.utc)
BUSY = 0.01  # of all events are team 0's: the largest page there is to find
TARGET = 0.05


async def fill(log: AuditLog) -> float:
    """Events a second, in batches of 500 as a spool sends them after a while."""
    began = time.perf_counter()
    for first in range(1, EVENTS, BATCH):
        sent = [
            make_sent(n, 0 if n % int(1 / BUSY) == 0 else n * 7919 % TEAMS)
            for n in range(first, min(first + BATCH, EVENTS + 1))
        ]
        await log.append("hub", make_batch(sent))
    return EVENTS / (time.perf_counter() - began)


async def measure_ms(log: AuditLog, query: EventQuery, **page: Any) -> float:
    took = []
    for _ in range(7):
        began = time.perf_counter()
        await log.read(query, **page)
        took.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(took), 2)


async def measure_others(log: AuditLog) -> dict[str, float]:
    everything = Scope(everything=True)
    middle = BEGAN + timedelta(seconds=EVENTS // BATCH // 2)
    asked: dict[str, tuple[EventQuery, dict[str, Any]]] = {
        "all": (EventQuery(everything), {}),
        "busy_team": (EventQuery(Scope(teams=frozenset({"team-0"}))), {}),
        "deep": (EventQuery(Scope(teams=frozenset({"team-77"}))), {"before": EVENTS // 10}),
        "person": (EventQuery(Scope(person="user-77-3")), {}),
        "data_set": (EventQuery(Scope(datasets=frozenset({("contest-3", "tides")}))), {}),
        "contest_and_refused": (
            EventQuery(
                Scope(contests=frozenset({"contest-3"})),
                verbs=frozenset({"server.start"}),
                outcomes=frozenset({"refused"}),
            ),
            {},
        ),
        "stranger_in_busy_team": (
            EventQuery(Scope(teams=frozenset({"team-0"})), people=frozenset({"user-77-3"})),
            {},
        ),
        "moment": (EventQuery(everything, since=middle), {"after": 0}),
    }
    return {name: await measure_ms(log, query, **page) for name, (query, page) in asked.items()}


async def run(folder: str) -> None:
    now = BEGAN

    def tick() -> datetime:
        nonlocal now
        now += timedelta(seconds=1)
        return now

    engine = create_engine(f"sqlite:///{folder}/audit.sqlite")
    log = AuditLog(engine, now=tick)
    log.open()
    filled = await fill(log)
    ours, peer = [], []
    for _ in range(8):  # each thread opens its connection first
        await log.read(EventQuery(Scope(teams=frozenset({"team-1"}))), limit=100)
    scan = text("SELECT sequence, body, people FROM audit_events WHERE +team = :team")
    for number in range(PAIRS):
        team = f"team-{(number * 487 + 11) % TEAMS}"
        began = time.perf_counter()
        found = await log.read(EventQuery(Scope(teams=frozenset({team}))), limit=100)
        ours.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        with engine.connect() as connection:
            rows = connection.execute(scan, {"team": team}).all()
        peer.append((time.perf_counter() - began) * 1000)
        newest = sorted((row[0] for row in rows), reverse=True)[:100]
        assert [event.sequence for event in found] == newest
        assert all(json.loads(event.body)["team"] == team for event in found)
    others = await measure_others(log)
    log.close()
    engine.dispose()
    notes: dict[str, object] = {
        "events": EVENTS,
        "teams": TEAMS,
        "database_bytes_per_event": round(os.path.getsize(f"{folder}/audit.sqlite") / EVENTS),
        "filled_events_a_second": round(filled),
        **{f"{name}_ms": took for name, took in others.items()},
    }
    finish(
        Result(
            name="one team's page among 5,000",
            unit="ms",
            figures=ours,
            peers=peer,
            peer_name="a scan of the whole log",
            target=TARGET,
            at_most=True,
            notes=notes,
        )
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


if __name__ == "__main__":
    main()
