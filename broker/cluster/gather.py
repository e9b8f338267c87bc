"""What the log brings, in groups where a message goes to many: each subscriber gets one send for all of a group.

The log brings what several nodes publish, each in batches of its own; without this every batch would be a round of
sends to everybody.

    few deliveries, or few messages   handed on at the end of the turn, as what comes after a silence always is
    many of both                      the first one waits for GATHER_S, and what comes until then goes with it
    very many messages                it waits for BUSY_S

Hot: compiled.

Invariant: what came is handed on once, in its order; nothing waits for longer than BUSY_S and the turn after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from broker.core.outbox import nothing
from broker.core.turn import NEVER
from broker.links.barrier import attempt, take
from protocol.nats import wire

if TYPE_CHECKING:
    from broker.core.engine import Engine

GATHER_S: Final = 0.001
"""About a batch of a busy publisher, 1 to 1.5 ms while three servers and the nodes share two cores."""

BUSY_S: Final = 0.002
"""The same where the CPU is what is scarce."""

BUSY_APART_S: Final = 0.0002
"""It is where messages that go to many come so shortly after each other: 5 000 a second."""

TOGETHER_MIN: Final = 1.6
"""So many messages are to be expected within GATHER_S, or waiting saves too little: 1 600 a second."""

RECENT_S: Final = 2 * GATHER_S
"""What comes so long after the last group that went to many does not wait."""

SMOOTHED_OVER: Final = 16
"""Messages from which it is taken how many are to be expected."""

APART_MAX_S: Final = 4 * GATHER_S
"""A longer silence counts as this one, so that it is soon forgotten."""

DELIVERIES_MIN: Final = 16
"""Deliveries of each message from which on a send for each of them costs more than a timer."""

NATS: Final = "NATS"
"""Where a bug was met, as the log has it."""

HELD_MAX: Final = 500
"""So many messages go without waiting for others."""

HELD_BYTES_MAX: Final = 256 * 1024
"""So many bytes do, too: as much as one read of the socket brings, so that outboxes need not be larger for this."""


class Gather:
    """Between one subscription and whoever takes its messages.

    Args:
        hand_on: called inside a turn, for one message after the other.
        end: called behind the last one of a group.
    """

    def __init__(
        self, engine: Engine, hand_on: Callable[[wire.Message], None], end: Callable[[], None] = nothing
    ) -> None:
        self._engine = engine
        self._hand_on = hand_on
        self._end = end
        self._held: list[wire.Message] = []
        self._held_bytes = 0
        self._due = NEVER
        """When what is held is handed on; never while that has not been decided."""
        self._many_at = -NEVER
        """When the last group was handed on that went to many."""
        self._apart_s = APART_MAX_S
        """How far apart messages come that go to many, smoothed."""
        engine.turn.on_batch_end(self._turn_ends)

    def take(self, message: wire.Message) -> None:
        """Inside a turn."""
        self._held.append(message)
        self._held_bytes += len(message.payload)

    def forget(self) -> None:
        """Nobody wants what is held any more."""
        self._held = []
        self._held_bytes = 0
        self._due = NEVER

    def _turn_ends(self) -> None:
        held = self._held
        if not held:
            return
        now = self._engine.now
        if self._due == NEVER:
            self._due = now + self._wait_s(now)
        is_full = len(held) >= HELD_MAX or self._held_bytes >= HELD_BYTES_MAX
        if now < self._due and not is_full:
            self._engine.turn.due = self._due
            return
        self.forget()
        counters = self._engine.counters
        before = counters.publishes_sent
        for message in held:
            take(self._hand_on, message, counters, NATS)
        attempt(self._end, counters, NATS, nothing)
        if counters.publishes_sent - before >= DELIVERIES_MIN * len(held):
            self._went_to_many(len(held), now)

    def _wait_s(self, now: float) -> float:
        """How long the first one waits, by what came until now."""
        if now - self._many_at >= RECENT_S or self._apart_s * TOGETHER_MIN > GATHER_S:
            return 0.0
        return BUSY_S if self._apart_s <= BUSY_APART_S else GATHER_S

    def _went_to_many(self, messages: int, now: float) -> None:
        took_s = min(now - self._many_at, APART_MAX_S)
        # By messages, not by groups: those that wait for a timer would count for more than those that come meanwhile.
        self._apart_s += (took_s - messages * self._apart_s) / max(messages, SMOOTHED_OVER)
        self._many_at = now
