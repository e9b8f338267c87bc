"""Clients that are not read from while too much of theirs waits: for a table, for the log of a cluster.

Hot: compiled with those who ask it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from protocol.mqtt.v5.reasons import ReasonCode

if TYPE_CHECKING:
    from broker.core.engine import Engine
    from broker.core.outbox import Outbox

SWEEP_AT: Final = 1000
"""With so many, those whose connections have ended meanwhile are looked for."""


class Paused:
    """Those whom one of these has stopped; each is let go on once, whatever else it may wait for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._outboxes: dict[Outbox, bytes] = {}
        """Each with b"", or the client id of one that is sent away instead of going on."""
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        return len(self._outboxes)

    def pause(self, client_id: bytes) -> bool:
        """Read no more from a client, if it is here; whether it was read from before."""
        outbox = self._outbox_of(client_id)
        return outbox is not None and self._stop(outbox)

    def send_away(self, client_id: bytes) -> bool:
        """Read no more from a client, and end its connection when the others go on; False if it is not here.

        For one whose message is not taken: it has no acknowledgement then, and sends it again when it comes back.
        """
        outbox = self._outbox_of(client_id)
        if outbox is None:
            return False
        self._stop(outbox)
        self._outboxes[outbox] = client_id
        return True

    def take_over(self, former: Paused) -> None:
        """Whoever another one has stopped waits for this one instead."""
        for outbox, client_id in former._outboxes.items():
            self._stop(outbox)
            if client_id:
                self._outboxes[outbox] = client_id
        former._outboxes, stopped = {}, former._outboxes
        for outbox in stopped:
            outbox.pause(False)

    def is_empty(self) -> bool:
        """Whether nobody is stopped."""
        return not self._outboxes

    def go_on(self) -> None:
        """Read from all of them again, but for those who are sent away.  Not while a message is handed on."""
        stopped = list(self._outboxes.items())
        self._outboxes.clear()
        for outbox, client_id in stopped:
            outbox.pause(False)
            if client_id and self._outbox_of(client_id) is outbox:
                self._end(client_id)

    def _end(self, client_id: bytes) -> None:
        link = self._engine.sessions[client_id].link
        if link is not None:
            link.code = ReasonCode.SERVER_BUSY
            link.close("disconnected: it had sent more than there was room for.")

    def _outbox_of(self, client_id: bytes) -> Outbox | None:
        session = self._engine.sessions.get(client_id)
        return None if session is None else session.outbox

    def _stop(self, outbox: Outbox) -> bool:
        if outbox in self._outboxes:
            return False
        if len(self._outboxes) >= self._sweep_at:
            # Clients that went away and came again, for as long as there is no room.
            self._outboxes = {one: why for one, why in self._outboxes.items() if not one.closed}
            self._sweep_at = max(SWEEP_AT, 2 * len(self._outboxes))
        self._outboxes[outbox] = b""
        outbox.pause(True)
        return True
