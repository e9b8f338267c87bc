"""The PROXY header that a load balancer sends first: versions 1 (a line of text) and 2 (binary).  Sans-IO.

`parse_proxy` says how much of what has come is the header, or that more is needed, and who the client is.

Source: the PROXY protocol, haproxy.org/download/3.0/doc/proxy-protocol.txt; limits and log lines as Mosquitto 2.1.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import evolve, frozen

from protocol.port import port_of

V1_BYTES_MAX: Final = 108
"""Of a header of version 1 with its line end; the standard's longest has 107."""

V2_BODY_BYTES_MAX: Final = 500
"""Of what follows the 16 bytes of a version 2 header; Mosquitto's limit."""

_V2_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_HEAD_BYTES: Final = 16
_V2_LOCAL: Final = 0
_V2_PROXY: Final = 1
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UNIX: Final = 0x31
_V2_ADDRESS_BYTES: Final = {_TCP4: 12, _TCP6: 36, _UNIX: 216}

_TYPE_SSL: Final = 0x20
_SUBTYPE_SSL_VERSION: Final = 0x21
_SUBTYPE_SSL_CN: Final = 0x22
_SUBTYPE_SSL_CIPHER: Final = 0x23
_CLIENT_SSL: Final = 0x01
_CLIENT_CERT_SESSION: Final = 0x04


class ProxyError(Exception):
    """What came is no PROXY header, or says what is refused; the connection is to be closed."""

    client = ""
    """`HOST:PORT` of whom the proxy speaks for, where the header was read."""


@frozen
class ProxyHeader:
    """Whom the proxy speaks for.

    `host` is empty where the proxy does not say (version 1 `UNKNOWN`): then the connection's own address counts.
    `local` is a connection of the proxy itself, a health check: close it, as Mosquitto does.
    """

    host: str = ""
    port: int = 0
    local: bool = False
    tls: bool = False
    certificate: bool = False
    """The client showed a certificate in this session, and the proxy verified it."""
    common_name: bytes | None = None
    tls_version: str = ""
    cipher: str = ""


def parse_proxy(data: bytes, version: int) -> tuple[int, ProxyHeader | None]:
    """Look for the header at the start of what has come.

    Args:
        data: all bytes since the connection was accepted.
        version: 1 or 2, as enable_proxy_protocol says; the other one is refused.

    Returns:
        (bytes of the header, header), or (0, None) where more must come.

    Raises:
        ProxyError: it is none.
    """
    assert version in (1, 2), version
    return _parse_v1(data) if version == 1 else _parse_v2(data)


def _parse_v1(data: bytes) -> tuple[int, ProxyHeader | None]:
    if not b"PROXY "[: len(data)].startswith(data[:6]):
        raise ProxyError("no PROXY line")
    end = data.find(b"\r\n", 0, V1_BYTES_MAX)
    if end < 0:
        if len(data) >= V1_BYTES_MAX:
            raise ProxyError("the PROXY line is too long")
        return 0, None
    words = data[6:end].split(b" ")
    if words[0] == b"UNKNOWN":
        return end + 2, ProxyHeader()
    families: dict[bytes, type[IPv4Address] | type[IPv6Address]] = {
        b"TCP4": IPv4Address,
        b"TCP6": IPv6Address,
    }
    family = families.get(words[0])
    if family is None or len(words) != 5:
        raise ProxyError("the PROXY line is not whole")
    _, source, destination, source_port, destination_port = words
    host = _address(family, source)
    _address(family, destination)
    _port(destination_port)
    return end + 2, ProxyHeader(host, _port(source_port))


def _address(family: type[IPv4Address] | type[IPv6Address], text: bytes) -> str:
    try:
        if b"%" in text:
            raise ValueError("a zone is this machine's own")
        return _printed(family(text.decode("ascii")))
    except ValueError:
        raise ProxyError("the PROXY line has a wrong address") from None


def _printed(address: IPv4Address | IPv6Address) -> str:
    """As inet_ntop prints it, so that an address looks the same however it came."""
    number = int(address)
    if isinstance(address, IPv6Address) and (
        number >> 32 == 0xFFFF or (number >> 32 == 0 and number > 0xFFFF)
    ):
        return f"{'::ffff:' if number >> 32 else '::'}{IPv4Address(number & 0xFFFFFFFF)}"
    return str(address)


def _port(text: bytes) -> int:
    port = port_of(text.decode("latin-1"))
    if port < 1:  # as mosquitto: none of a connection is 0
        raise ProxyError("the PROXY line has a wrong port")
    return port


def _parse_v2(data: bytes) -> tuple[int, ProxyHeader | None]:
    if not data.startswith(_V2_SIGNATURE[: len(data)]):
        raise ProxyError("no PROXY signature")
    if len(data) < _V2_HEAD_BYTES:
        return 0, None
    version, command, family = data[12] >> 4, data[12] & 0x0F, data[13]
    size = int.from_bytes(data[14:16], "big")
    if version != 2 or command not in (_V2_LOCAL, _V2_PROXY):
        raise ProxyError("unknown PROXY version or command")
    if family not in _V2_ADDRESS_BYTES and not (command == _V2_LOCAL and family == 0):
        raise ProxyError("unknown PROXY address family")
    if size > V2_BODY_BYTES_MAX or size < _V2_ADDRESS_BYTES.get(family, 0):
        raise ProxyError("PROXY header of an impossible length")
    end = _V2_HEAD_BYTES + size
    if len(data) < end:
        return 0, None
    if command == _V2_LOCAL:
        return end, ProxyHeader(local=True)
    body = data[_V2_HEAD_BYTES:end]
    return end, _with_tlvs(_from(family, body), body[_V2_ADDRESS_BYTES[family] :])


def _from(family: int, body: bytes) -> ProxyHeader:
    if family == _TCP4:
        return ProxyHeader(_printed(IPv4Address(body[:4])), int.from_bytes(body[8:10], "big"))
    if family == _TCP6:
        return ProxyHeader(_printed(IPv6Address(body[:16])), int.from_bytes(body[32:34], "big"))
    return ProxyHeader(body[:108].partition(b"\0")[0].decode("utf-8", "replace"))


def _tlvs(data: bytes) -> list[tuple[int, bytes]]:
    """Type and value of each; ProxyError where one reaches beyond the end."""
    found = []
    while data:
        size = int.from_bytes(data[1:3], "big")
        if len(data) < 3 + size:
            raise ProxyError("corrupt PROXY header")
        found.append((data[0], data[3 : 3 + size]))
        data = data[3 + size :]
    return found


def _with_tlvs(header: ProxyHeader, data: bytes) -> ProxyHeader:
    for kind, value in _tlvs(data):
        if kind == _TYPE_SSL:
            header = _with_tls(header, value)
    return header


def _with_tls(header: ProxyHeader, value: bytes) -> ProxyHeader:
    if len(value) < 5:
        raise ProxyError("corrupt PROXY header")
    client, failed = value[0], int.from_bytes(value[1:5], "big")
    parts = dict(_tlvs(value[5:]))
    has_certificate = bool(client & _CLIENT_SSL) and bool(client & _CLIENT_CERT_SESSION) and failed == 0
    return evolve(
        header,
        tls=True,
        certificate=has_certificate,
        common_name=parts.get(_SUBTYPE_SSL_CN),
        tls_version=parts.get(_SUBTYPE_SSL_VERSION, b"").decode("ascii", "replace"),
        cipher=parts.get(_SUBTYPE_SSL_CIPHER, b"").decode("ascii", "replace"),
    )
