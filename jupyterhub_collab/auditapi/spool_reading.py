"""Reads a spool's segments in order, from the oldest that is there, a batch at a time.

One reader, in a thread of its own; the writer goes on meanwhile. A line that is none (a torn one
in the middle of a segment, a disk's rubbish) is passed over and counted: the number that it had is
missing then, and the service says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from .spool_folder import LINE_MAX, Folder, Spooled, from_line

EVENTS_MAX: Final = 500  # a batch's, as the service takes them
BYTES_MAX: Final = 256 * 1024
log = logging.getLogger(__name__)


class SegmentReader:
    """Where reading stands.

    Attributes
    ----------
    damaged
        Lines passed over.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._first: int | None = None
        self._file: BinaryIO | None = None
        self._in_rubbish = False  # in the middle of an endless line
        self._last = 0
        self.damaged = 0

    def read(self, segments: Sequence[int], *, after: int, until: int) -> list[Spooled]:
        """The next events, at most a batch.

        Parameters
        ----------
        segments
            First numbers of those that are there. All but the last are complete.
        after, until
            Numbers up to `after` need not be read; those beyond `until` may not be yet.
        """
        self._last = max(self._last, after)
        found: list[Spooled] = []
        size = 0
        while len(found) < EVENTS_MAX and self._is_at_a_segment(segments):
            assert self._file is not None
            is_last = self._first == segments[-1]
            start = self._file.tell()
            line = self._file.readline(LINE_MAX)
            if not line.endswith(b"\n"):
                if len(line) == LINE_MAX:
                    self._in_rubbish = True
                elif is_last:
                    self._file.seek(start)  # the end, so far
                    break
                else:
                    if line:
                        self._pass_over()
                    self._leave(segments)
                continue
            if self._in_rubbish:
                self._in_rubbish = False
                self._pass_over()
                continue
            spooled = from_line(line)
            if spooled is None:
                self._pass_over()
                continue
            if spooled.number <= self._last:
                continue
            if spooled.number > until or (found and size + len(line) > BYTES_MAX):
                self._file.seek(start)
                break
            found.append(spooled)
            size += len(line)
            self._last = spooled.number
        return found

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _is_at_a_segment(self, segments: Sequence[int]) -> bool:
        """Have a segment open; False: there is none that can be read."""
        while self._file is None:
            later = [first for first in segments if self._first is None or first > self._first]
            if not later:
                return False
            self._first = later[0]
            try:
                self._file = os.fdopen(self._folder.open_to_read(self._first), "rb")
            except FileNotFoundError:
                path = self._folder.segment(self._first)
                log.error("A segment of the audit spool is gone, with its events: %s", path)
        return True

    def _leave(self, segments: Sequence[int]) -> None:
        self._in_rubbish = False
        self.close()

    def _pass_over(self) -> None:
        self.damaged += 1
        fields: tuple[Any, ...] = (self._folder.path, self._first, self.damaged)
        log.error("A damaged line in the audit spool: folder=%s segment=%s so_far=%d", *fields)
