"""The table of packets through `decode` and `encode`, and the low-level functions beside them."""

from __future__ import annotations

import pytest
from support.packet_case import InvalidCase, ValidCase, framed, string
from support.packet_cases import INVALID, INVALID_PUBLISHES, VALID, VALID_PUBLISHES, case_name

from protocol.mqtt import codec
from protocol.mqtt.codec import (
    decode,
    encode,
    encode_ack,
    packet_id_of,
    publish_head,
    publish_packet,
    publish_parts,
)
from protocol.mqtt.errors import ConnectRefused, MalformedPacket
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import (
    Connect,
    ConnectReturnCode,
    PacketType,
    Puback,
    Pubcomp,
    Publish,
    Pubrec,
    Pubrel,
)

# Faults of a topic's characters, which `publish_parts` leaves to the check of a new topic.
OF_CHARACTERS = {"MQTT-4.7.3-1", "MQTT-3.3.2-2", ""}
SECRETS = (b"who", b"will", b"will-secret", b"user", b"pass-secret")


def test_the_table_has_every_packet_type() -> None:
    assert {case.first_byte >> 4 for case in VALID} == set(PacketType)
    assert {case.first_byte >> 4 for case in INVALID} == set(range(16))


@pytest.mark.parametrize("case", VALID, ids=case_name)
def test_a_valid_packet_is_read(case: ValidCase) -> None:
    assert decode(case.first_byte, case.body) == case.packet


@pytest.mark.parametrize("case", VALID, ids=case_name)
def test_a_valid_packet_is_written(case: ValidCase) -> None:
    written = encode(case.packet)
    assert (written == case.raw) == case.canonical
    body, end = frame_at(written, 0, 0)
    assert end == len(written)
    assert decode(written[0], written[body:]) == case.packet


@pytest.mark.parametrize("case", INVALID, ids=case_name)
def test_an_invalid_packet_is_refused_with_its_statement(case: InvalidCase) -> None:
    with pytest.raises(case.error) as refused:
        decode(case.first_byte, case.body)
    assert type(refused.value) is case.error
    assert refused.value.tag == case.tag
    assert refused.value.reason


@pytest.mark.parametrize("case", [case for case in VALID if len(case.raw) < 300], ids=case_name)
def test_a_packet_with_a_byte_too_much_is_refused(case: ValidCase) -> None:
    if isinstance(case.packet, Publish):
        longer = decode(case.first_byte, case.body + b"\x00")
        assert isinstance(longer, Publish)
        assert longer.payload == case.packet.payload + b"\x00"
        return
    if case.first_byte >> 4 == PacketType.SUBACK:  # a zero is one more return code
        decode(case.first_byte, case.body + b"\x00")
    with pytest.raises(MalformedPacket):
        decode(case.first_byte, case.body + b"\xff")


def test_an_unknown_protocol_level_is_refused_with_code_1_and_named() -> None:
    with pytest.raises(ConnectRefused) as refused:
        decode(0x10, b"\x00\x06MQIsdp\x84" + b"whatever")
    assert refused.value.code == ConnectReturnCode.UNACCEPTABLE_PROTOCOL_VERSION
    assert refused.value.reason == "MQIsdp with level 4; it has 3"


def test_a_logged_packet_shows_neither_password_nor_payload() -> None:
    connect = decode(0x10, b"\x00\x04MQTT\x04\xc6\x00\x3c" + b"".join(map(string, SECRETS)))
    assert isinstance(connect, Connect)
    assert connect.password == b"pass-secret"
    shown = repr(connect) + repr(Publish(b"t", b"payload-secret"))
    assert "secret" not in shown
    assert "who" in shown


# --- the functions that build no packet -------------------------------------------------------------


@pytest.mark.parametrize("case", VALID_PUBLISHES, ids=case_name)
def test_publish_parts_finds_topic_packet_id_and_payload_between_other_packets(case: ValidCase) -> None:
    data = b"\xc0\x00" + case.raw + b"\xc0\x00"
    body, end = frame_at(data, 2, 0)
    topic, packet_id, payload_start = publish_parts(case.first_byte, data, body, end)
    publish = case.packet
    assert isinstance(publish, Publish)
    assert (topic, packet_id, data[payload_start:end]) == (publish.topic, publish.packet_id, publish.payload)


@pytest.mark.parametrize("case", INVALID_PUBLISHES, ids=case_name)
def test_publish_parts_does_not_read_into_the_next_packet(case: InvalidCase) -> None:
    data = case.raw + b"\x00\x01\x00\x01\x00\x01"
    body, end = frame_at(data, 0, 0)
    if case.tag in OF_CHARACTERS:
        publish_parts(case.first_byte, data, body, end)
        return
    with pytest.raises(MalformedPacket) as refused:
        publish_parts(case.first_byte, data, body, end)
    assert refused.value.tag == case.tag


def test_packet_id_of_reads_two_bytes_and_no_other_number() -> None:
    data = b"\x40\x02\x12\x34\x56"
    assert packet_id_of(data, 2, 4) == 0x1234
    for end in (2, 3, 5):
        with pytest.raises(MalformedPacket, match=r"4\.8\.0-1"):
            packet_id_of(data, 2, end)
    with pytest.raises(MalformedPacket, match=r"2\.3\.1-6"):
        packet_id_of(b"\x00\x00", 0, 2)


@pytest.mark.parametrize("first_byte", [codec.PUBACK, codec.PUBREC, codec.PUBREL, codec.PUBCOMP])
@pytest.mark.parametrize("packet_id", [1, 255, 256, 65_535])
def test_encode_ack_writes_what_decode_reads(first_byte: int, packet_id: int) -> None:
    ack = encode_ack(first_byte, packet_id)
    assert ack == bytes([first_byte, 2]) + packet_id.to_bytes(2, "big")
    packet = decode(first_byte, ack[2:])
    assert isinstance(packet, Puback | Pubrec | Pubrel | Pubcomp)
    assert packet.packet_id == packet_id


@pytest.mark.parametrize("size", [0, 1, 300, 16_384, 2_097_152])
@pytest.mark.parametrize("topic", [b"t", b"t" * 127, b"t" * 256, b"t" * 65_535])
def test_publish_head_and_its_rest_are_a_publish(topic: bytes, size: int) -> None:
    payload = bytes(size)
    assert publish_head(0x31, topic, size) + payload == framed(0x31, string(topic) + payload)


@pytest.mark.parametrize("size", [0, 1, 300, 16_384])
@pytest.mark.parametrize("properties", [b"", b"\x00", b"\x02\x01\x01"])
def test_a_whole_publish_is_its_head_and_its_rest(properties: bytes, size: int) -> None:
    payload = bytes(size)
    packet = publish_packet(0x30, b"t" * 300, properties, payload)
    assert packet == framed(0x30, string(b"t" * 300) + properties + payload)
