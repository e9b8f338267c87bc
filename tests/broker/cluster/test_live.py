"""QoS 0 between nodes: what a turn brought goes out together, in pieces that NATS takes, and is counted if it can't."""

from __future__ import annotations

from typing import Any

import attrs

from broker.cluster import record
from broker.cluster.live import PACKED_BYTES, LiveMessages
from broker.cluster.names import Names
from broker.cluster.status import ClusterStatus
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from protocol.nats import wire


@attrs.define
class Link:
    """A connection to NATS that keeps what is sent."""

    sent: list[bytes] = attrs.field(factory=list)
    is_open: bool = True
    most: int = 1 << 20
    received: Any = None

    def subscribe(self, subject: bytes, take: Any) -> None:
        self.received = take

    def payload_max(self) -> int:
        return self.most

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return self.is_open


class Reader(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.taken: list[tuple[bytes, bytes, bytes, bool]] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        taken = (publication.topic, publication.payload, publication.message_id, publication.is_requested)
        self.taken.append(taken)


def node() -> tuple[LiveMessages, Link, ClusterStatus, Engine]:
    link, status, engine = Link(), ClusterStatus(), Engine()
    link_as_any: Any = link
    return LiveMessages(engine, link_as_any, Names("shop"), b"n1.1", status), link, status, engine


def offer(messages: LiveMessages, *payloads: bytes) -> None:
    for payload in payloads:
        messages.offer(Publication(b"t", payload, client_id=b"c"))


def test_a_turn_s_messages_travel_together_and_come_as_they_were() -> None:
    messages, link, status, _ = node()
    offer(messages, b"1", b"2")
    messages.flush()
    messages.flush()
    assert (len(link.sent), status.live_sent) == (1, 2)
    data = link.sent[0].split(b"\r\n", 1)[1][:-2]
    _, other, other_status, engine = node()
    reader = Reader()
    engine.subscribe(reader, b"#", 0)
    other.received(wire.Message(b"elsewhere", 1, b"", b"", data))
    assert reader.taken == [(b"t", b"1", b"1", False), (b"t", b"2", b"2", False)]
    assert other_status.live_received == 2


def test_a_node_does_not_hear_itself() -> None:
    _, link, status, _ = node()
    link.received(wire.Message(Names("shop").live(b"n1.1"), 1, b"", b"", b"x"))
    assert (status.unreadable, status.live_received) == (0, 0)


def test_what_no_node_writes_is_counted_and_what_stood_before_it_is_taken() -> None:
    _, link, status, engine = node()
    reader = Reader()
    engine.subscribe(reader, b"#", 0)
    good = record.pack(record.describe(Publication(b"a", b""), b"n", 1, 0.0, 0.0, False), b"a", b"")
    link.received(wire.Message(b"x", 1, b"", b"", good + record.pack(b"nonsense", b"t", b"")))
    assert (status.unreadable, status.live_received) == (1, 1)
    link.received(wire.Message(b"x", 1, b"", b"", good + b"cut"))
    assert (status.unreadable, status.live_received) == (2, 1), "of what is cut nothing is believed"


def test_a_long_turn_goes_out_in_pieces() -> None:
    messages, link, status, _ = node()
    offer(messages, *[b"x" * (PACKED_BYTES // 3)] * 5)
    assert [len(link.sent), status.live_sent] == [2, 4]
    messages.flush()
    assert [len(link.sent), status.live_sent] == [3, 5]


def test_what_can_t_go_is_counted_and_nothing_waits() -> None:
    messages, link, status, _ = node()
    link.is_open = False
    offer(messages, b"1")
    messages.flush()
    assert (status.live_sent, status.live_dropped) == (0, 1)
    link.is_open, link.most = True, 10
    offer(messages, b"1", b"2")
    messages.flush()
    assert (len(link.sent), status.live_dropped) == (1, 3), "too large for NATS: not even tried"
    link.most = 1 << 20
    offer(messages, b"3")
    messages.flush()
    assert status.live_sent == 1
