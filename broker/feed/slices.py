"""Large transactions in slices, between which the outboxes of those who read drain.

Nobody waits for a receiver: a slice waits a bounded time, and only for those who do read.
"""

from __future__ import annotations

from typing import Final

import trio

from broker.feed.outlet import Breathing, FeedOutlet, Fenced

SLICE_WAIT_S_MAX: Final = 2.0
LOOK_S: Final = 0.001
LOOK_S_MAX: Final = 0.016


class Slices:
    """When a feed makes a pause."""

    def __init__(self, outlet: FeedOutlet) -> None:
        self._outlet = outlet if isinstance(outlet, Breathing) else None
        self._bounded = outlet if isinstance(outlet, Fenced) else None

    @property
    def is_due(self) -> bool:
        """Whether readers should be let catch up before more rows are given out."""
        return self._outlet is not None and self._outlet.is_strained

    async def until_room(self) -> None:
        """Until the outlet takes more; at once where nothing waits in it."""
        if self._bounded is not None:
            await self._bounded.until_room()

    async def breathe(self) -> None:
        """Until everybody who reads has caught up, at most SLICE_WAIT_S_MAX; everything must have been flushed."""
        if self._outlet is None or not self._outlet.is_strained:
            return
        with trio.move_on_after(SLICE_WAIT_S_MAX):
            pause_s = LOOK_S
            while self._outlet.awaits_readers(trio.current_time()):
                await trio.sleep(pause_s)
                pause_s = min(pause_s * 2, LOOK_S_MAX)
