"""What one client should receive, what it did receive, and how long after COMMIT.  Pure; no clock of its own.

Invariant: every message expected is in exactly one of: open transaction, awaited, arrived.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final, TypeAlias

from attrs import Factory, define, frozen

Message: TypeAlias = tuple[str, str]
"""(topic or channel, text): equal only if both are, character by character."""

LOST_AFTER_S: Final = 5.0
"""A message that has not come by then counts as lost (until it comes after all)."""
ARRIVED_MAX: Final = 100_000
"""Arrivals remembered, to notice one that comes twice."""
LATENCIES_MAX: Final = 10_000
"""Latest latencies that percentiles are taken from."""


@frozen
class Summary:
    """One transport's balance.  Latencies are in seconds, None before the first arrival."""

    expected: int
    received: int
    lost: int
    duplicated: int
    unexpected: int
    p50_s: float | None
    p99_s: float | None

    @property
    def is_exact(self) -> bool:
        """Every message came exactly once, and nothing else came."""
        return self.received == self.expected and not (self.lost or self.duplicated or self.unexpected)

    def as_json(self) -> dict[str, Any]:
        """Its figures by name, latencies in milliseconds."""
        return {
            "expected": self.expected,
            "received": self.received,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "unexpected": self.unexpected,
            "p50_ms": _milliseconds(self.p50_s),
            "p99_ms": _milliseconds(self.p99_s),
        }


@define
class Ledger:
    """The balance of one transport.  All times are seconds of one monotonic clock."""

    expected: int = 0
    """Messages of committed transactions."""
    received: int = 0
    """Of those, how many came."""
    duplicated: int = 0
    unexpected: int = 0
    """Nobody told us of these: rows that others wrote, or an error of the gateway."""
    _open: list[Message] = Factory(list)
    _awaited: OrderedDict[Message, float] = Factory(OrderedDict)
    _early: set[Message] = Factory(set)
    _arrived: OrderedDict[Message, None] = Factory(OrderedDict)
    _latencies: deque[float] = Factory(lambda: deque(maxlen=LATENCIES_MAX))

    def expect(self, place: str, text: str) -> None:
        """A row of the transaction that is open will have to arrive there."""
        self._open.append((place, text))

    def commit(self, at: float) -> None:
        """COMMIT has returned: what was announced since the last one is due."""
        for message in self._open:
            if message in self._early:
                self._count(message, 0.0)
            else:
                self._awaited[message] = at
        self.expected += len(self._open)
        self._open.clear()
        self._early.clear()

    def receive(self, place: str, text: str, at: float) -> None:
        """A message came.  It may come before COMMIT has returned to whoever sent it: a latency of 0."""
        message = (place, text)
        committed_at = self._awaited.pop(message, None)
        if committed_at is not None:
            self._count(message, max(0.0, at - committed_at))
        elif message in self._arrived or message in self._early:
            self.duplicated += 1
        elif message in self._open:
            self._early.add(message)
        else:
            self.unexpected += 1

    @property
    def awaited(self) -> int:
        """How many messages are still on their way."""
        return len(self._awaited)

    def lost(self, now: float) -> int:
        """Messages that are awaited for too long."""
        lost = 0
        for committed_at in self._awaited.values():  # oldest first
            if now - committed_at < LOST_AFTER_S:
                break
            lost += 1
        return lost

    def summary(self, now: float) -> Summary:
        """The figures at `now`."""
        ordered = sorted(self._latencies)
        return Summary(
            expected=self.expected,
            received=self.received,
            lost=self.lost(now),
            duplicated=self.duplicated,
            unexpected=self.unexpected,
            p50_s=percentile(ordered, 50),
            p99_s=percentile(ordered, 99),
        )

    def _count(self, message: Message, latency_s: float) -> None:
        self.received += 1
        self._latencies.append(latency_s)
        self._arrived[message] = None
        if len(self._arrived) > ARRIVED_MAX:
            self._arrived.popitem(last=False)


@define
class Rate:
    """Events a second over the last few seconds."""

    window_s: float = 3.0
    _samples: deque[tuple[float, int]] = Factory(deque)

    def at(self, now: float, total: int) -> float:
        """`total` so far; returns its growth a second."""
        self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self.window_s:
            self._samples.popleft()
        since, before = self._samples[0]
        return (total - before) / (now - since) if now > since else 0.0


def percentile(ordered: list[float], percent: int) -> float | None:
    """The smallest value that at least `percent` per cent of them do not exceed (nearest rank)."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(rank, 1) - 1]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
