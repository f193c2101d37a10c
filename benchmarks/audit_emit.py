"""What one audit event costs a hub's loop, beside JupyterHub's own event log with a file.

Both are called on a running loop, one call a turn and a pause between turns, as people's requests
come; the audit service takes the events meanwhile, in a process of its own, and the spool's thread
flushes to a real disk. The event log is told the hub's own event (``server-actions``, five fields),
ours is a start with image, data sets and a person. A figure is the 99th percentile of one round.
On a machine that others use, most of it is waiting for a core: computing alone is told beside it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import jupyterhub
from jupyter_events import EventLogger

from benchmarks.measure import Result, finish
from jupyterhub_collab.auditapi import Emitter
from jupyterhub_collab.models.audit import AuditEvent, Outcome, Person, Verb

ROUNDS = int(os.environ.get("BENCH_PAIRS", "20"))
CALLS = int(os.environ.get("BENCH_CALLS", "2000"))
TARGET_MS = 0.2
SCHEMA = Path(jupyterhub.__file__).parent / "event-schemas" / "server-actions" / "v1.yaml"
SCHEMA_ID = "https://schema.jupyter.org/jupyterhub/events/server-action"
# Somewhere on a disk: /tmp may be memory.
FOLDER = Path(os.environ.get("BENCH_FOLDER", tempfile.gettempdir()))


def now() -> datetime:
    return datetime.now(timezone.utc)


def make_event() -> AuditEvent:
    return AuditEvent(
        time=now(),
        verb=Verb.SERVER_START,
        outcome=Outcome.ALLOWED,
        contest="sea-ice",
        team="ocean",
        thing="b0a1c9d2e3f4",
        datasets=("buoys", "ice-cores", "satellite"),
        details={"image": "registry.example.org/sea@sha256:" + "0" * 64, "profile": "small"},
        correlation="0123456789abcdef0123456789abcdef",
        subject=Person(name="ada", roles=("member of team ocean",), address="192.0.2.7"),
    )


async def measure(
    call: Callable[[AuditEvent], None],
    pause_s: float = 0.0005,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> list[float]:
    """Milliseconds of each call."""
    took = []
    for _ in range(CALLS):
        event = make_event()  # which the caller has checked anyway
        start = clock()
        call(event)
        took.append((clock() - start) / 1e6)
        await asyncio.sleep(pause_s)
    return took


async def run(url: str, folder: Path) -> None:
    eventlog = EventLogger(handlers=[logging.FileHandler(folder / "events.log", delay=False)])
    eventlog.register_event_schema(SCHEMA)
    data = {"action": "start", "username": "ada", "servername": ""}

    def tell_eventlog(_: AuditEvent) -> None:
        eventlog.emit(schema_id=SCHEMA_ID, data=data)

    ours: list[list[float]] = []
    peers: list[list[float]] = []
    async with Emitter(folder / "spool", url, "token-of-a-benchmark", now=now) as emitter:
        for _ in range(200):  # warm
            emitter.emit(make_event())
            tell_eventlog(make_event())
        for number in range(ROUNDS):
            pair = [(emitter.emit, ours), (tell_eventlog, peers)]
            for call, into in pair if number % 2 else reversed(pair):
                into.append(await measure(call))
        at_once = await measure(emitter.emit, pause_s=0)
        computing = await measure(emitter.emit, clock=time.thread_time_ns)
        lost = emitter.spool.lost
    for handler in eventlog.handlers:
        handler.close()

    def at(rounds: list[list[float]], per_mille: int) -> list[float]:
        return [statistics.quantiles(one, n=1000)[per_mille - 1] for one in rounds]

    p99 = statistics.median(at(ours, 990))
    everything = sorted(took for one in ours for took in one)
    finish(
        Result(
            name="audit_emit",
            unit="ms at the 99th percentile, on the loop",
            figures=at(ours, 990),
            peers=at(peers, 990),
            peer_name="jupyter_events with a file handler",
            target=1.0,
            at_most=True,
            notes={
                "p50_ms": round(statistics.median(at(ours, 500)), 4),
                "p999_ms": round(statistics.median(at(ours, 999)), 4),
                "longest_ms": round(everything[-1], 3),
                "p99_without_pauses_ms": round(at([at_once], 990)[0], 4),
                "p99_of_computing_alone_ms": round(at([computing], 990)[0], 4),
                "peer_p50_ms": round(statistics.median(at(peers, 500)), 4),
                "p99_below_0.2_ms": p99 < TARGET_MS,
                "calls_a_round": CALLS,
                "lost": lost,
            },
        )
    )


def main() -> None:
    sink = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._audit_sink"], stdout=subprocess.PIPE, text=True
    )
    assert sink.stdout is not None
    try:
        url = sink.stdout.readline().strip()
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            asyncio.run(run(url, Path(folder)))
    finally:
        sink.kill()
        sink.wait()
        sink.stdout.close()


if __name__ == "__main__":
    main()
