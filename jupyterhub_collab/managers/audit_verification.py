"""Checking an audit log offline: a database, or a bundle, against what was kept outside.

What: reads blocks, has them checked (in several processes where a log is large) and put together.
It must not: judge; `policy.audit_verify` does. It needs no service of ours, and disturbs none.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple

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
PART_BLOCKS: Final = 16  # told at once, so that what comes after is done meanwhile
PARALLEL_MIN_EVENTS: Final = 50_000  # below, starting processes takes longer than it saves
_HOLES_MAX: Final = 1_000_000  # sequences without events, for as many with: no log has more
_WAITING_MAX: Final = SHARE_EVENTS // (PART_BLOCKS * BLOCK_EVENTS) + 1  # parts of a share

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
        _check_is_log(log)
        parts = _check_parts(log, workers)
        check = LogCheck(log.shape(), evidence)
        check.add_findings(log.check_mark())
        done = 0
        for reports, findings in parts:
            for report in reports:
                check.add(report)
                done += report.count
            check.add_findings(findings)
            progress(done, log.last - log.first + 1)
        return check.finish()


def _check_is_log(log: OfflineLog) -> None:
    """Raises CannotCheckError if there are far fewer events than numbers."""
    needed = (log.last - log.first - _HOLES_MAX) // 2 + 1
    if needed > 0 and (count := log.count(needed)) < needed:
        raise CannotCheckError(
            f"The database has {count} events, numbered up to {log.last}: this is no log."
        )


class _Share(NamedTuple):
    """Events that are compared at once with what searches find.

    Attributes
    ----------
    begins, ends
        Whether it is the first, the last of the log.
    """

    first: int
    last: int
    begins: bool
    ends: bool


_Part = tuple[list[BlockReport], Findings]
"""What was found in some blocks of a share."""


def _check_parts(log: OfflineLog, workers: _Workers | None) -> Iterator[_Part]:
    """Have the log checked, from now on."""
    if workers is None:
        return _check_shares(log, _shares(log.first, log.last, 1))
    # Whole blocks, up to the mark as they see it: what came after is compared with our own look.
    end = min(workers.indexed, log.last)
    if end < log.last:
        start = log.first - (log.first - 1) % TILE_WIDTH
        end = start + (end + 1 - start) // BLOCK_EVENTS * BLOCK_EVENTS - 1
    if end < log.first:
        return _check_shares(log, _shares(log.first, log.last, 1))
    workers.ask(list(_shares(log.first, end, workers.count, ends=end == log.last)))
    rest = _shares(end + 1, log.last, 1, begins=False) if end < log.last else ()
    return chain(workers.parts(), list(_check_shares(log, rest)))


def _shares(
    first: int, last: int, processes: int, *, begins: bool = True, ends: bool = True
) -> Iterator[_Share]:
    """As large as may be, as many for each process; at least one."""
    events = last + 1 - first
    rounds = -(-events // (SHARE_EVENTS * processes)) or 1
    size = -(-events // (rounds * processes))
    start = first
    for at, count in blocks_of(first, last):
        end = at + count - 1
        if end - start + 1 >= size and end < last:
            yield _Share(start, end, begins and start == first, ends=False)
            start = end + 1
    yield _Share(start, last, begins and start == first, ends)


def _check_shares(log: OfflineLog, shares: Iterable[_Share]) -> Iterator[_Part]:
    for share in shares:
        yield from _check_share(log, share)


def _check_share(log: OfflineLog, share: _Share) -> Iterator[_Part]:
    """Part by part; the last has nothing but what searches find."""
    index = SearchIndex()
    blocks = blocks_of(share.first, share.last)
    while some := list(islice(blocks, PART_BLOCKS)):
        yield [_check_block(log, at, count, index) for at, count in some], Findings()
    first, last, begins, ends = share
    yield [], log.compare_index(index, first, last, begins=begins, ends=ends)


def _check_block(log: OfflineLog, first: int, count: int, index: SearchIndex) -> BlockReport:
    lines = log.lines(first, count)
    report = None if lines is None else check_lines(lines, first, count, index)
    return report or check_block(log.rows(first, count), first, count, index)


class _Workers:
    """Processes that check shares of a database, each in its turn.

    Raises
    ------
    PermanentError
        One of them cannot look at the database, or ended. So do all methods.
    """

    def __init__(self, url: str, count: int) -> None:
        self.count = count
        self.indexed = 0  # up to which event all of them see what searches go along
        self._asked = 0
        self._ended: set[int] = set()
        # A copy of this process knows all programs already; one with threads cannot be copied.
        is_alone = threading.active_count() == 1 and sys.platform == "linux"
        context: Any = multiprocessing.get_context("fork" if is_alone else "spawn")
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        self._waiting: list[deque[Any]] = [deque() for _ in range(count)]
        for _ in range(count):
            ours, theirs = context.Pipe()
            self._pipes.append(ours)
            work = (url, theirs, self._pipes)
            process = context.Process(target=_work, args=work, daemon=True)
            self._processes.append(process)
            process.start()
            theirs.close()

    def open(self) -> None:
        """Wait until each has its look at the database."""
        self.indexed = min(self._next(number) for number in range(self.count))

    def ask(self, shares: list[_Share]) -> None:
        """Have shares checked, by one after the other."""
        self._asked = len(shares)
        for number, pipe in enumerate(self._pipes):
            with suppress(OSError):  # it ended, which `parts` tells
                pipe.send(shares[number :: self.count])

    def parts(self) -> Iterator[_Part]:
        """What they find, in the order of the shares."""
        for number in range(self._asked):
            is_more = True
            while is_more:
                reports, findings = self._next(number % self.count)
                is_more = bool(reports)
                yield reports, findings

    def close(self) -> None:
        """End them."""
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            pipe.close()
            process.terminate()
        for process in self._processes:
            process.join()

    def _next(self, number: int) -> Any:
        """What a worker says next; what others say meanwhile is kept, so that they can go on."""
        while not self._waiting[number]:
            places: dict[Any, int] = {
                pipe: at
                for at, pipe in enumerate(self._pipes)
                if at not in self._ended and (at == number or len(self._waiting[at]) < _WAITING_MAX)
            }
            pipes: list[Any] = wait(list(places))
            for pipe in pipes:
                at = places[pipe]
                try:
                    said = pipe.recv()
                except (EOFError, OSError):
                    self._ended.add(at)
                    text = "A process that checked the log ended; try --processes 1."
                    said = PermanentError(text)
                self._waiting[at].append(said)
        said = self._waiting[number].popleft()
        if isinstance(said, Exception):
            raise said
        return said


def _work(url: str, pipe: Connection, inherited: list[Connection]) -> None:
    """In a process of its own: shares that come through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked is told, and ends this
    gc.disable()  # nothing here goes round in circles, and there is much of it
    for other in inherited:
        other.close()  # so that this ends when who asked is gone
    with suppress(EOFError, OSError), pipe:
        try:
            with OfflineLog(url) as log:
                pipe.send(log.indexed)
                for part in _check_shares(log, pipe.recv()):
                    pipe.send(part)
                pipe.recv()
        except PermanentError as e:
            pipe.send(e)


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
