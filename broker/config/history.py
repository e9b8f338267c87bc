"""What a configuration says about the history of topics, as values."""

from __future__ import annotations

from attrs import frozen


@frozen
class HistoryRule:
    """[[history]]: a ring of the last messages of each of these filters."""

    topics: tuple[str, ...]
    size_bytes: int = 64 * 1024 * 1024
    count: int = 100_000
    age_s: float = 86400.0
    source_count: int = 100_000
    """How many rows that the ring has dropped can be found in their database again."""
