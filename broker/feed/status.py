"""What a feed is doing and has done, as plain attributes that $SYS, /healthz and the log read.

Invariant: counters only grow.
"""

from __future__ import annotations

import logging
from typing import Protocol

_LOG = logging.getLogger("broker.feed")

SAY_AGAIN_S = 60.0
"""How often at most the log repeats one reason for dropping rows."""

REASONS_MAX = 1000
"""Remembered (reason, place) pairs.  Places come from the configuration, but kinds come from rows."""


class FeedSink(Protocol):
    """Where a feed's publications go.  Neither call may block."""

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool) -> None: ...

    def flush(self) -> None:
        """Called after each batch: whatever was published goes out now."""


class FeedStatus:
    """One feed's state and counters.  The owner of the process makes it, the feed writes it, others read it.

    Attributes:
        state: `connecting`, `recovering` (reading what was missed), `live`, `waiting` (to try again).
        since_unix_s: when `state` was entered.
        problem: why the last connection failed or ended; "" while live.
        received: notifications or row changes from Postgres.
        published: publications handed to the sink; one row may make several.
        repeated: rows not published because of `once_per`, or because recovery had delivered them already.
        recovered: rows read again by key.
        reconnects: connections after the first.
        gaps: times at which rows may have been lost, each with a WARNING that names the kinds.
        dropped: rows not published, by reason.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "connecting"
        self.since_unix_s = 0.0
        self.problem = ""
        self.received = 0
        self.published = 0
        self.repeated = 0
        self.recovered = 0
        self.reconnects = 0
        self.gaps = 0
        self.dropped: dict[str, int] = {}
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def drop(self, reason: str, where: str, now: float) -> None:
        """Count a row that is not published, and say so, at most once a minute for each reason and place.

        Args:
            reason: a short name such as `null` or `unsafe_value`.
            where: the route, column or kind; never the value.
            now: monotonic seconds.
        """
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        said_at, unsaid = self._said.get((reason, where), (-SAY_AGAIN_S, 0))
        if now - said_at < SAY_AGAIN_S:
            self._said[reason, where] = (said_at, unsaid + 1)
            return
        if len(self._said) >= REASONS_MAX:
            self._said.clear()
        self._said[reason, where] = (now, 0)
        more = f" ({unsaid} more since the last time)" if unsaid else ""
        _LOG.warning("feed %s: row not published: %s: %s%s", self.name, reason, where, more)
