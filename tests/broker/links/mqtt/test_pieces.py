"""Packets that come in very many pieces cost their bytes, and not an object for each piece."""

from __future__ import annotations

import sys
import tracemalloc

import pytest
from support.peer import Peer, connected, subscribed

from broker.core.engine import Engine
from broker.core.limits import CONNECT_BYTES_MAX, PRE_CONNECT_BYTES_MAX
from broker.links.mqtt.pieces import SMALL_BYTES, keep
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Connect, Publish


@pytest.mark.parametrize("size", [1, 2, 7, 100, SMALL_BYTES - 1])
def test_small_pieces_are_joined(size: int) -> None:
    pieces: list[bytes] = []
    count = 300_000 // size
    for number in range(count):
        keep(pieces, (b"%d" % number)[-1:] * size)
    assert b"".join(pieces) == b"".join((b"%d" % number)[-1:] * size for number in range(count))
    assert sum(map(sys.getsizeof, pieces)) < 1.1 * size * count


def test_long_pieces_stay_as_they_came() -> None:
    pieces = [b"x"]
    long = [b"y" * SMALL_BYTES, b"z" * 60_000, b"w" * SMALL_BYTES]
    for piece in long:
        keep(pieces, piece)
    assert pieces == [b"x", *long]
    assert all(kept is piece for kept, piece in zip(pieces[1:], long, strict=True))


def cost_of(peer: Peer, data: bytes) -> int:
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for byte in data:
            peer.link.received(byte.to_bytes(1, "big"))  # an object each, as a receive makes it
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def test_a_packet_byte_by_byte_costs_its_bytes() -> None:
    engine = Engine()
    subscriber = subscribed(engine, (b"t", 0))
    publisher = connected(engine, b"publisher")
    packet = encode(Publish(b"t", b"x" * 100_000, 0))
    assert cost_of(publisher, packet[:-1]) < 200_000
    publisher.write(packet[-1:])
    assert subscriber.read() == [Publish(b"t", b"x" * 100_000, 0)]


def test_so_does_a_connect() -> None:
    connect = encode(Connect(b"i" * 65_000, True, 0, user_name=b"u" * 65_000, password=b"p" * 65_000))
    assert len(connect) < CONNECT_BYTES_MAX
    peer = Peer(Engine())
    assert cost_of(peer, connect[:-1]) < 2 * len(connect)
    peer.write(connect[-1:])
    assert peer.read_bytes() == b"\x20\x02\x00\x00"


def test_so_does_what_waits_for_an_answer_to_connect() -> None:
    peer = Peer(Engine())
    peer.link.check_slowly = lambda link, packet, is_slow: True
    peer.send(Connect(b"c", True, 0))
    assert cost_of(peer, b"\xc0\x00" * (PRE_CONNECT_BYTES_MAX // 2)) < 2 * PRE_CONNECT_BYTES_MAX
