"""Changes that come before the whole which they change, as where a snapshot is fetched while changes arrive.  Pure.

They are kept, and taken once more behind the message that says all.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from broker.feed.routing.routes import Row
from broker.marketdata.intake.sequence import Numbered

KEPT_MAX: Final = 1000
"""Of one count: the newest."""

KEPT_ALL_MAX: Final = 20_000


class Early:
    """Rows of one source, by whose count they are of."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[tuple[int, Row]]] = {}
        self._count = 0

    def note(self, message: Numbered, row: Row) -> list[Row]:
        """A row that is being taken; gives those that are to be taken again behind its message."""
        if message.is_whole:
            kept = self._kept.pop(message.of, deque())
            self._count -= len(kept)
            return [row for number, row in kept if number > message.number]
        if not message.is_founded:
            own = self._kept.get(message.of)
            if own is not None and len(own) >= KEPT_MAX:
                own.popleft()
                self._count -= 1
            if self._count < KEPT_ALL_MAX:
                self._kept.setdefault(message.of, deque()).append((message.number, row))
                self._count += 1
        return []
