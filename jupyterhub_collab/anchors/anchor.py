"""What an anchor is: a place outside that takes checkpoints of the audit log.

It must not: know of the log's database. The tree's hashes come through a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import PermanentError
from ..policy.tiles import Tile


class ForkError(PermanentError):
    """The place holds what does not belong to this log's past. Nothing there was changed."""


@dataclass(frozen=True)
class Delivery:
    """A checkpoint on its way out.

    Attributes
    ----------
    origin, size, note
        The log's name, how many events, and the signed text.
    held
        Events of the last checkpoint that this place took, as far as is known; 0 for none.
    earlier
        Checkpoints since the last that this place took, by size; without this one.
    read_tiles
        The tree's hashes that a copy of so many events lacks. Blocks: call it in a thread.
    """

    origin: str
    size: int
    note: str
    held: int
    earlier: tuple[tuple[int, str], ...]
    read_tiles: Callable[[int], Iterator[tuple[Tile, bytes]]]


class Anchor(Protocol):
    """A place outside.

    Attributes
    ----------
    name
        For people and metrics, without secrets.
    interval_s
        It is told at most this often.
    """

    name: str
    interval_s: float

    async def deliver(self, delivery: Delivery) -> None:
        """Returns once the place has it for good.

        Raises
        ------
        RetryableError
            Not now.
        ForkError
            The place holds another past.
        PermanentError
            Not before somebody changes something.
        """

    async def newest(self) -> str | None:
        """The newest note that it holds; None if it holds none or cannot be read.

        Raises
        ------
        RetryableError
            It does not answer.
        PermanentError
            Not before somebody changes something.
        """

    async def set_aside(self) -> None:
        """An admin accepted that the log begins anew from an earlier size: keep what is held, out
        of the way. Raises as `deliver` does."""

    async def close(self) -> None:
        """Leave nothing open."""
