"""Frames a server writes, checked against bytes written out and against wsproto's reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage

from protocol.websocket import PING_FRAME, CloseCode, binary_frame, close_frame, text_frame


def read(data: bytes) -> list[object]:
    """What a client makes of these bytes."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(data)
    return list(client.events())


def test_a_short_text_frame_is_two_bytes_of_head_and_the_text() -> None:
    assert text_frame(b"Hello") == b"\x81\x05Hello"


def test_a_short_binary_frame_has_opcode_2() -> None:
    assert binary_frame(b"\xd0\x00") == b"\x82\x02\xd0\x00"


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_the_length_takes_the_fewest_bytes(size: int, head: bytes) -> None:
    assert text_frame(b"x" * size) == head + b"x" * size


@given(st.text(max_size=300))
def test_a_client_reads_the_text_that_was_framed(text: str) -> None:
    [event] = read(text_frame(text.encode()))
    assert event == TextMessage(data=text)


@given(st.binary(max_size=300))
def test_a_client_reads_the_bytes_that_were_framed(data: bytes) -> None:
    [event] = read(binary_frame(data))
    assert event == BytesMessage(data=data)


def test_a_close_frame_carries_code_and_reason() -> None:
    assert close_frame(CloseCode.TOKEN_EXPIRED, "JWT expired") == b"\x88\x0d\x0b\xb9JWT expired"


@given(st.integers(3000, 4999), st.text(max_size=200))
def test_a_close_reason_is_cut_at_a_character_and_always_readable(code: int, reason: str) -> None:
    frame = close_frame(code, reason)
    [event] = read(frame)
    assert isinstance(event, CloseConnection)
    assert event.code == code
    assert reason.startswith(event.reason or "")
    assert len(frame) <= 127


def test_the_ping_frame_is_an_empty_ping() -> None:
    assert PING_FRAME == b"\x89\x00"
    assert read(PING_FRAME) == [Ping(payload=b"")]
