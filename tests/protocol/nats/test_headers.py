"""Blocks of headers as NATS writes and reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.nats.errors import NatsProtocolError
from protocol.nats.headers import decode, encode

NAMES = st.binary(min_size=1, max_size=10).filter(lambda name: not set(name) & set(b"\r\n:"))
VALUES = st.binary(max_size=20).filter(lambda value: not set(value) & set(b"\r\n")).map(bytes.strip)


@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=5))
def test_what_is_written_is_read(headers: dict[bytes, bytes]) -> None:
    read = decode(encode(headers))
    assert (read.status, read.description, dict(read.values)) == (0, b"", headers)


@pytest.mark.parametrize(
    ("block", "status", "description"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503, b""),
        (b"NATS/1.0 100 FlowControl Request\r\n\r\n", 100, b"FlowControl Request"),
        (b"NATS/1.0 409 Consumer Deleted\r\nNats-Last-Consumer: 7\r\n\r\n", 409, b"Consumer Deleted"),
        (b"", 0, b""),
    ],
)
def test_status_lines(block: bytes, status: int, description: bytes) -> None:
    read = decode(block)
    assert (read.status, read.description) == (status, description)


def test_numbers() -> None:
    read = decode(encode({b"Nats-Sequence": b"12", b"Other": b"1x", b"Long": b"9" * 21}))
    assert read.number(b"Nats-Sequence") == 12
    assert read.number(b"None") is None
    for name in (b"Other", b"Long"):
        with pytest.raises(NatsProtocolError, match=name.decode()):
            read.number(name)


@pytest.mark.parametrize("name", [b"", b"a:b", b"a\r", b"a\nb"])
def test_a_header_that_would_end_its_line_is_not_written(name: bytes) -> None:
    with pytest.raises(ValueError, match="one line"):
        encode({name: b"x"})
    with pytest.raises(ValueError, match="one line"):
        encode({b"name": b"x\r\nother: y"})


@pytest.mark.parametrize(
    "block",
    [b"HTTP/1.1 200\r\n\r\n", b"NATS/1.0", b"NATS/1.0\r\n", b"NATS/1.0 12\r\n\r\n", b"NATS/1.0\r\nx\r\n\r\n"],
)
def test_what_is_no_block_is_refused(block: bytes) -> None:
    with pytest.raises(NatsProtocolError):
        decode(block)


@given(st.binary(max_size=60))
def test_no_bytes_are_a_bug(block: bytes) -> None:
    for data in (block, b"NATS/1.0" + block, b"NATS/1.0 " + block + b"\r\n\r\n"):
        try:
            read = decode(data)
        except NatsProtocolError:
            continue
        assert 0 <= read.status <= 999
