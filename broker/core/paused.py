"""Clients that are not read from while too much of theirs waits: for a table, for the log of a cluster.

Hot: compiled with those who ask it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.outbox import Outbox


class Paused:
    """Those whom one of these has stopped; each is let go on once, whatever else it may wait for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outboxes: dict[Outbox, None] = {}

    def pause(self, client_id: bytes) -> bool:
        """Read no more from a client, if it is here; whether it was read from before."""
        session = self._engine.sessions.get(client_id)
        outbox = None if session is None else session.outbox
        return outbox is not None and self._stop(outbox)

    def take_over(self, former: Paused) -> None:
        """Whoever another one has stopped waits for this one instead."""
        for outbox in former._outboxes:
            self._stop(outbox)
        former.go_on()

    def is_empty(self) -> bool:
        """Whether nobody is stopped."""
        return not self._outboxes

    def go_on(self) -> None:
        """Read from all of them again."""
        paused = list(self._outboxes)
        self._outboxes.clear()
        for outbox in paused:
            outbox.pause(False)

    def _stop(self, outbox: Outbox) -> bool:
        if outbox in self._outboxes:
            return False
        self._outboxes[outbox] = None
        outbox.pause(True)
        return True
