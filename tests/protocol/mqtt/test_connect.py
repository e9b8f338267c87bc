"""CONNECT and CONNACK: random ones round-trip, broken ones are refused, and the hand path says what the layout says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.packet_case import ValidCase
from support.packet_cases import VALID_CONNECTS, case_name

from protocol.mqtt import connect_layout
from protocol.mqtt.codec import decode, encode
from protocol.mqtt.connect import read_flawless
from protocol.mqtt.errors import ConnectRefused, MalformedPacket
from protocol.mqtt.framing import frame_at
from protocol.mqtt.packets import Connack, Connect, Packet, Will

TEXT = st.text("ab/$ é\U0002a6d4", max_size=8).map(str.encode)
WILL = st.builds(Will, TEXT.filter(bool), st.binary(max_size=20), st.integers(0, 2), st.booleans())


@st.composite
def connects(draw: st.DrawFn) -> Connect:
    user_name = draw(st.none() | TEXT)
    return Connect(
        client_id=draw(TEXT),
        clean_session=draw(st.booleans()),
        keep_alive_s=draw(st.integers(0, 65_535)),
        protocol_level=draw(st.sampled_from([3, 4])),
        will=draw(st.none() | WILL),
        user_name=user_name,
        password=None if user_name is None else draw(st.none() | st.binary(max_size=8)),
        bridge=draw(st.booleans()),
    )


CONNACKS = st.builds(Connack, st.booleans(), st.just(0)) | st.builds(
    Connack, st.just(False), st.integers(1, 5)
)


@settings(derandomize=True, max_examples=cases(300))
@given(connects() | CONNACKS)
def test_what_is_written_is_read_back(packet: Packet) -> None:
    raw = encode(packet)
    body, end = frame_at(raw, 0, 0)
    assert decode(raw[0], raw[body:end]) == packet
    if isinstance(packet, Connect):
        by_hand = packet.protocol_level == 4 and not packet.bridge
        assert read_flawless(raw[body:end]) == (packet if by_hand else None)
        assert connect_layout.read_connect(raw[body:end]) == packet


@pytest.mark.parametrize(
    "case", [case for case in VALID_CONNECTS if b"MQIsdp" not in case.raw], ids=case_name
)
def test_a_connect_that_is_cut_anywhere_is_refused(case: ValidCase) -> None:
    for length in range(len(case.body)):
        with pytest.raises(MalformedPacket):
            decode(0x10, case.body[:length])


@settings(derandomize=True, max_examples=cases(500))
@given(st.sampled_from(VALID_CONNECTS), st.data())
def test_a_connect_with_changed_bytes_is_read_or_refused_and_nothing_else(
    case: ValidCase, data: st.DataObject
) -> None:
    body = bytearray(case.body)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        packet = decode(0x10, bytes(body))
    except (MalformedPacket, ConnectRefused):
        assert read_flawless(bytes(body)) is None
        return
    assert read_flawless(bytes(body)) in (None, connect_layout.read_connect(bytes(body)))
    assert decode(0x10, encode(packet)[2:]) == packet
