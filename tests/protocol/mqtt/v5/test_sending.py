"""What a client of 5.0 said of the packets that it takes: how large, and with which aliases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.interpreted import interpreted_only

from protocol.mqtt.framing import frame_at
from protocol.mqtt.message import Message, PacketWriter
from protocol.mqtt.outbound import AWAIT_PUBACK, InFlight
from protocol.mqtt.packets import Publish
from protocol.mqtt.v5.codec import decode
from protocol.mqtt.v5.property_table import MESSAGE_EXPIRY, TOPIC_ALIAS
from protocol.mqtt.v5.sending import Sending

NOW = 100.0


class Wire(PacketWriter):
    """What was sent, one packet after the other."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def push_publish(self, head: bytes, packet_id: bytes, rest: bytes, payload_bytes: int) -> None:
        self.packets.append(head + packet_id + rest)


def read(raw: bytes) -> Publish:
    body, end = frame_at(raw, 0, 0)
    assert end == len(raw)
    packet = decode(raw[0], raw[body:end])
    assert isinstance(packet, Publish)
    return packet


def named(raw: bytes) -> tuple[bytes, int]:
    """Topic and alias of a packet."""
    packet = read(raw)
    return packet.topic, packet.properties.numbers.get(TOPIC_ALIAS, 0)


def sent(sending: Sending, topic: bytes, payload: bytes = b"x") -> tuple[bytes, int]:
    """Send at QoS 0: what the packet says."""
    raw = sending.packet(Message(topic, payload), False, NOW, b"")
    sending.sent()
    return named(raw)


def test_a_topic_is_named_once_and_then_by_its_alias_until_there_are_no_more() -> None:
    sending = Sending(0, 0, 2)
    said = [sent(sending, topic) for topic in (b"a", b"b", b"a", b"c", b"b")]
    assert said == [(b"a", 1), (b"b", 2), (b"", 1), (b"c", 0), (b"", 2)]


def test_an_alias_that_the_client_was_not_told_is_not_used() -> None:
    sending = Sending(0, 0, 2)
    for _ in range(2):  # made, and then not sent
        assert named(sending.packet(Message(b"a", b"x"), False, NOW, b"")) == (b"a", 1)
    assert sent(sending, b"b") == (b"b", 1)
    assert sent(sending, b"a") == (b"a", 2)


def test_who_takes_no_aliases_gets_none() -> None:
    sending = Sending(0, 0, 0)
    assert [sent(sending, b"a") for _ in range(2)] == [(b"a", 0), (b"a", 0)]


@pytest.mark.parametrize(
    ("packet_max", "aliases_max", "any_will_do"), [(0, 0, True), (1, 0, False), (0, 1, False)]
)
def test_a_packet_made_for_others_will_do_without_limits_alone(
    packet_max: int, aliases_max: int, any_will_do: bool
) -> None:
    assert Sending(0, packet_max, aliases_max).takes_any == any_will_do


@pytest.mark.parametrize("aliases_max", [0, 1])
@pytest.mark.parametrize("expires_at", [0.0, 150.0])
def test_no_packet_is_longer_than_the_client_takes_and_the_largest_that_fits_comes(
    aliases_max: int, expires_at: float
) -> None:
    message = Message(b"topic", b"payload", 1)
    message.expires_at = expires_at
    ids = b"\x0b\x07"
    bare = len(message.packet_5(False, NOW, ids))
    for packet_max in range(5, 50):
        limited = Sending(0, packet_max, aliases_max)
        assert limited.fits(message, ids) == (bare + 2 <= packet_max)
        for _ in range(2):
            raw = limited.packet(message, False, NOW, ids)
            limited.sent()
            assert len(raw) <= packet_max
            assert bool(raw) == (bare <= packet_max), packet_max
            if raw:
                assert read(raw).payload == message.payload


def test_a_packet_that_fits_without_its_topic_comes_once_the_alias_is_known() -> None:
    limited = Sending(0, 30, 1)
    assert named(limited.packet(Message(b"a long topic", b""), False, NOW, b"")) == (b"a long topic", 1)
    limited.sent()
    long = Message(b"a long topic", b"p" * 15)
    assert len(long.packet_5(False, NOW, b"")) > 30
    assert named(limited.packet(long, False, NOW, b"")) == (b"", 1)


@interpreted_only
@given(st.integers(0, 2), st.booleans(), st.sampled_from([0.0, 150.0]), st.sampled_from([b"", b"\x0b\x07"]))
def test_at_qos_1_a_packet_says_what_the_message_and_its_subscription_have(
    aliases_max: int, dup: bool, expires_at: float, ids: bytes
) -> None:
    message = Message(b"a", b"x", 1)
    message.properties = b"\x03\x00\x01t"
    message.expires_at = expires_at
    sending, wire = Sending(0, 0, aliases_max), Wire()
    for packet_id in (5, 6):
        entry = InFlight(packet_id, message, 1, True, AWAIT_PUBACK, ids)
        sending.push(wire, entry, dup, NOW)
    one, other = map(read, wire.packets)
    assert (one.packet_id, other.packet_id) == (5, 6)
    assert (one.topic, other.topic) == (b"a", b"" if aliases_max else b"a")
    for packet in (one, other):
        assert (packet.payload, packet.qos, packet.retain, packet.dup) == (b"x", 1, True, dup)
        assert packet.properties.texts == {3: b"t"}
        assert packet.properties.subscription_ids == ([7] if ids else [])
        assert packet.properties.numbers.get(MESSAGE_EXPIRY, 0) == (50 if expires_at else 0)
        assert packet.properties.numbers.get(TOPIC_ALIAS, 0) == (1 if aliases_max else 0)
