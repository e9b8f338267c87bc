"""MQTT 5.0 packets through `decode` and `encode`: what hypothesis thinks of, and what each statement forbids."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.packet_case import framed

from protocol.mqtt.errors import ProtocolError
from protocol.mqtt.framing import encode_variable, frame_at
from protocol.mqtt.packets import (
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from protocol.mqtt.v5.codec import ack_parts, decode, encode, encode_ack, publish_parts
from protocol.mqtt.v5.properties import Properties, forwarded_properties, publish_properties
from protocol.mqtt.v5.property_table import (
    NOT_ZERO,
    PLACES,
    RESPONSE_TOPIC,
    TEXT,
    TOPIC_ALIAS,
    TYPES,
    USER_PROPERTY,
    VARIABLE,
)
from protocol.mqtt.v5.reasons import ALLOWED, ReasonCode

NAME = st.text("ab/$ é\U0002a6d4", min_size=1, max_size=8).map(str.encode)
WORD = st.text("ab+# é", max_size=8).map(str.encode)
MAXIMA = {1: 1, 2: 65_535, 4: 0xFFFF_FFFF}


@st.composite
def properties(draw: st.DrawFn, place: int) -> Properties:
    found = Properties()
    names = [name for name in TYPES if PLACES[name] >> place & 1]
    for name in draw(st.lists(st.sampled_from(names), unique=True, max_size=6)):
        kind = TYPES[name]
        if name == USER_PROPERTY:
            found.user.extend(draw(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=3)))
        elif kind == VARIABLE:
            found.subscription_ids.extend(
                draw(st.lists(st.integers(1, 268_435_455), min_size=1, max_size=3 if place == 3 else 1))
            )
        elif kind >= TEXT:
            found.texts[name] = draw(NAME if name == RESPONSE_TOPIC else WORD)
        else:
            found.numbers[name] = draw(st.integers(1 if name in NOT_ZERO else 0, MAXIMA[kind]))
    if 0x16 in found.texts:
        found.texts.setdefault(0x15, b"m")
    return found


def codes(packet_type: int) -> st.SearchStrategy[int]:
    return st.sampled_from(sorted(ALLOWED[packet_type]))


ID = st.integers(1, 65_535)
FILTER = NAME | st.sampled_from([b"#", b"+", b"a/+/b", b"$share/g/+/#"])
OPTIONS = st.builds(
    lambda qos, flags, handling: qos | flags << 3 | handling << 4,
    st.integers(0, 2),
    st.integers(0, 1),
    st.integers(0, 2),
)
PUBLISH = st.builds(
    lambda topic, payload, qos, retain, dup, packet_id, found: Publish(
        topic, payload, qos, retain, dup and qos > 0, packet_id if qos else 0, found
    ),
    NAME,
    st.binary(max_size=200),
    st.integers(0, 2),
    st.booleans(),
    st.booleans(),
    ID,
    properties(3),
)
PACKET: st.SearchStrategy[Packet] = st.one_of(
    PUBLISH,
    st.builds(
        Connect,
        NAME,
        st.booleans(),
        st.integers(0, 65_535),
        st.just(5),
        st.none()
        | st.builds(Will, NAME, st.binary(max_size=20), st.integers(0, 2), st.booleans(), properties(0)),
        st.none() | WORD,
        st.none() | st.binary(max_size=9),
        st.booleans(),
        properties(1),
    ),
    st.builds(Connack, st.just(False), codes(2), properties(2)),
    st.builds(Puback, ID, codes(4), properties(4)),
    st.builds(Pubrec, ID, codes(5), properties(5)),
    st.builds(Pubrel, ID, codes(6), properties(6)),
    st.builds(Pubcomp, ID, codes(7), properties(7)),
    st.builds(
        Subscribe,
        ID,
        st.lists(st.tuples(FILTER, OPTIONS), min_size=1, max_size=4).map(tuple),
        properties(8),
    ),
    st.builds(Suback, ID, st.lists(codes(9), min_size=1, max_size=4).map(tuple), properties(9)),
    st.builds(Unsubscribe, ID, st.lists(FILTER, min_size=1, max_size=4).map(tuple), properties(10)),
    st.builds(Unsuback, ID, st.lists(codes(11), min_size=1, max_size=4).map(tuple), properties(11)),
    st.just(Pingreq()),
    st.just(Pingresp()),
    st.builds(Disconnect, codes(14), properties(14)),
    st.builds(Auth, codes(15), properties(15)),
)


def read(raw: bytes) -> Packet:
    body, end = frame_at(raw, 0, 0)
    assert end == len(raw)
    return decode(raw[0], raw[body:end])


@settings(derandomize=True, max_examples=cases(500))
@given(PACKET)
def test_every_packet_is_read_as_it_was_written(packet: Packet) -> None:
    assert read(encode(packet)) == packet


@settings(derandomize=True, max_examples=cases(300))
@given(PACKET, st.data())
def test_a_packet_that_is_cut_or_changed_is_refused_with_a_code_or_read_to_something_that_can_be_written(
    packet: Packet, data: st.DataObject
) -> None:
    raw = bytearray(encode(packet))
    body, _ = frame_at(bytes(raw), 0, 0)
    inner = raw[body:]
    if inner:
        at = data.draw(st.integers(0, len(inner) - 1))
        inner[at : at + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    found = outcome(raw[0], bytes(inner))
    if isinstance(found, int):
        assert found in (0x81, 0x82)
    else:
        assert read(encode(found)) == found


def outcome(first_byte: int, body: bytes) -> Packet | int:
    try:
        return decode(first_byte, body)
    except ProtocolError as error:
        return error.reason_code


@settings(derandomize=True, max_examples=cases(200))
@given(PUBLISH.filter(lambda packet: not packet.properties.subscription_ids))
def test_the_hot_path_finds_what_the_packet_has(packet: Publish) -> None:
    raw = encode(packet)
    body, end = frame_at(raw, 0, 0)
    topic, packet_id, start, payload_start = publish_parts(raw[0], raw, body, end)
    assert (topic, packet_id, raw[payload_start:end]) == (packet.topic, packet.packet_id, packet.payload)
    forwarded, expiry_s, alias = publish_properties(raw, start, payload_start)
    assert expiry_s == packet.properties.numbers.get(2, -1)
    assert alias == packet.properties.numbers.get(TOPIC_ALIAS, 0)
    assert sorted(forwarded) == sorted(forwarded_properties(packet.properties))


@given(ID, codes(5))
def test_an_acknowledgement_is_written_as_short_as_mosquitto_writes_it(packet_id: int, code: int) -> None:
    raw = encode_ack(0x50, packet_id, code)
    assert raw == encode(Pubrec(packet_id, code))
    assert ack_parts(0x50, raw, 2, len(raw)) == (packet_id, code)


FORBIDDEN = [
    ("QoS 3", 0x36, b"\x00\x01t\x00\x01\x00", 0x81, "MQTT-3.3.1-4"),
    ("DUP at QoS 0", 0x38, b"\x00\x01t\x00", 0x81, "MQTT-3.3.1-2"),
    ("packet id 0", 0x32, b"\x00\x01t\x00\x00\x00", 0x82, "MQTT-2.2.1-3"),
    ("wildcard in a topic", 0x30, b"\x00\x01#\x00", 0x82, "MQTT-3.3.2-2"),
    ("wildcard in a response topic", 0x30, b"\x00\x01t\x04\x08\x00\x01#", 0x82, "MQTT-3.3.2-14"),
    ("topic alias 0", 0x30, b"\x00\x01t\x03\x23\x00\x00", 0x94, "MQTT-3.3.2-8"),
    ("no properties in a PUBLISH", 0x30, b"\x00\x01t", 0x81, "MQTT-2.2.2-1"),
    ("payload format 2", 0x30, b"\x00\x01t\x02\x01\x02", 0x82, ""),
    ("PUBACK code", 0x40, b"\x00\x01\x01", 0x81, "MQTT-3.4.2-1"),
    ("PUBREC code", 0x50, b"\x00\x01\x01", 0x81, "MQTT-3.5.2-1"),
    ("PUBREL code", 0x62, b"\x00\x01\x80", 0x81, "MQTT-3.6.2-1"),
    ("PUBCOMP code", 0x70, b"\x00\x01\x80", 0x81, "MQTT-3.7.2-1"),
    ("PUBREL flags", 0x60, b"\x00\x01", 0x81, "MQTT-3.6.1-1"),
    ("SUBSCRIBE flags", 0x80, b"\x00\x01\x00\x00\x01t\x00", 0x81, "MQTT-3.8.1-1"),
    ("UNSUBSCRIBE flags", 0xA0, b"\x00\x01\x00\x00\x01t", 0x81, "MQTT-3.10.1-1"),
    ("DISCONNECT flags", 0xE1, b"", 0x81, "MQTT-3.14.1-1"),
    ("DISCONNECT code", 0xE0, b"\x01", 0x81, "MQTT-3.14.2-1"),
    ("AUTH flags", 0xF1, b"", 0x81, "MQTT-3.15.1-1"),
    ("AUTH code", 0xF0, b"\x01", 0x81, "MQTT-3.15.2-1"),
    ("PINGREQ flags", 0xC1, b"", 0x81, "MQTT-2.1.3-1"),
]


@pytest.mark.parametrize(
    ("name", "first", "body", "code", "tag"), FORBIDDEN, ids=[row[0] for row in FORBIDDEN]
)
def test_what_a_statement_forbids_is_refused_with_its_code(
    name: str, first: int, body: bytes, code: int, tag: str
) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(first, body)
    assert (refused.value.reason_code, refused.value.tag) == (code, tag)
    assert framed(first, body)


def test_there_are_27_properties_and_43_reason_codes() -> None:
    assert len(TYPES) == len(PLACES) == 27
    assert len(set(ReasonCode)) == 43


MANY = 5_000


@pytest.mark.parametrize(
    ("first_byte", "before", "one"),
    [
        (0x82, b"\x00\x01\x00", b"\x00\x01a\x00"),
        (0xA2, b"\x00\x01\x00", b"\x00\x01a"),
        (0x82, b"\x00\x01", b"\x26\x00\x01a\x00\x00"),
        (0x30, b"\x00\x01t", b"\x26\x00\x01a\x00\x00"),
    ],
)
def test_what_one_packet_may_hold_is_bounded(first_byte: int, before: bytes, one: bytes) -> None:
    """In packets of two million bytes there is room for half a million filters, or properties."""

    def read(count: int) -> None:
        if one[0] == USER_PROPERTY:
            inner = encode_variable(len(one) * count) + one * count
            body = before + inner + (b"\x00\x01a\x00" if first_byte == 0x82 else b"")
        else:
            body = before + one * count
        decode(first_byte, body)

    read(MANY)
    with pytest.raises(ProtocolError) as refused:
        read(MANY + 1)
    assert refused.value.reason_code == ReasonCode.QUOTA_EXCEEDED


def test_a_publish_that_is_handed_on_has_no_more_properties_either() -> None:
    one = b"\x26\x00\x01a\x00\x00"
    assert publish_properties(one * MANY, 0, len(one) * MANY)[0] == one * MANY
    with pytest.raises(ProtocolError, match=str(MANY)):
        publish_properties(one * (MANY + 1), 0, len(one) * (MANY + 1))
