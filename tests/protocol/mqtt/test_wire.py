"""The hand path against the construct layouts, in both directions.

Goal: `codec.py` and `wire.py` are two descriptions of one language.  Method: valid packets are built and
parsed by either; arbitrary and mutated bytes are refused by both or read the same by both.  What a layout
can't say (which text is valid) is asked of `topics.py` for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.packet_case import Case, ValidCase
from support.packet_cases import INVALID, VALID, case_name

from protocol.mqtt import wire
from protocol.mqtt.codec import decode, encode
from protocol.mqtt.errors import MalformedPacket
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import (
    Disconnect,
    Packet,
    PacketType,
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
)
from protocol.mqtt.topics import check_topic_filter, check_topic_name

WITH_ONLY_A_PACKET_ID: dict[int, Callable[[int], Packet]] = {
    PacketType.PUBACK: Puback,
    PacketType.PUBREC: Pubrec,
    PacketType.PUBREL: Pubrel,
    PacketType.PUBCOMP: Pubcomp,
    PacketType.UNSUBACK: Unsuback,
}
EMPTY: dict[int, Callable[[], Packet]] = {
    PacketType.PINGREQ: Pingreq,
    PacketType.PINGRESP: Pingresp,
    PacketType.DISCONNECT: Disconnect,
}


def through_construct(raw: bytes) -> Packet:
    """Read a packet by its layout alone, CONNECT and CONNACK aside: these have no other way."""
    try:
        parsed = wire.PACKET.parse(raw)
    except wire.ConstructError as error:
        raise MalformedPacket(str(error)) from error
    packet_type, flags, body = parsed.fixed_header.packet_type, parsed.fixed_header.flags, parsed.body
    if packet_type == PacketType.PUBLISH:
        check_topic_name(body.topic_name)
        return Publish(body.topic_name, body.payload, flags.qos, flags.retain, flags.dup, body.packet_id or 0)
    if packet_type == PacketType.SUBSCRIBE:
        for wanted in body.filters:
            check_topic_filter(wanted.topic_filter)
        return Subscribe(
            body.packet_id, tuple((wanted.topic_filter, wanted.requested.qos) for wanted in body.filters)
        )
    if packet_type == PacketType.UNSUBSCRIBE:
        for topic_filter in body.filters:
            check_topic_filter(topic_filter)
        return Unsubscribe(body.packet_id, tuple(body.filters))
    if packet_type == PacketType.SUBACK:
        return Suback(body.packet_id, tuple(body.return_codes))
    if packet_type in EMPTY:
        return EMPTY[packet_type]()
    return WITH_ONLY_A_PACKET_ID[packet_type](body.packet_id)


def fields(packet: Packet) -> dict[str, Any]:
    """What the layouts build a packet's body from."""
    if isinstance(packet, Publish):
        return {"topic_name": packet.topic, "packet_id": packet.packet_id, "payload": packet.payload}
    if isinstance(packet, Subscribe):
        filters = [{"topic_filter": name, "requested": {"qos": qos}} for name, qos in packet.filters]
        return {"packet_id": packet.packet_id, "filters": filters}
    if isinstance(packet, Unsubscribe):
        return {"packet_id": packet.packet_id, "filters": list(packet.filters)}
    if isinstance(packet, Suback):
        return {"packet_id": packet.packet_id, "return_codes": list(packet.return_codes)}
    return {"packet_id": getattr(packet, "packet_id", None)}


def built_by_construct(packet: Packet) -> bytes:
    flags = None
    if isinstance(packet, Publish):
        flags = {"dup": packet.dup, "qos": packet.qos, "retain": packet.retain}
    packet_type = PacketType[type(packet).__name__.upper()]
    header = {"packet_type": packet_type, "flags": flags}
    return bytes(wire.PACKET.build({"fixed_header": header, "body": fields(packet)}))


def by_hand(raw: bytes) -> Packet:
    """Read the one packet that `raw` starts with; what follows it is not looked at."""
    body, end = frame_at(raw, 0, 0)
    if end == 0:
        raise MalformedPacket("cut off")
    return decode(raw[0], raw[body:end])


def outcome(read: Any, raw: bytes) -> Packet | type[MalformedPacket]:
    try:
        packet: Packet = read(raw)
    except MalformedPacket:
        return MalformedPacket
    return packet


# --- the table --------------------------------------------------------------------------------------


def has_a_hand_path(case: Case) -> bool:
    return case.first_byte >> 4 not in (PacketType.CONNECT, PacketType.CONNACK)


@pytest.mark.parametrize("case", [case for case in VALID if has_a_hand_path(case)], ids=case_name)
def test_construct_reads_and_builds_the_valid_packets(case: ValidCase) -> None:
    assert through_construct(case.raw) == case.packet
    assert (built_by_construct(case.packet) == case.raw) == case.canonical


@pytest.mark.parametrize("case", [case for case in INVALID if has_a_hand_path(case)], ids=case_name)
def test_construct_refuses_the_invalid_packets(case: Case) -> None:
    assert outcome(through_construct, case.raw) is MalformedPacket


@pytest.mark.parametrize("name", sorted(packet_type.name for packet_type in PacketType))
def test_every_packet_type_has_a_layout(name: str) -> None:
    assert PacketType[name] in wire.BODIES


# --- packets that hypothesis thinks of --------------------------------------------------------------

PACKET_ID = st.integers(1, 65_535)
NAME = st.text("ab/$ é\U0002a6d4", min_size=1, max_size=8).map(str.encode)
FILTER = NAME | st.sampled_from([b"#", b"+", b"a/+/b", b"+/#", b"/+"])
PUBLISH_AT_QOS_0 = st.builds(Publish, NAME, st.binary(max_size=200), retain=st.booleans())
PUBLISH_WITH_ID = st.builds(
    Publish, NAME, st.binary(max_size=200), st.sampled_from([1, 2]), st.booleans(), st.booleans(), PACKET_ID
)
RETURN_CODES = st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=5).map(tuple)
PACKET = st.one_of(
    PUBLISH_AT_QOS_0,
    PUBLISH_WITH_ID,
    *(st.builds(kind, PACKET_ID) for kind in WITH_ONLY_A_PACKET_ID.values()),
    *(st.just(kind()) for kind in EMPTY.values()),
    st.builds(
        Subscribe,
        PACKET_ID,
        st.lists(st.tuples(FILTER, st.integers(0, 2)), min_size=1, max_size=4).map(tuple),
    ),
    st.builds(Unsubscribe, PACKET_ID, st.lists(FILTER, min_size=1, max_size=4).map(tuple)),
    st.builds(Suback, PACKET_ID, RETURN_CODES),
)


@settings(derandomize=True, max_examples=cases(250))
@given(PACKET)
def test_either_path_writes_the_same_and_reads_what_the_other_wrote(packet: Packet) -> None:
    raw = encode(packet)
    assert built_by_construct(packet) == raw
    assert through_construct(raw) == packet
    assert by_hand(raw) == packet


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid packet with some bytes changed, dropped or doubled, and the remaining length set right again or not."""
    raw = bytearray(encode(draw(PACKET)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw) - 1))
        raw[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=2))
        if len(raw) < 2:
            raw += b"\x00\x00"
    if len(raw) < 130 and draw(st.booleans()):
        raw[1] = len(raw) - 2
    return bytes(raw)


@settings(derandomize=True, max_examples=cases(800))
@given(mutated() | st.binary(min_size=2, max_size=12))
@example(b"\x82\x07\x00\x01\x00\x01t\x00\x00")  # the tail that GreedyRange drops
@example(b"\x30\x05\x00\x50abc")  # the topic that compiled layouts take
@example(b"\x40\x82\x80\x80\x80\x00\x00\x01")  # the five length bytes that VarInt takes
def test_either_path_refuses_the_same_bytes(raw: bytes) -> None:
    if raw[0] >> 4 in (PacketType.CONNECT, PacketType.CONNACK):
        return
    assert outcome(by_hand, raw) == outcome(through_construct, raw)
