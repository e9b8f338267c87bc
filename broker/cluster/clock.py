"""Unix time as the NATS servers have it, whatever this machine's clock says: what nodes tell each other goes by it.

Without it a message that expires would be dropped, or live too long, where a node's clock is wrong.

Hot: compiled, and asked once for each message.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from typing import Final

logger = logging.getLogger("broker.cluster")

DIFFERS_S: Final = 1.0
"""Less is not corrected: expiry is told in seconds, and an answer takes its time."""

WARNED_S: Final = 5.0


class ServerClock:
    """Of one node.

    Attributes:
        ahead_s: seconds that this machine's clock is ahead of the servers'; 0 where that is next to nothing.
    """

    def __init__(self) -> None:
        self.ahead_s = 0.0
        # Not asked each time: what this machine's clock is set to between two answers would count at once.
        self._began = time.time() - time.monotonic()
        self._is_warned = False

    def now(self) -> float:
        """Unix time."""
        return time.monotonic() + self._began

    def told(self, said: object, asked_at: float, answered_at: float) -> None:
        """A server has said what time it is, between two moments of `time.time()` here."""
        taken_s = answered_at - asked_at
        if not isinstance(said, str) or not 0.0 <= taken_s < DIFFERS_S:
            return
        try:
            there = datetime.fromisoformat(said)
        except ValueError:
            return
        if there.tzinfo is None:
            return
        ahead_s = asked_at + taken_s / 2 - there.timestamp()
        self.ahead_s = ahead_s if abs(ahead_s) >= DIFFERS_S else 0.0
        self._began = time.time() - time.monotonic() - self.ahead_s
        is_wrong = abs(ahead_s) >= WARNED_S
        if is_wrong and not self._is_warned:
            which = "ahead of" if ahead_s > 0.0 else "behind"
            logger.warning(
                "This machine's clock is %.0f s %s that of NATS, which counts for what expires.",
                abs(ahead_s),
                which,
            )
        self._is_warned = is_wrong
