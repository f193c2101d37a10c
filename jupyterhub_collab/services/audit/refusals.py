"""What was refused because nothing protected may be done: remembered for those who ask again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ...policy.audit_batch import ReadBatch, refuse_protected

_KNOWN_MAX: Final = 10_000


class Refusals:
    """What was refused because nothing protected may be done.

    A batch whose answer was lost comes again, perhaps when all is well: what was stored as refused
    must not be answered as allowed then.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, int], None] = OrderedDict()

    def apply(self, emitter: str, read: ReadBatch, *, is_refusing: bool) -> ReadBatch:
        """The batch to store."""
        if not is_refusing and not self._known:
            return read
        incarnation = read.batch.incarnation

        def is_refused(sequence: int) -> bool:
            key = (emitter, incarnation, sequence)
            if is_refusing:
                self._known[key] = None
            return key in self._known

        found = refuse_protected(read, is_refused)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return found
