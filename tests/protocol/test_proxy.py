"""PROXY headers: whole, byte by byte, with bytes behind them, cut, and wrong."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.proxy import ProxyError, ProxyHeader, parse_proxy

V2 = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = (
    socket.inet_aton("192.0.2.7") + socket.inet_aton("127.0.0.1") + (56324).to_bytes(2, "big") + b"\x07\x5b"
)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + (56324).to_bytes(2, "big")
    + b"\x07\x5b"
)


def v2(body: bytes, family: int = 0x11, command: int = 0x21) -> bytes:
    return V2 + bytes((command, family)) + len(body).to_bytes(2, "big") + body


def tlv(kind: int, value: bytes) -> bytes:
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def tls(client: int = 0x05, verify: int = 0, *parts: bytes) -> bytes:
    return tlv(0x20, bytes((client,)) + verify.to_bytes(4, "big") + b"".join(parts))


GOOD = [
    (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 1883\r\n", ProxyHeader("192.0.2.7", 56324)),
    (1, b"PROXY TCP6 2001:db8::7 ::1 56324 1883\r\n", ProxyHeader("2001:db8::7", 56324)),
    (1, b"PROXY UNKNOWN\r\n", ProxyHeader()),
    (1, b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ProxyHeader()),
    (2, v2(IPV4), ProxyHeader("192.0.2.7", 56324)),
    (2, v2(IPV6, 0x21), ProxyHeader("2001:db8::7", 56324)),
    (2, v2(b"/run/a.sock".ljust(108, b"\0") + bytes(108), 0x31), ProxyHeader("/run/a.sock")),
    (2, v2(b"", 0, 0x20), ProxyHeader(local=True)),
    (2, v2(IPV4, 0x11, 0x20), ProxyHeader(local=True)),
    (2, v2(IPV4 + tlv(0x04, b"\0\0\0")), ProxyHeader("192.0.2.7", 56324)),
    (2, v2(IPV4 + tls()), ProxyHeader("192.0.2.7", 56324, tls=True, certificate=True)),
    (2, v2(IPV4 + tls(0x01)), ProxyHeader("192.0.2.7", 56324, tls=True)),
    (2, v2(IPV4 + tls(0x05, 1)), ProxyHeader("192.0.2.7", 56324, tls=True)),
    (
        2,
        v2(IPV4 + tls(0x05, 0, tlv(0x21, b"TLSv1.3"), tlv(0x22, b"device 7"), tlv(0x23, b"AES"))),
        ProxyHeader("192.0.2.7", 56324, False, True, True, b"device 7", "TLSv1.3", "AES"),
    ),
]


@pytest.mark.parametrize(("version", "data", "header"), GOOD)
def test_a_header_is_found_whole_byte_by_byte_and_before_other_bytes(
    version: int, data: bytes, header: ProxyHeader
) -> None:
    assert parse_proxy(data, version) == (len(data), header)
    assert parse_proxy(data + b"\x10\x0c\x00\x04MQTT", version) == (len(data), header)
    for size in range(len(data)):
        assert parse_proxy(data[:size], version) == (0, None)


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, b"\x10\x0c\x00\x04MQTT"),
        (1, V2),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 56324\r\n"),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 1883 1\r\n"),
        (1, b"PROXY TCP4  192.0.2.7 127.0.0.1 56324 1883\r\n"),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 0 1883\r\n"),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 65536 1883\r\n"),
        (1, b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 x\r\n"),
        (1, b"PROXY TCP4 2001:db8::7 ::1 56324 1883\r\n"),
        (1, b"PROXY TCP6 192.0.2.7 127.0.0.1 56324 1883\r\n"),
        (1, b"PROXY UDP4 192.0.2.7 127.0.0.1 56324 1883\r\n"),
        (1, b"PROXY TCP4 \xff 127.0.0.1 56324 1883\r\n"),
        (1, b"PROXY " + b"1" * 102),
        (1, b"PROXY UNKNOWN" + b" " * 94 + b"\r\n"),
        (2, b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 1883\r\n"),
        (2, b"\x10"),
        (2, v2(IPV4, command=0x11)),
        (2, v2(IPV4, command=0x22)),
        (2, v2(IPV4, 0x12)),
        (2, v2(IPV4, 0)),
        (2, v2(IPV4[:-1])),
        (2, v2(b"")),
        (2, v2(IPV4, 0x21)),
        (2, V2 + b"\x21\x11\x01\xf5"),
        (2, v2(IPV4 + b"\x04")),
        (2, v2(IPV4 + b"\x04\x00\x02\x00")),
        (2, v2(IPV4 + tlv(0x20, b"\x05\0\0\0"))),
        (2, v2(IPV4 + tls(0x05, 0, b"\x22\x00\x09device"))),
    ],
)
def test_what_is_no_header_is_refused(version: int, data: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy(data, version)


@given(st.binary(max_size=80), st.sampled_from([1, 2]))
def test_no_bytes_are_a_bug(data: bytes, version: int) -> None:
    for prefix in (b"", b"PROXY TCP4 ", V2, V2 + b"\x21\x11\x00\x40" + IPV4):
        try:
            used, header = parse_proxy(prefix + data, version)
        except ProxyError:
            continue
        assert (used == 0) == (header is None)


@given(
    st.binary(min_size=16, max_size=16) | st.integers(0, 2**34).map(lambda number: number.to_bytes(16, "big"))
)
def test_addresses_are_printed_as_the_system_prints_them(address: bytes) -> None:
    body = address + bytes(16) + b"\x12\x34\x00\x50"
    data = b"\r\n\r\n\x00\r\nQUIT\n\x21\x21" + len(body).to_bytes(2, "big") + body
    shown = socket.inet_ntop(socket.AF_INET6, address)
    assert parse_proxy(data, 2) == (len(data), ProxyHeader(shown, 0x1234))
    line = f"PROXY TCP6 {shown} ::1 1 2\r\n".encode()
    assert parse_proxy(line, 1) == (len(line), ProxyHeader(shown, 1))
