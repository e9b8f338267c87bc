"""How much WAL the database keeps behind what is durable, for a receiver that may lose what it had.  Pure.

Invariant: `confirmable` never grows past what was durable, and never falls.
"""

from __future__ import annotations

from collections import deque
from typing import Final

KEPT_BYTES_MAX: Final = 256 * 1024 * 1024
"""Of WAL that is kept for a refill alone, whatever its age: the primary's disk comes first."""

MARKS: Final = 100
"""Into so many steps the time is divided."""


class Retention:
    """Of one feed's slot.

    Args:
        keep_s: how long what is durable stays; 0 for not at all.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._marks: deque[tuple[float, int]] = deque()
        self._next_mark_at = 0.0
        self._confirmable = 0
        self.durable_lsn = 0

    def durable(self, lsn: int, now: float) -> None:
        """Everything before `lsn` is durable, from now on.

        Args:
            now: monotonic seconds.
        """
        self.durable_lsn = max(self.durable_lsn, lsn)
        marks = self._marks
        if self._keep_s == 0:
            return
        if marks and now < self._next_mark_at:
            marks[-1] = (now, self.durable_lsn)
        else:
            marks.append((now, self.durable_lsn))
            self._next_mark_at = now + self._keep_s / MARKS

    def confirmable(self, now: float) -> int:
        """What the server may forget now; 0 for nothing."""
        if self._keep_s == 0:
            return self.durable_lsn
        marks = self._marks
        while marks and marks[0][0] <= now - self._keep_s:
            self._confirmable = max(self._confirmable, marks.popleft()[1])
        self._confirmable = max(self._confirmable, self.durable_lsn - KEPT_BYTES_MAX)
        return self._confirmable

    def begin_anew(self) -> None:
        """Positions begin anew: another server, or another slot."""
        self._marks.clear()
        self._confirmable = self.durable_lsn = 0
