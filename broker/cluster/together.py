"""Messages of the log that follow each other and go to the same clients: each client gets them in one go.

What leaves at QoS 0, to receivers who take packets, is one piece for all of them, as a client's run of QoS 0 is where
there is no log (`broker.links.mqtt.forwarding`).  Everybody else is handed one after the other.

Hot: compiled, and called for each message of the log.

Invariant: each receiver gets what was given to `publish` in its order, and all of it once `end` was called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from broker.core import barrier
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.core.targets import Targets
from broker.links.barrier import take
from protocol.mqtt.codec import publish_head
from protocol.mqtt.framing import REMAINING_LENGTH_MAX
from protocol.mqtt.message import PUBLISH_FIRST_BYTE
from protocol.mqtt.v5.runs import as_5

if TYPE_CHECKING:
    from broker.core.engine import Engine

HEAD_MAX: Final = 4
"""Of a packet's body, beside topic and payload."""

NATS: Final = "NATS"
"""Where a bug was met, as the process' log has it."""


class Together:
    """On the way from the log to one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._topic = b""
        self._targets: Targets | None = None
        """Of all in `_run`; None where that is empty."""
        self._run: list[Publication] = []

    def publish(self, publication: Publication) -> None:
        """As `Engine.publish_here`, at `end` at the latest.  Inside a turn."""
        engine = self._engine
        if not self._may_wait(publication):
            self.end()
            engine.publish_here(publication)
            return
        topic = publication.topic
        if self._targets is None or topic != self._topic:
            targets = engine.trie.match(topic)
            if targets is not self._targets:
                self.end()
                self._targets = targets
            self._topic = topic
        self._run.append(publication)

    def _may_wait(self, publication: Publication) -> bool:
        """Whether it is one of those that a piece can be made of."""
        return not (
            publication.retain
            or publication.expires_at != 0.0
            or publication.properties
            or publication.part is not None
            or len(publication.payload) + len(publication.topic) + HEAD_MAX > REMAINING_LENGTH_MAX
        )

    def end(self) -> None:
        """Hand on what waits."""
        run = self._run
        targets = self._targets
        if targets is None:
            return
        self._run = []
        self._targets = None
        many = targets.many
        if many is None or len(run) == 1 or self._engine.replaying.active:
            for publication in run:
                take(self._publish_here, publication, self._engine.counters, NATS)
        else:
            self._hand_on(run, many)

    def _publish_here(self, publication: Publication) -> None:
        self._engine.publish_here(publication)

    def _hand_on(self, run: list[Publication], many: dict[Receiver, int]) -> None:
        counters = self._engine.counters
        granted_max = (
            2 if _highest_qos(run) == 0 else 0
        )  # what is granted more gets identifiers, or not its own
        packets = b""
        as_others_write = b""
        payload_bytes = 0
        count = len(run)
        for receiver, granted in many.items():
            if not receiver.plain or granted > granted_max:
                barrier.deliver_each(receiver, run, granted, counters)
                continue
            if not packets:
                packets = _packets(run)
                payload_bytes = _payload_bytes(run)
            if receiver.level != 5:
                barrier.forward(receiver, packets, count, payload_bytes, counters)
                continue
            if not as_others_write:
                as_others_write = as_5(packets)
            barrier.forward(receiver, as_others_write, count, payload_bytes, counters)


def _highest_qos(run: list[Publication]) -> int:
    highest = 0
    for publication in run:
        if publication.qos > highest:
            highest = publication.qos
    return highest


def _payload_bytes(run: list[Publication]) -> int:
    size = 0
    for publication in run:
        size += len(publication.payload)
    return size


def _packets(run: list[Publication]) -> bytes:
    """At QoS 0, as 3.1.1 writes them."""
    pieces: list[bytes] = []
    head = topic = b""
    length = -1
    for publication in run:
        payload = publication.payload
        if len(payload) != length or publication.topic != topic:
            length = len(payload)
            topic = publication.topic
            head = publish_head(PUBLISH_FIRST_BYTE, topic, length)
        pieces.append(head)
        pieces.append(payload)
    return b"".join(pieces)
