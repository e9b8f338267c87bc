"""Percentiles, medians and spreads, each small enough to be checked by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from attrs import frozen


@frozen
class Latency:
    """Microseconds; `samples` says how far the tail may be believed."""

    p50_us: float
    p99_us: float
    p999_us: float
    samples: int


@frozen
class Spread:
    """The middle of several rounds, with the lowest and the highest."""

    median: float
    lowest: float
    highest: float


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: the smallest value that at least `share` (0..1) of all do not exceed.

    Args:
        ordered: at least one value, ascending.
    """
    rank = math.ceil(round(share * len(ordered), 9))
    return ordered[max(rank, 1) - 1]


def latency(samples_us: Iterable[float]) -> Latency | None:
    """None when nothing was sampled."""
    ordered = sorted(samples_us)
    if not ordered:
        return None
    p50, p99, p999 = (percentile(ordered, share) for share in (0.5, 0.99, 0.999))
    return Latency(p50, p99, p999, len(ordered))


def median(values: Iterable[float]) -> float:
    """The middle value; of an even number, the mean of the two in the middle."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Iterable[float]) -> Spread | None:
    known = list(values)
    return Spread(median(known), min(known), max(known)) if known else None


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float]:
    """Ours by theirs, round by round: what a machine's mood does to one round it does to both."""
    return [a / b for a, b in zip(ours, theirs, strict=False) if a is not None and b]
