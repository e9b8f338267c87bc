"""How rows are tried again that may be written then, as Postgres says: fewer together, and one not for ever.  Pure.

A trigger that never ends in time, or says each time that its row is to be tried again, fails again and again.  Which
row it is about shows when fewer are tried; all behind it would wait for it.
"""

from __future__ import annotations

from typing import Final

WHOLE_TRIES: Final = 3
"""So often the same rows are tried together: most deadlocks are over then."""

ALONE_TRIES_MIN: Final = 5
ALONE_S_MIN: Final = 60.0
"""So often, and so long, one row is tried by itself before it may be to blame."""


class Patience:
    """Of one connection's rows, in their order."""

    def __init__(self) -> None:
        self._failures = 0
        self._together = 0
        self.alone = 0
        """How often the row whose turn it is was tried by itself."""
        self._alone_since = 0.0

    def together(self, count: int) -> int:
        """How many of so many rows to try in one go."""
        return min(self._together, count) if self._together else count

    def failed(self, count: int) -> None:
        """So many were tried, and may be written if they are tried again."""
        self._failures += 1
        if self._failures >= WHOLE_TRIES:
            self._together = max(1, count // 2)

    def worked(self, count: int) -> None:
        """So many were written or refused, and another row is the next."""
        self._failures = self.alone = 0
        self._together = 2 * self._together if self._together <= count else 0

    def moved_on(self) -> None:
        """Some were written; it is another row that fails."""
        self.alone = 0

    def is_over(self, now: float) -> bool:
        """Whether one that failed by itself just now, as before, has been tried long enough."""
        if self.alone == 0:
            self._alone_since = now
        self.alone += 1
        return self.alone >= ALONE_TRIES_MIN and now - self._alone_since >= ALONE_S_MIN
