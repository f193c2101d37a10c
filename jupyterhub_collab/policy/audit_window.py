"""How long the oldest event has waited to be held outside. Pure; times are of a clock that only
goes forward.

Marks say by when which events had been stored. They are few: what comes within a second is one
mark, and of too many every second one goes. Either way an event looks older than it is, never
younger.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_APART_S: Final = 1.0
_MARKS_MAX: Final = 4096


class Window:
    """Events that no anchor holds yet.

    Parameters
    ----------
    held
        Events that one holds.
    """

    def __init__(self, held: int = 0) -> None:
        self.size = self.held = held
        self._marks: deque[tuple[int, float]] = deque()  # up to which event, stored not before

    def grow(self, size: int, at_s: float) -> None:
        """The log has so many events, and the new ones were stored not before then."""
        if size <= self.size:
            return
        self.size = size
        if self._marks and at_s - self._marks[-1][1] < _APART_S:
            at_s = self._marks.pop()[1]
        self._marks.append((size, at_s))
        if len(self._marks) > _MARKS_MAX:
            every = list(self._marks)
            pairs = zip(every[::2], every[1::2], strict=False)
            merged = deque((later[0], earlier[1]) for earlier, later in pairs)
            if len(every) % 2:
                merged.append(every[-1])
            self._marks = merged

    def hold(self, size: int) -> None:
        """An anchor holds so many events."""
        self.held = max(self.held, size)
        while self._marks and self._marks[0][0] <= self.held:
            self._marks.popleft()

    @property
    def events(self) -> int:
        """How many none holds."""
        return max(0, self.size - self.held)

    def age_s(self, now_s: float) -> float:
        """Seconds that the oldest of them has waited, or more; 0 if there is none."""
        return max(0.0, now_s - self._marks[0][1]) if self._marks else 0.0
