"""Keeps events on disk until the audit service has them.

`append` is one write to a file that is open: it flushes nothing, waits for nobody and may be called
on an event loop and by any thread. A thread of the spool's own flushes what was written, many
events at a time; only then may it be sent. So what the service has is always in the spool too, and
no number is ever used twice, also after the machine itself fell.

If the disk takes nothing (full, read-only, broken, or the spool is as large as it may become),
events wait in memory, in order, and are written as soon as that works; beyond what memory may hold
they are lost, and counted. Their numbers are missing then, which the service tells.

It must not: know the service.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ..errors import PermanentError
from .metrics import LOST, SPOOLED
from .spool_folder import Folder, Incarnation, Spooled, to_line
from .spool_reading import SegmentReader

SEGMENT_BYTES: Final = 1024 * 1024  # about 2,000 events
SPOOL_BYTES: Final = 512 * 1024 * 1024  # about a million events: a hub's day without the service
MEMORY_BYTES: Final = 8 * 1024 * 1024
# Events that nobody waits for are flushed and sent together: fewer turns of other threads, each of
# which can hold up the event loop, and fewer posts.
GATHER_S: Final = 0.05
_TRY_AGAIN_S: Final = 0.5
_AGES_MAX: Final = 10_000
_WRITTEN_AT_ONCE: Final = 50  # from memory, while emitters wait
log = logging.getLogger(__name__)


def _flush_file(file: int) -> None:
    """Contents and size, on disk."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(file)
    else:  # macOS
        os.fsync(file)


def _do_nothing() -> None:
    pass


class Spool:
    """Events on disk, in the order in which they were told.

    Parameters
    ----------
    on_flushed
        Called by the spool's thread whenever there is more to send.
    monotonic
        Seconds that never go back.
    """

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        spool_bytes: int = SPOOL_BYTES,
        memory_bytes: int = MEMORY_BYTES,
        gather_s: float = GATHER_S,
        on_flushed: Callable[[], None] = _do_nothing,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_flushed = on_flushed
        self._folder = Folder(folder)
        self._segment_bytes, self._spool_bytes = segment_bytes, spool_bytes
        self._memory_bytes, self._gather_s = memory_bytes, gather_s
        self._monotonic = monotonic
        self._lock = threading.Lock()  # of all below; held for a write to a file at most
        self._file: int | None = None
        self._segments: dict[int, int] = {}  # first number to size in bytes, in order
        self._size = 0  # of all of them
        self._is_torn = self._is_closed = False
        self._last = self._written = self._flushed = self._acknowledged = 0
        self._kept = threading.Condition(self._lock)  # told when one of these has risen
        self._unsure = 0  # up to this number the disk failed to flush, and may not have them
        self._keeping = 0  # the last number that `keep` waited for
        self._memory: deque[tuple[int, bytes]] = deque()
        self._in_memory_bytes = 0
        self._lost = self._lost_told = 0
        self._trouble: str | None = None
        self._trouble_at = 0  # the last number that was written before it
        self._is_told = False  # of the trouble
        self._ages: deque[tuple[int, float]] = deque()
        self._work, self._hurry = threading.Event(), threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._reader = SegmentReader(self._folder)
        self.incarnation = Incarnation("", 0)
        self.opened_at = 0

    @property
    def last(self) -> int:
        """Number of the newest event."""
        return self._last

    @property
    def undelivered(self) -> int:
        return self._last - self._acknowledged

    @property
    def lost(self) -> int:
        """Events that neither disk nor memory could take."""
        return self._lost

    @property
    def is_in_trouble(self) -> bool:
        """Whether the disk takes nothing at the moment."""
        return self._trouble is not None

    def oldest_s(self) -> float:
        """Age of the oldest event that was not delivered, since it came or since the start."""
        with self._lock:
            while self._ages and self._ages[0][0] <= self._acknowledged:
                self._ages.popleft()
            if not self.undelivered or not self._ages:
                return 0.0
            return max(0.0, self._monotonic() - self._ages[0][1])

    def _note_age(self, number: int) -> None:
        """All up to this number are here now."""
        if self._ages and self._ages[-1][0] >= number:
            return
        at = self._monotonic()
        if len(self._ages) >= _AGES_MAX:
            at = self._ages.pop()[1]
        self._ages.append((number, at))

    def open(self) -> None:
        """Open the folder, find where it stood, begin to flush. Reads the disk.

        Raises
        ------
        PermanentError
            Another process has the folder, or it cannot be used.
        """
        self._folder.open()
        try:
            self._find_where_it_stood()
        except OSError as e:
            self._folder.close()
            raise PermanentError(
                f"the audit spool in {self._folder.path} cannot be opened: {e.strerror}. It must be"
                " a folder that this program may write to, on a disk with room"
            ) from e
        self._thread = threading.Thread(target=self._keep_flushed, name="audit-spool", daemon=True)
        self._thread.start()
        self._work.set()

    def _find_where_it_stood(self) -> None:
        segments = self._folder.segments()
        incarnation = self._folder.read_incarnation()
        if incarnation is None or not segments:  # numbers from 1 again need another id
            if segments:
                path = self._folder.path
                log.error("The audit spool lost its id; it gets another: folder=%s", path)
            incarnation = self._folder.renew_incarnation(segments[0] - 1 if segments else 0)
        if segments:
            file, size, last = self._folder.reopen_segment(segments[-1])
        else:
            file, size, last = self._folder.create_segment(1), 0, 0
            segments = [1]
        try:
            self._folder.sync(segments)
            sizes = {first: self._folder.segment(first).stat().st_size for first in segments}
        except BaseException:
            os.close(file)
            raise
        with self._lock:
            self.incarnation = incarnation
            last = max(last, incarnation.after)
            self.opened_at = self._written = self._flushed = last
            self._acknowledged = max(segments[0] - 1, incarnation.after)
            # What was told before the spool was open gets its number now.
            self._memory = deque((last + n, event) for n, event in self._memory)
            self._last += last
            self._ages.clear()
            self._note_age(self._last)
            self._segments = sizes | {segments[-1]: size}
            self._size = sum(self._segments.values())
            self._file = file

    def append(self, event: bytes, *, may_wait: bool = True) -> int | None:
        """Take an event (its JSON).

        Parameters
        ----------
        may_wait
            Whether it may wait for others to be flushed with, and in memory if the disk does not
            take it; if not, it is not taken at all then.

        Returns
        -------
        Its number; None if it was not taken.
        """
        with self._lock:
            number: int | None = self._last + 1
            line = to_line(self._last + 1, event)
            if not self._memory and self._write(line):
                self._last += 1
                self._written = self._last
            elif not may_wait:
                number = None
            else:
                self._last += 1  # also of what is lost: it shall be missed
                has_room = self._in_memory_bytes + len(event) <= self._memory_bytes
                if has_room and not self._is_closed:
                    self._memory.append((self._last, event))
                    self._in_memory_bytes += len(event)
                    self._note_age(self._last)
                else:
                    self._lost += 1
                    number = None
        if number is not None:
            SPOOLED.inc()
        elif may_wait:
            LOST.labels("ended" if self._is_closed else "disk").inc()
            if self._is_closed:
                log.error("An audit event came after the end of its program and is lost")
        if not self._work.is_set():
            self._work.set()
        if not may_wait:
            self._hurry.set()
        return number

    def keep(self, events: Sequence[bytes], *, timeout_s: float) -> int:
        """Take events (their JSON) that their teller keeps as well, and wait until they are on the
        disk or delivered: not on an event loop, and by one thread at a time.

        Returns
        -------
        How many are, from the first on. Nothing is taken while those of before are not.
        """
        count = 0
        for event in events:
            with self._lock:
                is_free = not self._memory and (count or self._is_kept(self._keeping))
                if not is_free or not self._write(to_line(self._last + 1, event)):
                    break
                self._last += 1
                self._written = last = self._last
            count += 1
        if not count:
            return 0
        SPOOLED.inc(count)
        self._keeping = last
        self._work.set()
        self._hurry.set()
        with self._kept:
            is_kept = self._kept.wait_for(lambda: self._is_kept(last), timeout_s)
        return count if is_kept else 0

    def _is_kept(self, number: int) -> bool:
        """Whether the event of this number is on the disk or delivered."""
        return self._acknowledged >= number or self._flushed >= number > self._unsure

    def _write(self, line: bytes) -> bool:
        """Whether the open segment took a line."""
        if self._file is None:
            return False
        size = self._segments[next(reversed(self._segments))]
        # One goes through when all is delivered: behind it the full segment can be deleted.
        is_full = self._size + len(line) > self._spool_bytes
        if is_full and self._acknowledged < self._written:
            return self._in_trouble(f"the spool holds {self._spool_bytes} bytes")
        if self._is_torn:
            line = b"\n" + line
        try:
            written = os.write(self._file, line)
            if written != len(line):
                self._is_torn = True
                os.ftruncate(self._file, size)
                self._is_torn = False
                return self._in_trouble("the disk took a part of an event")
        except OSError as e:
            return self._in_trouble(e.strerror or type(e).__name__)
        self._is_torn = False
        self._segments[next(reversed(self._segments))] = size + written
        self._size += written
        return True

    def _in_trouble(self, why: str) -> bool:
        if self._trouble is None:
            self._trouble, self._trouble_at = why, self._written
        return False

    def read(self) -> list[Spooled]:
        """The next events that are on disk, oldest first, each once; deletes what is delivered.

        Reads the disk: not on an event loop. By one thread at a time.
        """
        self._delete_acknowledged()
        with self._lock:
            segments, until, after = list(self._segments), self._flushed, self._acknowledged
        # The newest that was delivered is read again after a start: the answer to it tells
        # whether somebody else used our numbers.
        after = max(self.incarnation.after, min(after, self.opened_at - 1))
        return self._reader.read(segments, after=after, until=until)

    def acknowledge(self, number: int) -> None:
        """The service has all up to this number."""
        with self._kept:
            self._acknowledged = max(self._acknowledged, number)
            self._kept.notify_all()

    def put_aside(self, spooled: Spooled) -> None:
        """Keep an event that nobody takes, for an admin to look at. Writes to the disk."""
        try:
            self._folder.append_refused(to_line(spooled.number, spooled.event))
        except OSError as e:
            log.error("An event that nobody takes could not be put aside: why=%s", e.strerror)

    def renew(self, after: int) -> None:
        """Count anew behind this number, under another id. Writes to the disk."""
        incarnation = self._folder.renew_incarnation(after)
        with self._lock:
            self.incarnation = incarnation
            self.opened_at = after
            self._acknowledged = max(self._acknowledged, after)

    def _delete_acknowledged(self) -> None:
        """Delete segments that are delivered; the newest event delivered always stays."""
        with self._lock:
            firsts = list(self._segments)
            pairs = itertools.pairwise(firsts)
            done = [first for first, following in pairs if following <= self._acknowledged]
        for first in done:
            try:
                self._folder.segment(first).unlink(missing_ok=True)
            except OSError as e:
                log.warning("A segment of the audit spool stays: %s", e.strerror)
                return
            with self._lock:
                self._size -= self._segments.pop(first)

    def close(self) -> None:
        """Flush and let go of the folder. Waits for the disk."""
        if self._thread is not None:
            self._ending.set()
            self._work.set()
            self._hurry.set()
            self._thread.join()
            self._thread = None
        with self._lock:
            self._is_closed = True
            file, self._file = self._file, None
            if file is not None:
                os.close(file)
            left = len(self._memory)
        self._reader.close()
        self._folder.close()
        if left:
            log.error("Audit events are lost that the spool could not take: count=%d", left)
            LOST.labels("disk").inc(left)

    def _keep_flushed(self) -> None:
        """The spool's thread."""
        while not self._ending.is_set():
            if self._trouble:
                self._ending.wait(_TRY_AGAIN_S)  # not with each event that comes
            else:
                self._work.wait()
                self._hurry.wait(self._gather_s)
            self._work.clear()
            self._hurry.clear()
            try:
                self._bring_to_disk()
            except Exception:  # a fault of ours: without this thread nothing would be sent
                log.exception("The audit spool could not be flushed")
                self._ending.wait(_TRY_AGAIN_S)
                self._work.set()
        self._bring_to_disk()

    def _bring_to_disk(self) -> None:
        """Write what waits, flush what is written; tell of trouble, and of its end."""
        if self._trouble and not self._is_told:
            self._is_told = True
            fields = (self._folder.path, self._trouble)
            log.error("Audit events cannot be spooled; they wait: folder=%s why=%s", *fields)
        self._write_from_memory()
        if not self._memory and self._trouble and self._written > self._trouble_at:
            if self._is_told:
                lost, self._lost_told = self._lost - self._lost_told, self._lost
                after = (self._folder.path, lost)
                log.error("Audit events are spooled again: folder=%s lost=%d", *after)
            self._is_told, self._trouble = False, None
        self._flush()

    def _write_from_memory(self) -> None:
        while True:
            with self._lock:
                for _ in range(_WRITTEN_AT_ONCE):
                    if not self._memory:
                        return
                    number, event = self._memory[0]
                    if not self._write(to_line(number, event)):
                        return
                    self._memory.popleft()
                    self._in_memory_bytes -= len(event)
                    self._written = number

    def _flush(self) -> None:
        """Have the disk keep what was written, and begin a new segment when it is time."""
        with self._lock:
            file, until = self._file, self._written
            if file is None:
                return
            old = self._begin_segment(file)
            if old is None and until == self._flushed:
                return
            self._note_age(until)
        try:
            _flush_file(file)
            if old is not None:
                self._folder.sync([])
        except OSError as e:
            # The pages may never reach the disk, and nobody will say so again. They can still be
            # sent; if the machine falls before that, the service misses their numbers.
            self._unsure = until
            fields = (self._folder.path, e.strerror)
            log.error("The audit spool's disk does not flush: folder=%s why=%s", *fields)
        finally:
            if old is not None:
                os.close(old)
        with self._kept:
            self._flushed = until
            self._kept.notify_all()
        self.on_flushed()

    def _begin_segment(self, file: int) -> int | None:
        """Let the next events go to a new segment if this one is full; the old descriptor then."""
        newest = next(reversed(self._segments))
        if self._segments[newest] < self._segment_bytes or self._is_torn:
            return None
        first = self._memory[0][0] if self._memory else self._last + 1
        try:
            self._file = self._folder.create_segment(first)
        except OSError:
            return None  # the old one goes on
        self._segments[first] = 0
        return file
