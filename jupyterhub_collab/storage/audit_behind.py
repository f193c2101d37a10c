"""When the rows that searches go along are written behind the events.

It must not: hold an event up for longer than one piece takes, or try again at once what failed.
"""

from __future__ import annotations

import logging
import time
from typing import Final

from .audit_writer import INDEXED_AT_ONCE, Writer

_RETRY_FIRST_S: Final = 1.0
_RETRY_LONGEST_S: Final = 60.0
log = logging.getLogger(__name__)


class Behind:
    """For the thread that writes.

    Parameters
    ----------
    events, after_s
        Rows are written for so many events together, or after so many seconds.
    """

    def __init__(self, writer: Writer, events: int, after_s: float) -> None:
        self._writer, self._events, self._after_s = writer, events, after_s
        self._due_s: float | None = None  # monotonic; None: all is written
        self._failures = 0  # in a row

    def wait_s(self) -> float | None:
        """Seconds until rows are due; None: until there are events."""
        return None if self._due_s is None else max(0.0, self._due_s - time.monotonic())

    def write(self) -> None:
        """Write a piece, if enough has gathered or waited."""
        gathered = self._writer.unindexed
        if not gathered:
            self._due_s = None
            return
        if self._due_s is None:
            self._due_s = time.monotonic() + self._after_s
        is_full = gathered >= self._events and not self._failures
        if is_full or time.monotonic() >= self._due_s:
            self._try()

    def write_all(self) -> None:
        """Write what is missing, as far as it can be written."""
        while self._writer.unindexed and self._try():
            pass

    def _try(self) -> bool:
        try:
            self._writer.write_index(INDEXED_AT_ONCE)
        except Exception as e:
            if not self._failures:
                log.error(
                    "Searches get slower: what they go along is not written after event %d (%s). "
                    "Look at the log with `jupyterhub-collab audit verify`.",
                    self._writer.known.indexed,
                    type(e.__cause__ or e).__name__,
                )
            wait_s = min(_RETRY_LONGEST_S, _RETRY_FIRST_S * 2.0 ** min(self._failures, 32))
            self._failures += 1
            # From now, for the attempt may have taken long: events come in between.
            self._due_s = time.monotonic() + max(self._after_s, wait_s)
            return False
        self._due_s = time.monotonic() if self._writer.unindexed else None
        self._failures = 0
        return True
