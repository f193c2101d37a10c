"""Pairs, ratios and their intervals; the one JSON line that every benchmark ends with."""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 2000
MIN_PAIRS_OF_AN_INTERVAL = 10  # of fewer, a bootstrap gives little more than their range


@dataclass(frozen=True)
class Result:
    """What one benchmark found.

    Attributes
    ----------
    figures, peers
        Ours and the peer's, pair by pair, in ``unit``.
    target
        Bound of the ratio of ours to the peer's (medians).
    at_most
        Whether the target is an upper bound; a lower one otherwise.
    notes
        Facts that a reader needs to repeat the run.
    """

    name: str
    unit: str
    figures: Sequence[float]
    peers: Sequence[float]
    peer_name: str
    target: float
    at_most: bool
    notes: dict[str, object]

    @property
    def ratio(self) -> float:
        return statistics.median(self.figures) / statistics.median(self.peers)

    @property
    def is_within_target(self) -> bool:
        return self.ratio <= self.target if self.at_most else self.ratio >= self.target

    def interval(self) -> tuple[float, float] | None:
        """95% bootstrap interval of the ratio of medians; None for too few pairs to tell one."""
        if len(self.figures) < MIN_PAIRS_OF_AN_INTERVAL:
            return None
        pairs = list(zip(self.figures, self.peers, strict=True))
        chance = random.Random(1)
        ratios = []
        for _ in range(RESAMPLES):
            drawn = chance.choices(pairs, k=len(pairs))
            ours = statistics.median(a for a, _ in drawn)
            ratios.append(ours / statistics.median(b for _, b in drawn))
        ratios.sort()
        return ratios[int(RESAMPLES * 0.025)], ratios[int(RESAMPLES * 0.975) - 1]

    def to_json(self) -> str:
        interval = self.interval()
        return json.dumps(
            {
                "benchmark": self.name,
                "figure": round(statistics.median(self.figures), 4),
                "peer": self.peer_name,
                "peer_figure": round(statistics.median(self.peers), 4),
                "unit": self.unit,
                "ratio": round(self.ratio, 4),
                "interval_95": interval and [round(bound, 4) for bound in interval],
                "pairs": len(self.figures),
                "target": f"{'at most' if self.at_most else 'at least'} {self.target}",
                "within_target": self.is_within_target,
                "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
                "python": platform.python_version(),
                **self.notes,
            }
        )


def finish(*results: Result) -> None:
    """Print each result as a line and leave with 1 if any is outside its target."""
    for result in results:
        print(result.to_json(), flush=True)
    sys.exit(0 if all(result.is_within_target for result in results) else 1)
