"""How many of something each person has open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class TooManyError(Exception):
    """Somebody has as many open as they may, or all have."""


class Slots:
    """How many of something each person has open."""

    def __init__(self, per_person: int, in_all: int) -> None:
        self._per_person, self._in_all = per_person, in_all
        self._open: Counter[str] = Counter()

    @contextmanager
    def taken(self, name: str) -> Iterator[None]:
        """One more, until the end of the block. Raises TooManyError."""
        if self._open[name] >= self._per_person or self._open.total() >= self._in_all:
            raise TooManyError
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            if not self._open[name]:
                del self._open[name]
