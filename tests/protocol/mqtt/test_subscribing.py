"""SUBSCRIBE and its kin by hand: what was written is read, and whatever is cut or turned is refused, never misread."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.mqtt.errors import MalformedPacket, ProtocolError, ProtocolViolation
from protocol.mqtt.packets import Suback, Subscribe, Unsubscribe
from protocol.mqtt.subscribing import (
    FILTERS_MAX,
    answered_packet_id,
    read_suback,
    read_subscribe,
    read_unsubscribe,
    write_suback,
    write_subscribe,
    write_unsubscribe,
)

IDS = st.integers(1, 65_535)
FILTERS = st.sampled_from([b"#", b"+", b"a", b"a/+/b", b"/", "ü/#".encode(), b"a" * 300])


@given(IDS, st.lists(st.tuples(FILTERS, st.integers(0, 2)), min_size=1, max_size=5))
def test_subscriptions_are_read_as_written_and_no_piece_of_them_is(
    packet_id: int, filters: list[tuple[bytes, int]]
) -> None:
    packet = Subscribe(packet_id, tuple(filters))
    body = write_subscribe(packet)
    assert read_subscribe(body) == packet
    whole = {
        len(write_subscribe(Subscribe(packet_id, tuple(filters[:count])))) for count in range(1, len(filters))
    }
    for end in set(range(len(body))) - whole:
        with pytest.raises(ProtocolError):
            read_subscribe(body[:end])


@given(IDS, st.lists(FILTERS, min_size=1, max_size=5))
def test_filters_to_leave_are_read_as_written(packet_id: int, filters: list[bytes]) -> None:
    packet = Unsubscribe(packet_id, tuple(filters))
    assert read_unsubscribe(write_unsubscribe(packet)) == packet


@given(IDS, st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=5))
def test_answers_are_read_as_written(packet_id: int, codes: list[int]) -> None:
    packet = Suback(packet_id, tuple(codes))
    assert read_suback(write_suback(packet)) == packet
    assert answered_packet_id(write_suback(packet)[:2]) == packet_id


@given(st.binary(max_size=40))
def test_no_bytes_make_anything_but_a_packet_or_a_refusal(body: bytes) -> None:
    with suppress(ProtocolError):
        assert write_subscribe(read_subscribe(body)) == body
    with suppress(ProtocolError):
        assert write_unsubscribe(read_unsubscribe(body)) == body


@pytest.mark.parametrize(
    ("body", "statement"),
    [
        (b"\0\0\0\1a\0", "MQTT-2.3.1-1"),
        (b"\0", "MQTT-2.3.1-1"),
        (b"\0\1", "MQTT-3.8.3-3"),
        (b"\0\1\0\1a\3", "MQTT-3.8.3-4"),
        (b"\0\1\0\1a\x80", "MQTT-3.8.3-4"),
        (b"\0\1\0\1a", "MQTT-4.8.0-1"),
        (b"\0\1\0\5a\0", "MQTT-3.8.3-1"),
    ],
)
def test_a_refusal_names_its_statement(body: bytes, statement: str) -> None:
    with pytest.raises(MalformedPacket, match=statement):
        read_subscribe(body)


def test_one_packet_has_so_many_filters_and_no_more() -> None:
    most = Subscribe(1, ((b"a", 0),) * FILTERS_MAX)
    assert len(read_subscribe(write_subscribe(most)).filters) == FILTERS_MAX
    with pytest.raises(ProtocolViolation, match=str(FILTERS_MAX)):
        read_subscribe(write_subscribe(Subscribe(1, (*most.filters, (b"b", 0)))))
    with pytest.raises(ProtocolViolation, match=str(FILTERS_MAX)):
        read_unsubscribe(write_unsubscribe(Unsubscribe(1, (b"a",) * (FILTERS_MAX + 1))))
