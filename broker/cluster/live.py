"""QoS 0 between nodes: what clients publish here goes to the other nodes at the end of the turn, without the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.cluster import record
from broker.cluster.link import NatsLink
from broker.cluster.names import Names
from broker.core.publication import Publication
from protocol.nats import wire
from protocol.nats.errors import NatsProtocolError

if TYPE_CHECKING:
    from broker.cluster.status import ClusterStatus
    from broker.core.engine import Engine

PACKED_BYTES: Final = 256 * 1024
"""Messages that travel together; NATS' default `max_payload` is four times this."""


class LiveMessages:
    """Of one node."""

    def __init__(
        self, engine: Engine, link: NatsLink, names: Names, mark: bytes, status: ClusterStatus
    ) -> None:
        self._engine = engine
        self._link = link
        self._subject = names.live(mark)
        self._mark = mark
        self._status = status
        self._packed: list[bytes] = []
        self._packed_bytes = 0
        self._number = 0
        link.subscribe(names.live(b"*"), self._received)
        engine.turn.on_batch_end(self.flush)

    def offer(self, publication: Publication) -> None:
        """Send it with the others of this turn."""
        self._number += 1
        publication.message_id = b"%d" % self._number  # by which nodes agree who has it for a group
        value = record.describe(
            publication, self._mark, self._number, self._engine.now, self._status.clock.now(), False
        )
        one = record.pack(value, publication.topic, publication.payload)
        if self._packed_bytes + len(one) > PACKED_BYTES and self._packed:
            self.flush()
        self._packed.append(one)
        self._packed_bytes += len(one)

    def flush(self) -> None:
        """The turn ends."""
        packed = self._packed
        if not packed:
            return
        self._packed = []
        fits = self._packed_bytes <= self._link.payload_max()
        self._packed_bytes = 0
        if fits and self._link.send(wire.publish(self._subject, b"".join(packed))):
            self._status.live_sent += len(packed)
        else:
            self._status.live_dropped += len(packed)

    def _received(self, message: wire.Message) -> None:
        if message.subject == self._subject:
            return
        engine = self._engine
        unix_now = self._status.clock.now()
        try:
            for value, topic, payload in record.unpack(message.payload):
                publication = record.read(value, topic, payload, False, engine.now, unix_now)
                publication.is_requested = False  # tables had it where it was published
                publication.message_id = value.split(b" ", 2)[1]
                self._status.live_received += 1
                engine.publish_here(publication)
        except NatsProtocolError:
            self._status.unreadable += 1
