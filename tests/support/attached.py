"""A session with a connection that is none: its packets are kept, and it ends when it is told to."""

from __future__ import annotations

from support.peer import packets_in

from broker.core.engine import Engine
from broker.core.outbox import Outbox
from broker.core.session import Link
from protocol.mqtt.packets import Publish


class Attached(Link):
    """A client that is here.

    Args:
        filters: what it subscribes to, with the quality that is granted.

    Attributes:
        why: it was closed.
        is_stuck: it takes nothing.
    """

    def __init__(
        self,
        engine: Engine,
        client_id: bytes = b"c",
        clean: bool = False,
        filters: tuple[tuple[bytes, int], ...] = (),
        limit: int = 1 << 20,
    ) -> None:
        super().__init__()
        self.why = ""
        self.is_stuck = False
        self.engine = engine
        self.session, self.was_present = engine.open_session(client_id, clean)
        engine.identify(self.session, None, None)
        self.sent = b""
        self.outbox = Outbox(engine.round, limit, self._send)
        engine.attach(self.session, self, self.outbox)
        for topic_filter, granted in filters:
            engine.subscribe_session(self.session, topic_filter, granted)

    def _send(self, data: bytes) -> int:
        if self.is_stuck:
            return 0
        self.sent += data
        return len(data)

    def close(self, why: str) -> None:
        self.why = why
        self.engine.detach(self.session, self.will_wanted)

    def payloads(self) -> list[bytes]:
        """Of what has come since the last call."""
        self.engine.flush()
        data, self.sent = self.sent, b""
        return [bytes(packet.payload) for packet in packets_in(data) if isinstance(packet, Publish)]
