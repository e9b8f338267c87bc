"""Turns for those who catch up: a thousand of them at once must not keep live messages waiting."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from broker.core.engine import Engine

if TYPE_CHECKING:
    from broker.links.websocket.following import FollowingLink

TURN_S_MAX: Final = 0.004
"""How long connections that catch up are served before everybody else has a turn."""


class Pacer:
    """Serves connections that are behind, one piece each in the order in which they asked.

    Args:
        nursery: where the serving goes on, for as long as somebody is in line.
    """

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self._engine = engine
        self._nursery = nursery
        self._line: deque[FollowingLink] = deque()
        self._serving = False

    def later(self, link: FollowingLink) -> None:
        """Serve this connection's state or history when its turn comes."""
        self._line.append(link)
        if not self._serving:
            self._serving = True
            self._nursery.start_soon(self._serve)

    async def _serve(self) -> None:
        try:
            while self._line:
                await trio.lowlevel.checkpoint()
                until = trio.current_time() + TURN_S_MAX
                with self._engine.turn:
                    while self._line and trio.current_time() < until:
                        link = self._line.popleft()
                        link.catch_up()
                        link.outbox.flush()  # here, so that the time that it takes counts
        finally:
            self._serving = False
