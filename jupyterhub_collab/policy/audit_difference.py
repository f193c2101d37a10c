"""What was done to a log, from hashes of its leaves beside those that were signed.

An edited event has another hash and leaves the next ones as they were; one that was taken out lets
all that follow move up; one that was put in moves them down; two that changed places have each
other's. What fits none of that for long was rewritten.

It must not: know what an event says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from .audit_finding import Finding, Findings, Kind
from .tiles import TILE_WIDTH

_BUFFER: Final = 8 * TILE_WIDTH  # leaves that are looked at together
_SAME: Final = 3  # leaves in a row that show that the rest only moved
_REWRITTEN_MIN: Final = 64  # leaves in a row that differ, to say so


@dataclass
class _Buffer:
    """Leaves from `base` on. None: not there, which somebody else tells."""

    base: int
    own: list[bytes | None] = field(default_factory=list)
    right: list[bytes] = field(default_factory=list)


class Differences:
    """Takes tiles that differ, in order, and adds findings."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._buffer: _Buffer | None = None
        self._rest: tuple[int, int] | None = None
        self._is_moved = False

    def add(self, base: int, own: list[bytes], right: list[bytes], holes: frozenset[int]) -> None:
        """A tile from leaf `base` (from 0) on; those that do not differ may be left out."""
        shown: list[bytes | None] = [None if at in holes else leaf for at, leaf in enumerate(own)]
        if all(a is None or a == b for a, b in zip(shown, right, strict=False)):
            return
        if self._rest is not None and self._rest[1] == base:
            self._rest = (self._rest[0], base + len(right))
            return
        buffer = self._buffer
        if buffer is None or buffer.base + len(buffer.own) != base:
            self.finish()
            self._buffer = buffer = _Buffer(base)
        buffer.own += shown
        buffer.right += right
        if len(buffer.own) >= _BUFFER:
            end = buffer.base + len(buffer.right)
            self._look()
            self._rest = (end, end)

    def finish(self) -> None:
        """Tell of all that was taken."""
        self._look()
        if self._rest is not None and self._rest[0] < self._rest[1] and not self._is_moved:
            first, last = self._rest[0] + 1, self._rest[1]
            text = f"Events {first} to {last} are not as they were signed either."
            self._findings.add(Kind.REWRITTEN, first, text, last)
        self._rest, self._is_moved = None, False

    def _look(self) -> None:
        if self._buffer is None:
            return
        walk = _Walk(self._buffer)
        walk.run()
        for finding in walk.found:
            self._findings.take(finding)
        self._is_moved, self._buffer = walk.is_moved, None


class _Walk:
    """Two pointers over both lists."""

    def __init__(self, buffer: _Buffer) -> None:
        self._base, self._own, self._right = buffer.base, buffer.own, buffer.right
        self._own_places = {leaf: at for at, leaf in enumerate(buffer.own) if leaf is not None}
        self._right_places = {leaf: at for at, leaf in enumerate(buffer.right)}
        self._at_own = self._at_right = 0
        self._swapped: set[int] = set()
        self._taken: dict[bytes, Finding] = {}  # taken out, or put in, one by one
        self._edited_from: int | None = None
        self.found: list[Finding] = []

    @property
    def is_moved(self) -> bool:
        """Whether what follows is only moved."""
        return self._at_own != self._at_right

    def run(self) -> None:
        """Find all."""
        while self._at_own < len(self._own) and self._at_right < len(self._right):
            own, right = self._own[self._at_own], self._right[self._at_right]
            if own is None or own == right or self._at_own in self._swapped:
                self._end_edit()
                self._step(1, 1)
            elif not self._find_move(own, right):
                if self._edited_from is None:
                    self._edited_from = self._at_right
                self._step(1, 1)
        self._end_edit()

    def _step(self, own: int, right: int) -> None:
        self._at_own += own
        self._at_right += right

    def _find_move(self, own: bytes, right: bytes) -> bool:
        there = self._own_places.get(right, -1) - self._at_own  # where the right leaf stands now
        from_ = self._right_places.get(own, -1) - self._at_right  # where this leaf should stand
        if there > 0 and there == from_:
            self._end_edit()
            self._swapped.add(self._at_own + there)
            first, last = self._sequence(0), self._sequence(there)
            self._tell(Kind.REORDERED, first, last, f"Events {first} and {last} changed places.")
            self._step(1, 1)
        elif from_ > 0 and self._is_same(self._at_own, self._at_right + from_):
            self._end_edit()
            self._tell_taken(self._right[self._at_right], from_)
            self._step(0, from_)
        elif there > 0 and self._is_same(self._at_own + there, self._at_right):
            self._end_edit()
            self._tell_put(own, there)
            self._step(there, 0)
        else:
            return False
        return True

    def _is_same(self, own: int, right: int) -> bool:
        some = min(_SAME, len(self._own) - own, len(self._right) - right)
        return self._own[own : own + some] == self._right[right : right + some]

    def _tell_taken(self, leaf: bytes, count: int) -> None:
        first, last = self._sequence(0), self._sequence(count - 1)
        put = self._taken.pop(leaf, None) if count == 1 else None
        if put is not None:
            self.found.remove(put)
            self._tell_moved(put.first, first)
            return
        which = f"Event {first} is" if count == 1 else f"Events {first} to {last} are"
        self._tell(Kind.MISSING, first, last, f"{which} missing; what followed was moved up.")
        self._taken[leaf] = self.found[-1]

    def _tell_put(self, leaf: bytes, count: int) -> None:
        first, last = self._sequence(0), self._sequence(count - 1)
        taken = self._taken.pop(leaf, None) if count == 1 else None
        if taken is not None:
            self.found.remove(taken)
            self._tell_moved(taken.first, first - 1)
            return
        copied = self._right_places.get(leaf, -1)
        if count > 1:
            text = f"Events were put in at the places {first} to {last}."
        elif 0 <= copied < self._at_right:
            text = f"At the place {first} a copy of event {self._base + copied + 1} was put in."
        else:
            text = f"An event was put in at the place {first}."
        self._tell(Kind.INSERTED, first, last, text)
        self._taken[leaf] = self.found[-1]

    def _tell_moved(self, one: int, other: int) -> None:
        first, last = min(one, other), max(one, other)
        self._tell(Kind.REORDERED, first, last, f"Between {first} and {last} an event was moved.")

    def _end_edit(self) -> None:
        if self._edited_from is None:
            return
        count = self._at_right - self._edited_from
        first = self._base + self._edited_from + 1
        last, self._edited_from = first + count - 1, None
        if count == 1:
            self._tell(Kind.EDITED, first, first, f"Event {first} was edited.")
        elif count < _REWRITTEN_MIN:
            self._tell(Kind.EDITED, first, last, f"Events {first} to {last} were edited.")
        else:
            self._tell(Kind.REWRITTEN, first, last, f"Events {first} to {last} were rewritten.")

    def _sequence(self, further: int) -> int:
        return self._base + self._at_right + further + 1

    def _tell(self, kind: Kind, first: int, last: int, text: str) -> None:
        self.found.append(Finding(kind, first, last, text))
