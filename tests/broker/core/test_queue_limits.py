"""How much one client is owed at most.  Each number of messages is what mosquitto 2.0.11 kept in the same place, but
that what is in flight does not count as queued, by the manual and as in 2.1.

Forty messages of 10 bytes are published at QoS 1 to a client that acknowledges nothing; then it takes all it gets.
"""

from __future__ import annotations

import pytest
from support.peer import Peer, connected

from broker.core.engine import Engine
from broker.core.publication import Publication
from protocol.mqtt.outbound import Window
from protocol.mqtt.packets import Puback, Publish, Subscribe

WINDOWS = {
    "messages": (3, 0, 5, 0),
    "inflight bytes, queued messages": (0, 55, 5, 0),
    "queued bytes": (3, 0, 0, 55),
    "queued messages and bytes": (3, 0, 4, 55),
    "inflight and queued bytes": (0, 25, 0, 55),
}


def subscriber(engine: Engine) -> Peer:
    peer = connected(engine, b"client", clean=False)
    peer.send(Subscribe(1, ((b"a/longer/topic", 1),)))
    peer.read()
    return peer


def publish(engine: Engine, count: int, size: int = 10) -> None:
    for _ in range(count):
        engine.publish(Publication(b"a/longer/topic", bytes(size), 1))
    engine.flush()


def take_all(peer: Peer) -> int:
    """Acknowledge everything, one after the other; how many messages came."""
    waiting = peer.read()
    taken = 0
    while waiting:
        packet = waiting.pop(0)
        assert isinstance(packet, Publish)
        taken += 1
        peer.send(Puback(packet.packet_id))
        waiting.extend(peer.read())
    return taken


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("messages", 8),
        ("inflight bytes, queued messages", 11),
        ("queued bytes", 6),
        ("queued messages and bytes", 6),
        ("inflight and queued bytes", 8),
    ],
)
def test_a_client_that_is_here(name: str, kept: int) -> None:
    engine = Engine(window=Window(*WINDOWS[name]))
    peer = subscriber(engine)
    publish(engine, 40)
    assert take_all(peer) == kept


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
    engine = Engine(window=Window(*WINDOWS[name]))
    subscriber(engine).drop()
    publish(engine, 40)
    assert take_all(connected(engine, b"client", clean=False, present=True)) == kept


@pytest.mark.parametrize("first", [3, 6])
def test_what_is_in_flight_does_not_count_when_the_client_goes_away(first: int) -> None:
    engine = Engine(window=Window(*WINDOWS["messages"]))
    peer = subscriber(engine)
    publish(engine, first)
    peer.drop()
    publish(engine, 40)
    assert take_all(connected(engine, b"client", clean=False, present=True)) == 3 + 5


def test_one_message_may_be_larger_than_all_bytes_allowed() -> None:
    engine = Engine(window=Window(5, 25, 0, 55))
    peer = subscriber(engine)
    publish(engine, 40, size=40)
    assert take_all(peer) == 2


def test_no_limit_is_none() -> None:
    engine = Engine(window=Window(0, 0, 0, 0))
    subscriber(engine).drop()
    publish(engine, 5000)
    assert take_all(connected(engine, b"client", clean=False, present=True)) == 5000
