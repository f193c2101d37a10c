"""Checking an audit log of a million events, beside bare hashing of the same bytes.

A third of the events carry data sets, one in twenty names two people; checkpoints every 1,000
events, one of them outside. The peer reads nothing: it hashes each event's text, and what is kept
of its people, once, in one process. A check also reads the database, parses every event, grows
the tree, compares columns and search tables, and checks every commitment; in as many processes as
there are processors, told beside the figure with one. BENCH_EVENTS makes it smaller.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

from sqlalchemy import create_engine

from benchmarks.measure import Result, finish
from jupyterhub_collab.managers.audit_verification import verify_database
from jupyterhub_collab.models.audit import AuditEvent, Person, SentBatch, SentEvent, Verb
from jupyterhub_collab.policy.audit_verify import Evidence, Note
from jupyterhub_collab.policy.checkpoint import LogSigner
from jupyterhub_collab.policy.merkle import leaf_hash, root_of
from jupyterhub_collab.storage.audit_log import AuditLog
from jupyterhub_collab.storage.audit_offline import OfflineLog

EVENTS = int(os.environ.get("BENCH_EVENTS", "1000000"))
PAIRS = 3
BATCH, CHECKPOINT_EVERY = 500, 1000
START = datetime(2027, 3, 1, 10, tzinfo=timezone.utc)
VERBS = (Verb.SERVER_START, Verb.LOGIN, Verb.DATASET_READ, Verb.EGRESS_CONNECT)


def make_event(number: int) -> AuditEvent:
    """Of 5,000 teams and 25,000 people."""
    team = f"team-{number % 5000}"
    return AuditEvent(
        time=START + timedelta(milliseconds=number),
        verb=VERBS[number % len(VERBS)],
        contest="sea",
        team=team,
        thing=f"{number:032x}",
        datasets=("tides", "winds") if number % 3 == 0 else (),
        details={"image": "registry.example.org/basic@sha256:ab", "mounts": ("tides",)},
        correlation=f"{number // 3:032x}",
        subject=Person(
            name=f"user-{number % 25000}", roles=(f"member of {team}",), address="10.20.30.40"
        ),
        actor=Person(name="grace", note="asked for help") if number % 20 == 0 else None,
    )


def write(url: str, signer: LogSigner) -> Note:
    """The log, by the log's own writer. The last checkpoint."""
    engine = create_engine(url)
    log = AuditLog(engine, now=lambda: datetime.now(timezone.utc), timeout_s=60)
    log.open()
    note = ""

    async def run() -> None:
        nonlocal note
        for first in range(1, EVENTS + 1, BATCH):
            numbers = range(first, min(first + BATCH, EVENTS + 1))
            events = tuple(SentEvent(sequence=n, event=make_event(n)) for n in numbers)
            await log.append("hub", SentBatch(incarnation="0" * 32, events=events))
            if log.size % CHECKPOINT_EVERY == 0 or log.size == EVENTS:
                note = signer.sign(log.size, log.frontier().root(), START)
                await log.add_checkpoint(log.size, note)

    asyncio.run(run())
    log.close()
    engine.dispose()
    return Note("outside", note)


def measure_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    signer = LogSigner.generate("bench.example.org/audit")
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder)}/audit.sqlite"
        evidence = Evidence(signer.verifier, [write(url, signer)])

        def check(processes: int) -> None:
            verdict = verify_database(url, evidence, processes=processes)
            assert verdict.findings == ()
            assert verdict.anchored == EVENTS
            assert verdict.people == EVENTS + EVENTS // 20

        def read() -> list[tuple[bytes, bytes]]:
            with OfflineLog(url) as log:
                return [(row[1] or b"", row[2] or b"") for row in log.rows(1, EVENTS)]

        check(cores)
        # Before this process grows: its children begin as copies of it.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        rows = read()
        sha256 = hashlib.sha256

        def hash_bare() -> None:
            for body, people in rows:
                sha256(body).digest()
                sha256(people).digest()

        def hash_bodies() -> None:
            for body, _ in rows:
                sha256(body).digest()

        pairs, alone, trees, bodies = [], [], [], []
        for _ in range(PAIRS):
            bare = measure_s(hash_bare)
            pairs.append((measure_s(lambda: check(cores)), bare))
            alone.append(measure_s(lambda: check(1)) / bare)
            trees.append(measure_s(lambda: root_of(leaf_hash(body) for body, _ in rows)) / bare)
            bodies.append(measure_s(hash_bodies) / bare)
        size = sum(len(body) + len(people) for body, people in rows)
    finish(
        Result(
            name="checking an audit log",
            unit="s",
            figures=[ours for ours, _ in pairs],
            peers=[bare for _, bare in pairs],
            peer_name="bare SHA-256 of the same bytes, one process",
            target=5,
            at_most=True,
            notes={
                "events": EVENTS,
                "bytes_an_event": round(size / EVENTS),
                "processes": cores,
                "ratio_with_one_process": round(sorted(alone)[PAIRS // 2], 2),
                "ratio_of_growing_the_tree_alone": round(sorted(trees)[PAIRS // 2], 2),
                "ratio_of_hashing_bodies_only": round(sorted(bodies)[PAIRS // 2], 2),
                "peak_mib_of_a_process": peak,
            },
        )
    )


if __name__ == "__main__":
    main()
