"""Each packet of the table is framed whole, byte by byte, behind another one and with more behind it."""

from __future__ import annotations

import pytest
from support.packet_case import ValidCase, framed
from support.packet_cases import VALID, case_name

from protocol.mqtt.errors import MalformedPacket, PacketTooLarge
from protocol.mqtt.framing import (
    REMAINING_LENGTH_MAX,
    bytes_missing,
    encode_variable,
    frame_at,
    packet_id_bytes,
    variable_size,
)

PINGREQ = b"\xc0\x00"
SHORT = [case for case in VALID if len(case.raw) < 300]


def body_start(case: ValidCase) -> int:
    return len(case.raw) - len(case.body)


@pytest.mark.parametrize("case", VALID, ids=case_name)
def test_a_packet_is_framed_whole(case: ValidCase) -> None:
    assert frame_at(case.raw, 0, 0) == (body_start(case), len(case.raw))


@pytest.mark.parametrize("case", SHORT, ids=case_name)
def test_a_packet_is_framed_only_when_its_last_byte_has_come(case: ValidCase) -> None:
    for length in range(len(case.raw)):
        assert frame_at(case.raw[:length], 0, 0) == (0, 0)


@pytest.mark.parametrize("case", SHORT, ids=case_name)
def test_a_packet_is_framed_between_others(case: ValidCase) -> None:
    data = PINGREQ + case.raw + b"\xff\xff\xff\xff\xff"
    assert frame_at(data, 2, 0) == (2 + body_start(case), 2 + len(case.raw))


@pytest.mark.parametrize("case", VALID, ids=case_name)
def test_bytes_missing_is_1_until_the_length_is_known_and_then_exact(case: ValidCase) -> None:
    for length in range(min(len(case.raw), 300)):
        missing = len(case.raw) - length if length >= body_start(case) else 1
        assert bytes_missing(PINGREQ + case.raw[:length], 2) == missing


TABLE_2_4 = [
    (b"\x00", 0),
    (b"\x7f", 127),
    (b"\x80\x01", 128),
    (b"\xff\x7f", 16_383),
    (b"\x80\x80\x01", 16_384),
    (b"\xff\xff\x7f", 2_097_151),
    (b"\x80\x80\x80\x01", 2_097_152),
    (b"\xff\xff\xff\x7f", REMAINING_LENGTH_MAX),
]
LONGER_THAN_NEEDED = [(b"\x80\x00", 0), (b"\x81\x80\x80\x00", 1)]  # as mosquitto: they are taken


@pytest.mark.parametrize(("encoded", "length"), TABLE_2_4 + LONGER_THAN_NEEDED)
def test_remaining_length_as_table_2_4_says(encoded: bytes, length: int) -> None:
    data = b"\x30" + encoded
    assert bytes_missing(data, 0) == length
    assert frame_at(data, 0, 0) == ((len(data), len(data)) if length == 0 else (0, 0))


@pytest.mark.parametrize(("encoded", "number"), TABLE_2_4)
def test_a_variable_number_takes_as_few_bytes_as_it_needs(encoded: bytes, number: int) -> None:
    assert encode_variable(number) == encoded
    assert variable_size(number) == len(encoded)


def test_a_number_that_mqtt_cannot_say_is_our_fault() -> None:
    with pytest.raises(ValueError, match="a length of 268435456; MQTT can say 268435455"):
        encode_variable(REMAINING_LENGTH_MAX + 1)
    assert variable_size(REMAINING_LENGTH_MAX + 1) == 4


@pytest.mark.parametrize("tail", [b"", b"\x01", b"\x80\x80\x00"])
@pytest.mark.parametrize("first_byte", range(0x00, 0x100, 0x10))
def test_a_fifth_length_byte_is_refused_before_it_has_come(first_byte: int, tail: bytes) -> None:
    with pytest.raises(MalformedPacket) as refused:
        frame_at(bytes([first_byte]) + b"\x80\xff\x80\x80" + tail, 0, 0)
    assert refused.value.tag == "MQTT-4.8.0-1"


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_152])
def test_a_packet_of_the_size_allowed_is_taken(size: int) -> None:
    data = framed(0x30, bytes(size))
    assert frame_at(data, 0, size)[1] == len(data)


@pytest.mark.parametrize("size", [2, 128, 129, 16_384, 16_385, 2_097_153])
def test_a_larger_packet_is_refused_as_soon_as_its_length_is_known(size: int) -> None:
    data = framed(0x30, bytes(size))
    header = data[: len(data) - size]
    assert frame_at(header[:-1], 0, size - 1) == (0, 0)
    with pytest.raises(PacketTooLarge):
        frame_at(header, 0, size - 1)


@pytest.mark.parametrize("packet_id", [1, 255, 256, 4095, 4096, 65535])
def test_packet_ids_are_two_bytes_big_endian(packet_id: int) -> None:
    assert int.from_bytes(packet_id_bytes(packet_id), "big") == packet_id
    assert len(packet_id_bytes(packet_id)) == 2
