"""Durable appends to the audit log, beside a raw group commit of the same bytes in SQLite.

1, 16 and 64 writers, each with one event under way, in turns. The peer has the same thread, queue
and batch rule; it inserts body and people as they come, into one table with a number and nothing
else: no leaf, no tree, no index. Both flush each commit (WAL, synchronous=FULL). Notes show the
peer with one commit per event, the peer with the rows and indexes that ours writes, and the
processor time of both for an event, which others on the machine change less than the rates.
Flushing may cost little on a machine measured: ratios count.
"""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine

from benchmarks._audit_events import make_batch, make_sent
from benchmarks.measure import Result, finish
from jupyterhub_collab.models.audit import SentBatch
from jupyterhub_collab.storage.audit_log import GROUP_MAX, AuditLog

WRITERS = (1, 16, 64)
EVENTS = int(os.environ.get("BENCH_EVENTS", "8000"))  # in a run of 64 writers; fewer of others
PAIRS = int(os.environ.get("BENCH_PAIRS", "10"))
TEAMS = 1000
TARGET = 0.6

_TABLE = "CREATE TABLE log (sequence INTEGER PRIMARY KEY, body TEXT, people TEXT)"
_INSERT = "INSERT INTO log VALUES (?, ?, ?)"
_SAME_ROWS = """
CREATE TABLE log (sequence INTEGER PRIMARY KEY, stored_us INTEGER, contest TEXT, team TEXT,
  verb TEXT, outcome TEXT, body TEXT, people TEXT);
CREATE INDEX a ON log (contest, sequence) WHERE contest IS NOT NULL;
CREATE INDEX b ON log (team, sequence) WHERE team IS NOT NULL;
CREATE INDEX c ON log (verb, outcome, sequence);
CREATE TABLE people (name TEXT, sequence INTEGER, PRIMARY KEY (name, sequence)) WITHOUT ROWID;
CREATE TABLE datasets (contest TEXT, dataset TEXT, sequence INTEGER,
  PRIMARY KEY (contest, dataset, sequence)) WITHOUT ROWID;
"""


class RawLog:
    """The peer: what waits is taken together, inserted, committed, answered with one wake-up."""

    def __init__(self, path: Path, *, group_max: int = GROUP_MAX, is_same_rows: bool = False):
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SAME_ROWS if is_same_rows else _TABLE)
        self._is_same_rows, self._group_max, self._size = is_same_rows, group_max, 0
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    async def append(self, row: tuple[Any, ...]) -> int:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._requests.put((row, loop, future))
        return await future

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()
        self._connection.close()

    def _write(self) -> None:
        while (request := self._requests.get()) is not None:
            group = [request]
            while len(group) < self._group_max:
                try:
                    request = self._requests.get_nowait()
                except queue.Empty:
                    break
                if request is None:
                    self._requests.put(None)
                    break
                group.append(request)
            rows = [(self._size + n, *row) for n, (row, _, _) in enumerate(group, 1)]
            self._connection.execute("BEGIN")
            self._insert(rows)
            self._connection.execute("COMMIT")
            self._size += len(group)
            group[0][1].call_soon_threadsafe(
                _resolve, [(f, r[0]) for (_, _, f), r in zip(group, rows, strict=True)]
            )

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        if not self._is_same_rows:
            self._connection.executemany(_INSERT, rows)
            return
        self._connection.executemany(
            "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [row[:8] for row in rows]
        )
        self._connection.executemany(
            "INSERT INTO people VALUES (?, ?)", [(name, row[0]) for row in rows for name in row[8]]
        )
        self._connection.executemany(
            "INSERT INTO datasets VALUES (?, ?, ?)",
            [(row[2], dataset, row[0]) for row in rows for dataset in row[9]],
        )


def _resolve(answers: list[tuple[asyncio.Future[int], int]]) -> None:
    for future, sequence in answers:
        future.set_result(sequence)


def make_batches(count: int) -> list[tuple[str, SentBatch]]:
    """One event each; an emitter each, so that numbers have no gaps whoever comes first."""
    return [
        (f"e{n % 64}", make_batch([make_sent(n // 64 + 1, n * 13 % TEAMS)])) for n in range(count)
    ]


async def drive(
    writers: int, items: list[Any], append: Callable[[Any], Awaitable[Any]]
) -> tuple[float, float]:
    """Events a second, and microseconds of the processor for each."""

    async def write(mine: list[Any]) -> None:
        for item in mine:
            await append(item)

    shares = [items[n::writers] for n in range(writers)]
    gc.collect()
    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*map(write, shares))
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return len(items) / took, used / len(items) * 1e6


def run_ours(folder: Path, writers: int, items: list[Any]) -> tuple[float, float]:
    engine = create_engine(f"sqlite:///{folder}/audit.sqlite")
    log = AuditLog(engine, now=lambda: datetime.now(timezone.utc))
    log.open()
    found = asyncio.run(drive(writers, items, lambda item: log.append(*item)))
    assert log.size == len(items)
    log.close()
    engine.dispose()
    return found


def run_raw(folder: Path, writers: int, rows: list[Any], **how: Any) -> tuple[float, float]:
    log = RawLog(folder / "raw.sqlite", **how)
    found = asyncio.run(drive(writers, rows, log.append))
    log.close()
    return found


def in_folder(
    run: Callable[..., tuple[float, float]], *args: Any, **how: Any
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), *args, **how)


def to_rows(items: list[tuple[str, SentBatch]]) -> tuple[list[Any], list[Any]]:
    """What ours stored of these, as rows for the peer."""
    with tempfile.TemporaryDirectory() as folder:
        run_ours(Path(folder), 1, items)
        with sqlite3.connect(f"{folder}/audit.sqlite") as connection:
            columns = "stored_us, contest, team, verb, outcome, body, people"
            stored = connection.execute(f"SELECT {columns} FROM audit_events").fetchall()
        connection.close()
    thin = [row[-2:] for row in stored]
    events = [batch.events[0].event for _, batch in items]
    thick = [
        (*row, [event.subject.name if event.subject else ""], event.datasets)
        for row, event in zip(stored, events, strict=True)
    ]
    return thin, thick


def main() -> None:
    items = make_batches(EVENTS)
    thin, thick = to_rows(items)
    gc.freeze()
    results = []
    for writers in WRITERS:
        count = max(1000, EVENTS * min(writers, 16) // 16 // (1 if writers > 16 else 2))
        ours, raw, single, same, cpu, raw_cpu = [], [], [], [], [], []
        for number in range(PAIRS):
            ours_found = in_folder(run_ours, writers, items[:count])
            raw_found = in_folder(run_raw, writers, thin[:count])
            ours.append(ours_found[0])
            cpu.append(ours_found[1])
            raw.append(raw_found[0])
            raw_cpu.append(raw_found[1])
            if number % 3 == 0:
                single.append(in_folder(run_raw, writers, thin[:count], group_max=1)[0])
                same.append(in_folder(run_raw, writers, thick[:count], is_same_rows=True)[0])
        results.append(
            Result(
                name=f"durable appends, {writers} writers",
                unit="events/s",
                figures=ours,
                peers=raw,
                peer_name="raw group commit of the same bytes",
                target=TARGET,
                at_most=False,
                notes={
                    "events": count,
                    "load_average": round(os.getloadavg()[0], 1),
                    "cpu_us_per_event": round(statistics.median(cpu), 1),
                    "raw_cpu_us_per_event": round(statistics.median(raw_cpu), 1),
                    "raw_one_commit_per_event": round(statistics.median(single)),
                    "raw_with_the_same_rows_and_indexes": round(statistics.median(same)),
                    "ratio_to_that": round(statistics.median(ours) / statistics.median(same), 4),
                },
            )
        )
    finish(*results)


if __name__ == "__main__":
    main()
