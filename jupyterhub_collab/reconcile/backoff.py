"""How long to wait after the n-th failure in a row. Pure but for the dice it is given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Exponential, with jitter, never shorter than the other side asked for.

    Attributes
    ----------
    first_s, longest_s
        Seconds after the first failure, and at most.
    """

    first_s: float = 0.25
    longest_s: float = 60.0
    uniform: Callable[[float, float], float] = random.uniform

    def delay_s(self, failures: int, *, asked_s: float | None = None) -> float:
        """Seconds to wait after `failures` failures in a row (from 1)."""
        ceiling = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 32))
        # Jitter comes on top of what was asked: not all come back in the same instant.
        if asked_s is not None and asked_s > ceiling / 2:
            return asked_s + self.uniform(0.0, ceiling / 2)
        return self.uniform(ceiling / 2, ceiling)
