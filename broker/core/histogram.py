"""How often something took how long, in fixed steps: plain integers, one search and two additions for each value."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

LATENCY_S: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)
"""From half a millisecond, what a row takes on an idle machine, to a minute, which somebody should look at."""


class Histogram:
    """Counts of values, each up to one of the bounds.

    Args:
        bounds: upper bounds in ascending order, inclusive, in the unit of the values.

    Attributes:
        counts: one for each bound, and a last one for what is above all of them; not cumulative.
        sum: of all values.
    """

    def __init__(self, bounds: tuple[float, ...] = LATENCY_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or so many that are alike."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def count(self) -> int:
        """All values."""
        return sum(self.counts)

    def quantile(self, part: float) -> float:
        """The bound below which that part (0 to 1) of the values lies; 0.0 without any, the last bound if above it."""
        wanted = part * self.count()
        seen = 0
        for bound, count in zip(self.bounds, self.counts[:-1], strict=True):
            seen += count
            if seen >= wanted:
                return bound if seen else 0.0
        return self.bounds[-1]
