"""Clients that are not read from while too much waits for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.outbox import Outbox


class Paused:
    """Of one node."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outboxes: dict[Outbox, None] = {}

    def pause(self, client_id: bytes) -> None:
        """Read no more from a client, if it is here."""
        session = self._engine.sessions.get(client_id)
        outbox = None if session is None else session.outbox
        if outbox is not None and outbox not in self._outboxes:
            self._outboxes[outbox] = None
            outbox.pause(True)

    def go_on(self) -> None:
        """Read from all of them again."""
        paused = list(self._outboxes)
        self._outboxes.clear()
        for outbox in paused:
            outbox.pause(False)
