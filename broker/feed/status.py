"""What a feed is doing and has done, as plain attributes that $SYS, /healthz and the log read.

Invariant: counters only grow.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Final

from attrs import frozen

from broker.core.histogram import Histogram

logger = logging.getLogger("broker.feed")

SAY_AGAIN_S = 60.0
"""How often at most the log repeats one reason for dropping rows."""

DELIVERED_XIDS: Final = 2000
"""A server shows a transaction to others a moment after it has sent it; so many, at most, are in that moment."""

REASONS_MAX = 1000
"""Remembered (what, where) pairs.  Places come from the configuration, but kinds come from rows."""


@frozen
class Gap:
    """Rows may have been lost: why, and when that was noticed."""

    reason: str
    unix_s: float


STANDBY: Final = "standby"
"""`FeedStatus.state` where another node reads the feed."""


class FeedStatus:
    """One feed's state and counters.  The owner of the process makes it, the feed writes it, others read it.

    Attributes:
        state: `connecting`, `recovering` (reading what was missed), `live`, `waiting` (to try again); `standby` where
            another node of the cluster reads the feed.
        since_unix_s: when `state` was entered.
        problem: why the last connection failed or ended; "" while live.
        received: notifications or row changes from Postgres.
        published: publications handed to the outlet; one row may make several.
        repeated: rows not published because of `once_per`, or because recovery had delivered them already.
        recovered: rows read again by key.
        fetched: rows read by key because their notifications had nothing else.
        reconnects: connections after the first.
        gaps: times at which rows may have been lost, each with a WARNING that names the kinds.
        last_gap: the last of them, until somebody acknowledges it or it is a while ago; /readyz is red meanwhile.
        troubles: what keeps rows from being delivered although the connection is fine, in words by a short name:
            a table that is not captured, a disk that is full.  See `trouble` and `over`.
        uncaptured: tables of which rows are being lost, until a gap says that they come again.
        latency: seconds from COMMIT, by the server's clock, until its messages were handed to the kernel.
        dropped: rows not published, by reason.
        position: up to where the feed has delivered; "" before the first connection.
        delivered: everything that committed before was handed to the outlet, by the numbers of the feed's kind: a
            position in the WAL, or a transaction's number in the outbox; -1 before the first.
        delivered_xids: the low 32 bits of the last transactions that came over a replication connection.
        acknowledged: up to where the database need not keep anything for this feed any more.
        lag_bytes: WAL that is not durable here yet, for the kind `wal`; the database keeps it for this feed.
        lag_s: how long ago the newest delivered row was committed, while more is waiting; else 0.
        more: counters that only this feed has, by name; those of a market's calculator, for instance.
        spooled_bytes: parts of transactions that have not committed yet, in temporary files.
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
        self.fetched = 0
        self.reconnects = 0
        self.gaps = 0
        self.last_gap: Gap | None = None
        self.troubles: dict[str, str] = {}
        self.uncaptured: tuple[str, ...] = ()
        self.latency = Histogram()
        self.dropped: dict[str, int] = {}
        self.position = ""
        self.delivered = -1
        self.delivered_xids: deque[int] = deque(maxlen=DELIVERED_XIDS)
        self.acknowledged = ""
        self.lag_bytes = 0
        self.lag_s = 0.0
        self.spooled_bytes = 0
        self.more: dict[str, int] = {}
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def enter(self, state: str, problem: str = "") -> None:
        """The feed is in another state, or in the same one with another problem, from now on."""
        self.state = state
        self.problem = problem
        self.since_unix_s = time.time()

    def reached(self, position: str, delivered: int) -> None:
        """The feed has delivered up to here, and all of what committed before `delivered`."""
        self.position = position
        self.delivered = delivered

    def gap(self, reason: str) -> None:
        """Rows may have been lost; the caller logs and publishes it."""
        self.gaps += 1
        self.last_gap = Gap(reason, time.time())

    def trouble(self, name: str, text: str) -> None:
        """Say that rows are not delivered, from now until `over`.

        Args:
            name: a short one, from the code or the configuration, such as `table public.orders`.
            text: what is wrong, and what would cure it.
        """
        if self.troubles.get(name) != text:
            self.troubles[name] = text
            logger.error("feed %s: %s", self.name, text)

    def over(self, name: str) -> None:
        """The trouble of this name has passed, if there was one."""
        if self.troubles.pop(name, None) is not None:
            logger.warning("feed %s: over: %s", self.name, name)

    def drop(self, reason: str, where: str, now: float) -> None:
        """Count a row that is not published, and say so.

        Args:
            reason: a short name such as `null` or `unsafe_value`.
            where: the route, column or kind; never the value.
            now: monotonic seconds.
        """
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.warn(f"row not published: {reason}", where, now)

    def warn(self, what: str, where: str, now: float) -> None:
        """Log something about rows, at most once a minute for each `what` and place."""
        said_at, unsaid = self._said.get((what, where), (-SAY_AGAIN_S, 0))
        if now - said_at < SAY_AGAIN_S:
            self._said[what, where] = (said_at, unsaid + 1)
            return
        if len(self._said) >= REASONS_MAX:
            self._said.clear()
        self._said[what, where] = (now, 0)
        more = f" ({unsaid} more since the last time)" if unsaid else ""
        logger.warning("feed %s: %s: %s%s", self.name, what, where, more)
