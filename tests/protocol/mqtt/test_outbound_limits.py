"""How much one client is owed at most.  Each number of messages is what mosquitto 2.0.11 kept in the same place.

Forty messages of 10 bytes are published at QoS 1 to a client that acknowledges nothing; then it takes all it gets.
"""

from __future__ import annotations

import pytest

from protocol.mqtt.message import Message, Sink
from protocol.mqtt.outbound import DROPPED, Outbound, Window


class Received(Sink):
    """The packet ids of QoS 1 messages that came and are not acknowledged."""

    def __init__(self) -> None:
        self.packet_ids: list[int] = []

    def push(self, data: bytes) -> None:
        raise AssertionError("no acknowledgement is expected")

    def push_publish(self, head: bytes, packet_id: bytes, payload: bytes) -> None:
        self.packet_ids.append(int.from_bytes(packet_id, "big"))


def offer(outbound: Outbound, count: int, size: int) -> None:
    for _ in range(count):
        outbound.offer(Message(b"a/longer/topic", bytes(size), 1), 1, False)


def take_all(outbound: Outbound, sink: Received) -> int:
    """Acknowledge everything, one after the other; how many messages came."""
    taken = 0
    while sink.packet_ids:
        outbound.puback(sink.packet_ids.pop(0))
        taken += 1
    return taken


WINDOWS = {
    "messages": Window(3, 0, 5, 0),
    "inflight bytes, queued messages": Window(0, 55, 5, 0),
    "queued bytes": Window(3, 0, 0, 55),
    "queued messages and bytes": Window(3, 0, 4, 55),
    "inflight and queued bytes": Window(0, 25, 0, 55),
}


def window(name: str) -> Window:
    limits = WINDOWS[name]
    return Window(
        limits.inflight_messages, limits.inflight_bytes, limits.queued_messages, limits.queued_bytes
    )


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("messages", 8),
        ("inflight bytes, queued messages", 6),
        ("queued bytes", 6),
        ("queued messages and bytes", 6),
        ("inflight and queued bytes", 8),
    ],
)
def test_a_client_that_is_here(name: str, kept: int) -> None:
    outbound, sink = Outbound(window(name)), Received()
    outbound.attach(sink)
    offer(outbound, 40, 10)
    assert take_all(outbound, sink) == kept


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("messages", 5),
        ("inflight bytes, queued messages", 5),
        ("queued bytes", 6),
        ("queued messages and bytes", 4),
        ("inflight and queued bytes", 6),
    ],
)
def test_a_client_that_is_away(name: str, kept: int) -> None:
    outbound, sink = Outbound(window(name)), Received()
    offer(outbound, 40, 10)
    outbound.attach(sink)
    assert take_all(outbound, sink) == kept


@pytest.mark.parametrize(("first", "kept"), [(3, 5), (6, 6)])
def test_what_is_in_flight_counts_once_the_client_is_away(first: int, kept: int) -> None:
    outbound = Outbound(window("messages"))
    outbound.attach(Received())
    offer(outbound, first, 10)
    outbound.detach()
    offer(outbound, 40, 10)
    back = Received()
    outbound.attach(back)
    assert take_all(outbound, back) == kept


def test_one_message_may_be_larger_than_all_bytes_allowed() -> None:
    outbound, sink = Outbound(Window(5, 25, 0, 55)), Received()
    outbound.attach(sink)
    offer(outbound, 40, 40)
    assert take_all(outbound, sink) == 2


def test_no_limit_is_none() -> None:
    outbound = Outbound(Window(0, 0, 0, 0))
    assert [outbound.offer(Message(b"t", b"x", 1), 1, False) for _ in range(5000)].count(DROPPED) == 0
