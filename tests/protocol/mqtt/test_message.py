"""One message and its encodings: each is what the codec would write, however often it is asked for."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mqtt.codec import encode
from protocol.mqtt.message import Message, MessageStore
from protocol.mqtt.packets import Publish
from protocol.mqtt.v5.codec import encode as encode_5
from protocol.mqtt.v5.properties import Properties

PAYLOADS = st.sampled_from([b"", b"x", bytes(118), bytes(125), bytes(126), bytes(16_380)])


@given(PAYLOADS, st.lists(st.tuples(st.integers(1, 2), st.booleans(), st.booleans()), max_size=6))
def test_encodings_are_the_codecs(payload: bytes, asked: list[tuple[int, bool, bool]]) -> None:
    message = Message(b"topic", payload, 1)
    for qos, retain, dup in asked:
        whole = message.head(qos, retain, dup) + b"\0\7" + payload
        assert whole == encode(Publish(b"topic", payload, qos, retain, dup, 7))
    for _ in range(2):
        assert message.packet() == encode(Publish(b"topic", payload))
        assert message.retained_packet() == encode(Publish(b"topic", payload, retain=True))


@pytest.mark.parametrize(("retain", "ids"), list(product((False, True), (b"", b"\x0b\1", b"\x0b\2"))))
def test_a_packet_of_5_is_its_own_for_each_receivers_identifiers(retain: bool, ids: bytes) -> None:
    message = Message(b"t", b"x")
    message.properties = b"\x26\0\1a\0\1b"
    for other in (b"\x0b\1", b"", b"\x0b\2", b"", ids):
        packet = message.packet_5(retain, 0.0, other)
        block = message.properties + other
        assert (
            packet
            == bytes([0x30 | retain, 3 + 1 + len(block) + 1]) + b"\0\1t" + bytes([len(block)]) + block + b"x"
        )


@given(
    st.sampled_from([b"", b"x", bytes(118), bytes(4096), bytes(4097), bytes(16_380)]),
    st.sampled_from([b"", b"\x26\0\1a\0\1b"]),
    st.lists(st.tuples(st.integers(1, 2), st.booleans()), max_size=4),
)
def test_what_all_clients_of_5_share_of_a_packet_is_the_codecs(
    payload: bytes, properties: bytes, asked: list[tuple[int, bool]]
) -> None:
    message = Message(b"topic", payload, 1)
    message.properties = properties
    for qos, retain in asked:
        assert message.is_shared_5(qos, retain)
        whole = message.head_5 + b"\0\7" + message.block_5 + message.rest_5
        said = Properties(user=[(b"a", b"b")] if properties else [])
        assert whole == encode_5(Publish(b"topic", payload, qos, retain, False, 7, said))


def test_what_expires_is_written_for_each_client_of_5() -> None:
    message = Message(b"topic", b"x", 1)
    message.expires_at = 100.0
    assert not message.is_shared_5(1, False)


def test_what_is_left_of_an_expiry_is_told_and_never_less_than_nothing() -> None:
    message = Message(b"t", b"")
    assert message.block(1e9, b"") == b"\0"
    message.expires_at = 100.0
    for now, left in ((0.0, 100), (99.5, 1), (99.9995, 0), (100.0, 0), (500.0, 0), (-1e10, 0xFFFF_FFFF)):
        assert message.block(now, b"") == b"\5\2" + left.to_bytes(4, "big"), now
    assert [message.has_expired(now) for now in (99.0, 100.0, 100.5)] == [False, False, True]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40))
def test_a_message_counts_once_however_many_keep_it(acts: list[tuple[bool, int]]) -> None:
    store = MessageStore()
    messages = [Message(b"t", bytes(number)) for number in range(4)]
    holders = [0] * 4
    for holds, number in acts:
        if holds:
            store.hold(messages[number])
            holders[number] += 1
        elif holders[number]:
            store.release(messages[number])
            holders[number] -= 1
        kept = [number for number, count in enumerate(holders) if count]
        assert (store.count, store.payload_bytes) == (len(kept), sum(kept))
