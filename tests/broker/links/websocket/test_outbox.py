"""Each MQTT packet leaves as one binary message, whatever it was pushed with; and nothing after the close frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.engine import Engine
from broker.links.websocket.farewell import all_owed
from broker.links.websocket.outbox import Framing, FramingOutbox
from protocol.mqtt.codec import encode
from protocol.mqtt.packets import Pingresp, Publish
from protocol.websocket import binary_frame, close_frame
from protocol.websocket_reader import Binary, FrameReader

PACKETS = [encode(Publish(b"t", b"x" * size)) for size in (0, 120, 200, 70_000)] + [encode(Pingresp())]


def outbox(limit: int = 1 << 20) -> FramingOutbox:
    return FramingOutbox(Engine().round, limit, lambda data: 0)


@given(st.lists(st.lists(st.sampled_from(PACKETS), min_size=1, max_size=4), max_size=4))
def test_each_packet_is_a_message_of_its_own(pushes: list[list[bytes]]) -> None:
    owed = outbox()
    for packets in pushes:
        owed.push(b"".join(packets))
    assert all_owed(owed) == b"".join(binary_frame(packet) for packets in pushes for packet in packets)


@pytest.mark.parametrize("size", [0, 100, 117, 118, 119, 130, 65_000, 70_000])
def test_a_message_at_qos_1_is_one_message_too(size: int) -> None:
    owed = outbox()
    head, packet_id, payload = b"\x32\x00\x00\x01t", b"\x00\x07", b"x" * size
    owed.push_publish(head, packet_id, payload, size)
    assert all_owed(owed) == binary_frame(head + packet_id + payload)
    owed = outbox()
    owed.push_publish(head, packet_id, b"\x02\x01\x01" + payload, size)
    assert all_owed(owed) == binary_frame(head + packet_id + b"\x02\x01\x01" + payload)


def test_the_same_packets_are_framed_once_for_all() -> None:
    framing = Framing()
    packets = PACKETS[0] + PACKETS[1]
    assert framing.of(packets) is framing.of(packets)
    equal = PACKETS[0] + PACKETS[1]
    assert framing.of(equal) == binary_frame(PACKETS[0]) + binary_frame(PACKETS[1])
    assert framing.of(PACKETS[2]) == binary_frame(PACKETS[2])


@pytest.mark.parametrize("how", ["hushed", "closed"])
def test_nothing_follows_the_close_frame(how: str) -> None:
    owed = outbox()
    traced: list[bytes] = []
    owed.on_push = traced.append
    owed.push_frames(close_frame(1000, ""))
    if how == "hushed":
        owed.hushed = True
    else:
        owed.closed = True
    owed.push(PACKETS[0])
    owed.push_frames(b"frames")
    owed.push_publish(b"\x32\x04\x00\x01t", b"\x00\x07", b"", 0)
    assert owed.pending_bytes == len(close_frame(1000, ""))
    assert traced == []


def test_whoever_traces_sees_packets_and_not_frames() -> None:
    owed = outbox()
    traced: list[bytes] = []
    owed.on_push = traced.append
    owed.push(PACKETS[0])
    assert traced == [PACKETS[0]]
    assert owed.pending_bytes == len(binary_frame(PACKETS[0]))


def test_a_client_reads_it_as_messages() -> None:
    owed = outbox()
    owed.push(b"".join(PACKETS))
    reader = FrameReader(1 << 20)
    data = all_owed(owed)
    # A client masks what it sends; ours are not masked, so each frame is given a mask of zeros.
    masked = b""
    while data:
        short = data[1]
        head = 2 if short < 126 else 4 if short == 126 else 10
        size = short if short < 126 else int.from_bytes(data[2:head], "big")
        masked += data[:1] + bytes((short | 0x80,)) + data[2:head] + bytes(4) + data[head : head + size]
        data = data[head + size :]
    reader.feed(masked)
    found = []
    while isinstance(event := reader.next_event(), Binary):
        found.append(event.data)
    assert found == PACKETS
