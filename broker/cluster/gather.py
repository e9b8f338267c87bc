"""What the log brings, in groups where a message goes to many: each subscriber gets one send for all of a group.

The log brings what several nodes publish, each in batches of its own; without this every batch would be a round of
sends to everybody.

    few deliveries of the last group       handed on at the end of the turn, as what comes after a silence always is
    many                                   what comes within GATHER_S waits for the first turn after it

Hot: compiled.

Invariant: what came is handed on once, in its order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from broker.links.barrier import take
from protocol.nats import wire

if TYPE_CHECKING:
    from broker.core.engine import Engine

GATHER_S: Final = 0.0025
"""About two batches of a busy publisher: a batch takes the log 1 to 1.5 ms while three servers and the nodes share two
cores.  Half of it is what a message waits here on average while many come, and none where they come singly.
"""

DELIVERIES_MIN: Final = 16
"""Deliveries of each message from which on a send for each of them costs more than a timer."""

HELD_MAX: Final = 500
"""So many messages go without waiting for others."""

HELD_BYTES_MAX: Final = 256 * 1024
"""So many bytes do, too: as much as one read of the socket brings, so that outboxes need not be larger for this."""


class Gather:
    """Between one subscription and whoever takes its messages.

    Args:
        hand_on: called inside a turn, for one message after the other.
    """

    def __init__(self, engine: Engine, hand_on: Callable[[wire.Message], None]) -> None:
        self._engine = engine
        self._hand_on = hand_on
        self._held: list[wire.Message] = []
        self._held_bytes = 0
        self._due = 0.0
        self._alarm = trio.CancelScope()
        engine.turn.on_batch_end(self._turn_ends)

    def take(self, message: wire.Message) -> None:
        """Inside a turn."""
        self._held.append(message)
        self._held_bytes += len(message.payload)

    def forget(self) -> None:
        """Nobody wants what is held any more."""
        self._held = []
        self._held_bytes = 0

    async def run(self) -> None:
        """Hand on what no turn comes behind, until cancelled."""
        while True:
            self._alarm = trio.CancelScope(deadline=self._due if self._held else math.inf)
            with self._alarm:
                await trio.sleep_forever()
            with self._engine.turn:
                pass

    def _turn_ends(self) -> None:
        held = self._held
        if not held:
            return
        engine = self._engine
        is_full = len(held) >= HELD_MAX or self._held_bytes >= HELD_BYTES_MAX
        if engine.now < self._due and not is_full:
            self._alarm.deadline = self._due
            return
        self.forget()
        self._alarm.deadline = math.inf
        counters = engine.counters
        before = counters.publishes_sent
        for message in held:
            take(self._hand_on, message, counters, "NATS")
        goes_to_many = counters.publishes_sent - before >= DELIVERIES_MIN * len(held)
        self._due = engine.now + GATHER_S if goes_to_many else 0.0
