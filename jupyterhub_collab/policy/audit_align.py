"""From lines of events, as an export has them, to blocks in the order of the log.

A line's event says its own place. Where that is not the place at which the line stands, something
was taken out, put in or moved; the lines around tell which, and the check goes on after it.

It must not: open files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from .audit_block import BLOCK_EVENTS, Row
from .audit_bundle import BODY_BYTES_MAX, BundleError, read_event_line
from .audit_finding import Findings, Kind
from .audit_leaf import canonical_json
from .audit_verify import CannotCheckError
from .tiles import TILE_WIDTH

_PLACE: Final = re.compile(rb'"sequence":([1-9][0-9]{0,17}),"stored":"')
_BAD_LINES_MAX: Final = 1000
_JUMP_MAX: Final = 1_000_000  # events that are missing in a row


def blocks_of(first: int, last: int) -> Iterator[tuple[int, int]]:
    """First place and number of places of each block of events `first` to `last`.

    Blocks begin where tiles do.
    """
    start = first - (first - 1) % TILE_WIDTH
    for at in range(start, last + 1, BLOCK_EVENTS):
        yield at, min(BLOCK_EVENTS, last + 1 - at)


class Aligner:
    """Puts events of lines at their places.

    Parameters
    ----------
    first
        The first place that is expected.
    findings
        Takes what is wrong.
    """

    def __init__(self, first: int, findings: Findings) -> None:
        self._first, self._findings = first, findings
        self._bad = 0
        self.last = first - 1

    def blocks(self, lines: Iterable[bytes]) -> Iterator[tuple[list[Row], int, int]]:
        """Rows, first place and number of places of each block.

        Raises
        ------
        CannotCheckError
            These are no lines of events, or too many are missing at once.
        """
        start = self._first - (self._first - 1) % TILE_WIDTH
        rows: list[Row] = []
        for row in self._in_order(self._rows(lines)):
            while row.sequence >= start + BLOCK_EVENTS:
                yield rows, start, BLOCK_EVENTS
                rows, start = [], start + BLOCK_EVENTS
            rows.append(row)
            self.last = row.sequence
        if self.last >= start:
            yield rows, start, self.last + 1 - start

    def _rows(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """Row of each line, with the place that its event says; 0 where it says none."""
        for number, line in enumerate(lines, 1):
            try:
                event = read_event_line(line)
            except BundleError as e:
                self._count_bad(number, str(e))
                continue
            if len(event.body) > BODY_BYTES_MAX:
                self._count_bad(number, "its event is longer than any can be")
                continue
            found = _PLACE.search(event.body)
            people = canonical_json(event.people) if event.people else b""
            yield Row(int(found[1]) if found else 0, event.body, people)

    def _count_bad(self, number: int, words: str) -> None:
        self._bad += 1
        if self._bad > _BAD_LINES_MAX:
            raise CannotCheckError(f"More than {_BAD_LINES_MAX} lines are no events.")
        text = f"Line {number} of the events cannot be read: {words}."
        self._findings.add(Kind.FORM, 0, text)

    def _in_order(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Rows by rising place, each once."""
        expected = self._first
        row = next(rows, None)
        while row is not None:
            after = next(rows, None)
            said, next_said = row.sequence, after.sequence if after is not None else 0
            if said == expected:
                yield row
                expected += 1
            elif said == 0:
                self._tell(Kind.FORM, expected, "stands what does not say its place")
                yield row._replace(sequence=expected)
                expected += 1
            elif said < expected:
                self._tell(Kind.INSERTED, expected, f"stands event {said} again, or too late")
            elif next_said == expected:
                self._tell(Kind.REORDERED, expected, f"stands event {said}")
            elif next_said == expected + 1:
                self._tell(Kind.REORDERED, expected, f"stands event {said}")
                expected += 1
            elif said - expected > _JUMP_MAX:
                raise CannotCheckError(
                    f"After event {expected - 1} comes {said}: too many are missing to go on."
                )
            else:
                yield row
                expected = said + 1
            row = after

    def _tell(self, kind: Kind, place: int, words: str) -> None:
        self._findings.add(kind, place, f"At the place of event {place} {words}.")
