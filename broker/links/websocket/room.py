"""Room for what was read from databases and is still in memory, because subscriptions have yet to send it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

READINGS_HELD_MAX: Final = 8
"""Readings whose rows are in memory at a time; the next one begins when one of them has been sent."""

LOOK_S: Final = 0.02
"""Asked rather than told: rows leave memory in many ways (sent, closed, fallen behind), at places that are hot."""


class Room:
    """How many readings are held, and whether there is room for one more."""

    def __init__(self) -> None:
        self._held: list[Callable[[], bool]] = []

    def add(self, is_held: Callable[[], bool]) -> None:
        """One more reading; it takes its room until `is_held` is false."""
        self._held.append(is_held)

    async def wait(self) -> None:
        """Until fewer are held than may be."""
        while True:
            self._held = [is_held for is_held in self._held if is_held()]
            if len(self._held) < READINGS_HELD_MAX:
                return
            await trio.sleep(LOOK_S)
