"""Checking an audit log offline: a database, or a bundle, against what was kept outside.

What: reads blocks, has them checked (in several processes where a log is large) and put together.
It must not: judge; `policy.audit_verify` does. It needs no service of ours, and disturbs none.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from threading import BrokenBarrierError
from typing import Any, Final

from ..errors import PermanentError
from ..policy.audit_align import Aligner, blocks_of
from ..policy.audit_block import BLOCK_EVENTS, BlockReport, check_block
from ..policy.audit_bundle import (
    BundleError,
    EventProof,
    check_proof,
    read_event_line,
    read_proof_line,
)
from ..policy.audit_finding import Findings, Kind
from ..policy.audit_index import SearchIndex
from ..policy.audit_lines import check_lines
from ..policy.audit_verify import (
    CannotCheckError,
    Evidence,
    LogCheck,
    LogShape,
    Note,
    Verdict,
)
from ..policy.checkpoint import CheckpointError
from ..policy.tiles import TILE_WIDTH
from ..storage.audit_files import Bundle
from ..storage.audit_offline import OfflineLog

SHARE_EVENTS: Final = 512 * BLOCK_EVENTS  # at most checked at once by a process; 16 MiB of hashes
PARALLEL_MIN_EVENTS: Final = 50_000  # below, starting processes takes longer than it saves
_HOLES_MAX: Final = 1_000_000  # sequences without events, for as many with: no log has more
_START_S: Final = 60.0

Progress = Callable[[int, int], None]
"""Told events checked, and of how many."""


def _no_progress(done: int, of: int) -> None:
    pass


def verify_database(
    url: str, evidence: Evidence, *, processes: int = 1, progress: Progress = _no_progress
) -> Verdict:
    """Check a log in its database, as it is at this moment.

    Raises
    ------
    PermanentError
        The database cannot be read.
    CannotCheckError
        It, or what is from outside, is not such that anything can be told.
    """
    with ExitStack() as stack:
        workers = None
        if processes > 1:
            # Their look at the database must not be younger than ours: what is erased meanwhile
            # is then told by an event that we see.
            workers = _Workers(url, processes)
            stack.callback(workers.close)
            workers.open()
        log = stack.enter_context(OfflineLog(url))
        if log.last - log.first >= 2 * log.count + _HOLES_MAX:
            raise CannotCheckError(
                f"The database has {log.count} events, numbered up to {log.last}: this is no log."
            )
        check = LogCheck(log.shape(), evidence)
        check.add_findings(log.check_mark())
        done = 0
        for reports, findings in _check_shares(log, workers):
            for report in reports:
                check.add(report)
                done += report.count
            check.add_findings(findings)
            progress(done, log.last - log.first + 1)
        return check.finish()


def _check_shares(
    log: OfflineLog, workers: _Workers | None
) -> Iterator[tuple[list[BlockReport], Findings]]:
    if workers is None:
        for first, last in _shares(log.first, log.last, 1):
            yield _check_share(log, first, last)
        return
    # Whole blocks, up to the mark as they see it: what came after is compared with our own look.
    end = min(workers.indexed, log.last)
    if end < log.last:
        start = log.first - (log.first - 1) % TILE_WIDTH
        end = start + (end + 1 - start) // BLOCK_EVENTS * BLOCK_EVENTS - 1
    end = max(end, log.first - 1)
    asked = [workers.ask(*share) for share in _shares(log.first, end, workers.count)]
    for future in asked:
        yield workers.answer(future)
    for first, last in _shares(end + 1, log.last, 1):
        yield _check_share(log, first, last)


def _shares(first: int, last: int, processes: int) -> Iterator[tuple[int, int]]:
    """First and last event of what is checked at once: as large as may be, as many for each."""
    events = last + 1 - first
    if events <= 0:
        return
    rounds = -(-events // (SHARE_EVENTS * processes))
    size = -(-events // (rounds * processes))
    start = first
    for at, count in blocks_of(first, last):
        end = at + count - 1
        if end - start + 1 >= size or end == last:
            yield start, end
            start = end + 1


def _check_share(log: OfflineLog, first: int, last: int) -> tuple[list[BlockReport], Findings]:
    index = SearchIndex()
    reports = []
    for at, count in blocks_of(first, last):
        lines = log.lines(at, count)
        report = None if lines is None else check_lines(lines, at, count, index)
        reports.append(report or check_block(log.rows(at, count), at, count, index))
    return reports, log.compare_index(index, first, last)


class _Workers:
    """Processes that check shares of a database."""

    def __init__(self, url: str, count: int) -> None:
        self.count = count
        # A copy of this process knows all programs already; one with threads cannot be copied.
        is_alone = threading.active_count() == 1 and sys.platform == "linux"
        context = multiprocessing.get_context("fork" if is_alone else "spawn")
        self._pool = ProcessPoolExecutor(
            count,
            mp_context=context,
            initializer=_begin_work,
            initargs=(url, context.Barrier(count)),
        )
        self.indexed = 0  # up to which event all of them see what searches go along

    def open(self) -> None:
        """Have each look at the database. Raises PermanentError."""
        asked = [self._pool.submit(_see) for _ in range(self.count)]
        self.indexed = min(int(self.answer(future)) for future in asked)

    def ask(self, first: int, last: int) -> Future[tuple[list[BlockReport], Findings]]:
        """Have a share checked."""
        return self._pool.submit(_work, first, last)

    def answer(self, future: Future[Any]) -> Any:
        """What it found. Raises PermanentError."""
        try:
            return future.result()
        except BrokenProcessPool as e:
            raise PermanentError("A process that checked the log ended; try --processes 1.") from e
        except BrokenBarrierError as e:
            raise PermanentError("A process that was to check the log did not start.") from e

    def close(self) -> None:
        """End them."""
        self._pool.shutdown(cancel_futures=True)


_work_log: OfflineLog | None = None
_work_barrier: Any = None


def _begin_work(url: str, barrier: Any) -> None:
    """In a process of its own: it lives until the check is done, and so does its look."""
    global _work_log, _work_barrier
    gc.disable()  # nothing here goes round in circles, and there is much of it
    _work_barrier = barrier
    _work_log = OfflineLog(url)


def _see() -> int:
    _work_barrier.wait(_START_S)  # so that each process takes one
    return int(_log_of_work().indexed)


def _work(first: int, last: int) -> tuple[list[BlockReport], Findings]:
    return _check_share(_log_of_work(), first, last)


def _log_of_work() -> OfflineLog:
    assert _work_log is not None
    return _work_log


def verify_bundle(
    bundle: Bundle, evidence: Evidence, *, progress: Progress = _no_progress
) -> Verdict:
    """Check a bundle.

    Raises
    ------
    PermanentError
        It cannot be read.
    CannotCheckError
        It, or what is from outside, is not such that anything can be told.
    """
    if bundle.manifest.origin != evidence.key.origin:
        raise CannotCheckError(
            f"The bundle is of the log {bundle.manifest.origin[:200]!r}, and the key of"
            f" {evidence.key.origin!r}."
        )
    if bundle.manifest.kind == "selection":
        return _verify_selection(bundle, evidence, progress)
    manifest = bundle.manifest
    shape = LogShape(
        first=manifest.first,
        last=manifest.size,
        inside=bundle.notes(),
        full_tile=bundle.full_tile if bundle.has("tile") else None,
        fetch=bundle.fetch if bundle.has("tile") else None,
        is_copy=True,
    )
    check = LogCheck(shape, evidence)
    findings = Findings()
    aligner = Aligner(manifest.first, findings)
    for rows, first, count in aligner.blocks(bundle.events()):
        if first > manifest.size:
            break
        kept = [row for row in rows if row.sequence <= manifest.size]
        check.add(check_block(kept, first, min(count, manifest.size + 1 - first)))
        progress(first + count - 1, manifest.size)
    if aligner.last > manifest.size:
        text = f"The bundle is to have {manifest.size} events, and has more."
        findings.add(Kind.INSERTED, manifest.size + 1, text)
    check.add_findings(findings)
    check.end_at(aligner.last)
    return check.finish()


def _verify_selection(bundle: Bundle, evidence: Evidence, progress: Progress) -> Verdict:
    """Each event of a bundle of some against its proof."""
    findings = Findings()
    notes = bundle.notes()
    if not notes:
        raise CannotCheckError("The bundle has no checkpoint.")
    note = notes[0]
    try:
        checkpoint = evidence.key.open(note.text)
    except CheckpointError as e:
        raise CannotCheckError(f"The bundle's checkpoint cannot be trusted: {e}.") from e
    size = bundle.manifest.size
    count = 0
    proofs = bundle.proofs()
    for count, line in enumerate(bundle.events(), 1):
        index = None
        try:
            index, path = read_proof_line(next(proofs, b""))
            event = read_event_line(line)
            check_proof(EventProof(event, index, size, path, note.text), evidence.key)
        except BundleError as e:
            where = f"Event {index + 1}" if index is not None else f"Line {count}"
            findings.add(Kind.EDITED, (index or 0) + 1, f"{where}: {e}.")
        if count % BLOCK_EVENTS == 0:
            progress(count, count)
    if next(proofs, None) is not None:
        findings.add(Kind.MISSING, 0, "There are more proofs than events.")
    return _judge_selection(evidence, checkpoint.size, checkpoint.root, findings, count)


def _judge_selection(
    evidence: Evidence, size: int, root: bytes, findings: Findings, count: int
) -> Verdict:
    same: list[Note] = []
    for outside in evidence.outside:
        try:
            other = evidence.key.open(outside.text)
        except CheckpointError as e:
            text = f"{outside.place} is not a checkpoint of this log: {e}."
            findings.add(Kind.CHECKPOINT, 0, text)
            continue
        if other.size == size and other.root != root:
            text = f"The bundle leads to another head of {size} events than {outside.place}."
            findings.add(Kind.CHECKPOINT, 0, text)
        elif other.size == size:
            same.append(outside)
    warnings = [] if same else [f"No checkpoint from outside is of {size} events, as the bundle's."]
    return Verdict(
        size=size,
        findings=tuple(findings),
        counts={kind.value: number for kind, number in sorted(findings.counts.items())},
        anchored=size if same else 0,
        outside=len(same),
        selected=count,
        warnings=tuple(warnings),
    )
