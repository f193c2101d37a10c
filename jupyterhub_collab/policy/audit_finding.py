"""What a check of the audit log finds, and how it is told.

A finding names events by their sequence and says in words what is wrong. It never repeats what is
personal: a report of a check may be shown to anybody.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

KEPT_MAX: Final = 100  # findings of one kind that are kept one by one; more are only counted


class Kind(str, Enum):
    """What is wrong."""

    CHANGED = "changed"  # something between two heads; tiles would say what
    EDITED = "edited"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    CUT = "cut"
    REWRITTEN = "rewritten"
    CHECKPOINT = "checkpoint"  # not signed by the log's key, or of another history
    PERSON = "person"  # who is kept beside an event is not who was recorded
    ERASED = "erased"  # without authority
    INDEX = "index"  # searches do not find what the event says
    TILE = "tile"  # the log's own copy of hashes
    EMITTER = "emitter"  # an emitter's events have a gap that nothing tells of, or stand twice
    TIME = "time"
    FORM = "form"  # not the text of an event


OF_EVENTS: Final = frozenset(
    {
        Kind.CHANGED,
        Kind.EDITED,
        Kind.MISSING,
        Kind.INSERTED,
        Kind.REORDERED,
        Kind.CUT,
        Kind.REWRITTEN,
        Kind.FORM,
    }
)
"""What makes a head another: events themselves, rather than what is kept beside them."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    first, last
        Events that it is about, as narrowly as is known. 0: the log as a whole.
    text
        A sentence.
    is_exact
        Whether `first` is a bad event itself, rather than where to look from.
    """

    kind: Kind
    first: int
    last: int
    text: str
    is_exact: bool = True


class Findings:
    """Findings in bounded memory: the first of each kind, and how many there are."""

    def __init__(self) -> None:
        self.counts: Counter[Kind] = Counter()
        self._kept: dict[Kind, list[Finding]] = {}

    def add(self, kind: Kind, first: int, text: str, last: int | None = None) -> None:
        """Keep a finding about events `first` to `last`."""
        self.take(Finding(kind, first, first if last is None else last, text))

    def add_between(self, kind: Kind, first: int, last: int, text: str) -> None:
        """Keep a finding about something between events `first` and `last`."""
        self.take(Finding(kind, first, last, text, is_exact=False))

    def take(self, finding: Finding) -> None:
        """Keep a finding, or count it."""
        self.counts[finding.kind] += 1
        kept = self._kept.setdefault(finding.kind, [])
        if len(kept) >= KEPT_MAX:
            if _place(finding) >= _place(kept[-1]):
                return
            kept.pop()
        bisect.insort(kept, finding, key=_place)

    def merge(self, others: Findings) -> None:
        """Add those of another."""
        counts = self.counts + others.counts
        for finding in others:
            self.take(finding)
        self.counts = counts

    def __iter__(self) -> Iterator[Finding]:
        found = [finding for kept in self._kept.values() for finding in kept]
        return iter(sorted(found, key=_place))

    def __bool__(self) -> bool:
        return bool(self.counts)


def _place(finding: Finding) -> tuple[int, bool, int]:
    """Order: what is wrong with an event comes before what is wrong beside it."""
    return finding.first, finding.kind not in OF_EVENTS, finding.last
