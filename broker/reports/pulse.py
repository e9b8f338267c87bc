"""How late Trio's loop is: a task that should wake up every so often, and notes by how much it overslept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from broker.core.histogram import Histogram

BEAT_S: Final = 0.25
"""How often; a loop that is blocked for a second has missed four."""

STUCK_S: Final = 1.0
"""A loop that turned later than this is not healthy."""


class Pulse:
    """Beats until cancelled.

    Attributes:
        lag: how late each beat was, in seconds.
        last_lag_s: of the last beat.
        on_beat: called at each, while the loop turns; for the service manager's watchdog.
    """

    def __init__(self) -> None:
        self.lag = Histogram()
        self.last_lag_s = 0.0
        self.on_beat: Callable[[float], None] | None = None
        self._beat_at: float | None = None

    async def run(self) -> None:
        """Beat for ever, and notice how late each beat is."""
        while True:
            due = trio.current_time() + BEAT_S
            await trio.sleep_until(due)
            self.beat(due, trio.current_time())

    def beat(self, due: float, now: float) -> None:
        """Note a beat.  Both in monotonic seconds."""
        self.last_lag_s = max(0.0, now - due)
        self.lag.observe(self.last_lag_s)
        self._beat_at = now
        if self.on_beat is not None:
            self.on_beat(now)

    def stuck_s(self, now: float) -> float:
        """For how long the loop has not turned, or did not when it turned last; 0.0 if that was in time."""
        late = self.last_lag_s
        if self._beat_at is not None:
            late = max(late, now - self._beat_at - BEAT_S)
        return late if late > STUCK_S else 0.0
