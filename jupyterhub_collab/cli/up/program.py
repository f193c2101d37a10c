"""A program that `up` runs: how it starts, when it is ready, how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

IsReady = Callable[[], Awaitable[bool]]
"""Asks the program itself whether it serves; never raises."""


@dataclass(frozen=True)
class Program:
    """What to run. Secrets stand in ``env``, never in ``command``.

    Attributes
    ----------
    name, title
        Short name (of the log and the lease), and what a person is told.
    is_ready
        Asked until it says yes.
    start_timeout_s
        Seconds the first start may take.
    stop_timeout_s
        Seconds between SIGTERM and SIGKILL.
    is_beside
        The next ones are started meanwhile; only the hub waits for it.
    after_stop
        Called once it was stopped on purpose, before the next is stopped: ends what it leaves
        running. May block.
    """

    name: str
    title: str
    command: tuple[str, ...]
    is_ready: IsReady
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    start_timeout_s: float = 60.0
    stop_timeout_s: float = 10.0
    after_stop: Callable[[], object] | None = None
    is_beside: bool = False


@dataclass(frozen=True)
class Backoff:
    """Pause before the n-th restart in a row, in seconds: doubled each time up to a bound.

    A program that lived for ``forgive_after_s`` starts again from the first pause.
    """

    first_s: float = 0.5
    most_s: float = 30.0
    forgive_after_s: float = 60.0

    def pause_s(self, failures: int) -> float:
        """Pause after ``failures`` ends in a row, the latest included (1 and more)."""
        return min(self.first_s * 2.0 ** min(failures - 1, 16), self.most_s)
