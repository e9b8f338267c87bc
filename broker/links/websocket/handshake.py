"""The opening request on a WebSocket port: read, understood, answered.  Pure but for `read_head`.

h11 reads requests.  The ordinary ones, which are nearly all, are read by one pattern that admits nothing which h11
would not read in the same way.  The answer has four or five lines, and no reader of requests could say them better.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

import h11
import trio
from attrs import field, frozen

REQUEST_HEAD_END: Final = b"\r\n\r\n"
FORWARDED_HOPS_MAX: Final = 20

FIRST_BYTES: Final = 4096
"""What is received of a request at a time; nearly all are shorter."""

_GET = re.compile(rb"GET (/[^ \r\n]*) HTTP/1\.[01]\r\n")

_METHOD = re.compile(rb"[A-Z]{1,7}( |$)")
"""The beginning of a request line, as far as it has come."""


class HandshakeRefused(Exception):
    """The handshake ends here, with an HTTP answer."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


@frozen
class OpeningRequest:
    """What a client asks for.  `target` may hold a token."""

    target: str = field(repr=False)
    key: bytes = field(repr=False)
    subprotocols: tuple[str, ...]
    origin: str | None
    forwarded_for: str
    authorization: str = field(default="", repr=False)

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


def head_in(data: bytes, size_max: int) -> tuple[bytes, bytes] | None:
    """The request's head and what came after it; None while it is not whole.

    Raises:
        HandshakeRefused: the head is longer than `size_max` bytes, or what comes is no HTTP from its first bytes on.
    """
    if data and not _METHOD.match(data):
        raise HandshakeRefused(400, "this is no HTTP request, and a WebSocket begins with one")
    before_end, end, rest = data.partition(REQUEST_HEAD_END)
    if len(before_end) + len(end) > size_max:
        raise HandshakeRefused(431, f"the request's head is longer than {size_max} bytes")
    return (before_end + end, rest) if end else None


async def read_head(stream: trio.abc.ReceiveStream, size_max: int, came: bytes = b"") -> tuple[bytes, bytes]:
    """Read up to the end of the request's head, which begins with what came already.

    Returns:
        As `head_in`; (b"", b"") if the peer left without a request.

    Raises:
        HandshakeRefused: as `head_in`.
    """
    data = came
    while (found := head_in(data, size_max)) is None:
        received = await stream.receive_some(FIRST_BYTES)
        if not received:
            return b"", b""
        data += received
    return found


def understand(head: bytes, hint: str) -> OpeningRequest:
    """Make sense of a request's head.

    Args:
        head: up to and including the empty line.
        hint: what a client that didn't want a WebSocket is told.

    Raises:
        HandshakeRefused: it is no HTTP, or no WebSocket handshake (RFC 6455 §4.2.1).
    """
    method, target, headers = ordinary(head) or by_h11(head)
    if method != b"GET":
        raise HandshakeRefused(405, hint, {"Allow": "GET"})
    if b"upgrade" not in _tokens(headers, b"connection") or b"websocket" not in _tokens(headers, b"upgrade"):
        raise HandshakeRefused(426, hint, {"Upgrade": "websocket", "Connection": "Upgrade"})
    if headers.get(b"sec-websocket-version") != b"13":
        raise HandshakeRefused(
            426, "the WebSocket version must be 13", {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"}
        )
    key = headers.get(b"sec-websocket-key", b"")
    if not is_nonce(key):
        raise HandshakeRefused(400, "Sec-WebSocket-Key must be 16 bytes in base64")
    origin = headers.get(b"origin")
    return OpeningRequest(
        target=target.decode("latin-1"),
        key=key,
        subprotocols=tuple(
            token.strip()
            for token in headers.get(b"sec-websocket-protocol", b"").decode("latin-1").split(",")
        ),
        origin=None if origin is None else origin.decode("latin-1"),
        forwarded_for=headers.get(b"x-forwarded-for", b"").decode("latin-1"),
        authorization=headers.get(b"authorization", b"").decode("latin-1"),
    )


Head: TypeAlias = tuple[bytes, bytes, dict[bytes, bytes]]
"""Method, target, and headers by their names in lower case."""

_REQUEST_LINE: Final = re.compile(rb"GET ([!-~]+) HTTP/1\.1")
_HEADER: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*((?:[!-~](?:[ -~]*[!-~])?)?)[ \t]*")
_WITH_A_BODY: Final = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def ordinary(head: bytes) -> Head | None:
    """An ordinary GET without a body; None for any other, and for one that is not right."""
    lines = head[:-4].split(b"\r\n")
    first = _REQUEST_LINE.fullmatch(lines[0])
    if first is None:
        return None
    headers: dict[bytes, bytes] = {}
    for line in lines[1:]:
        found = _HEADER.fullmatch(line)
        if found is None:
            return None
        name = found[1].lower()
        if name in headers or name in _WITH_A_BODY:
            return None
        headers[name] = found[2]
    return (b"GET", first[1], headers) if b"host" in headers else None


def by_h11(head: bytes) -> Head:
    """Any request; raises `HandshakeRefused` for what is none."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    connection.receive_data(head)
    try:
        request = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise HandshakeRefused(400, f"not a valid HTTP request: {error}") from None
    if not isinstance(request, h11.Request):
        raise HandshakeRefused(400, "not a valid HTTP request")
    headers: dict[bytes, bytes] = {}
    for name, value in request.headers:
        headers[name] = headers[name] + b"," + value if name in headers else value
    return request.method, request.target, headers


def accept(key: bytes, subprotocol: str | None) -> bytes:
    """The 101 response that opens a connection (RFC 6455 §4.2.2).

    Args:
        key: the client's Sec-WebSocket-Key.
    """
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    # MQTT's clients read it as libwebsockets spells it; some compare it.
    upgrade = b"websocket" if subprotocol in (None, "rowcast") else b"WebSocket"
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: " + upgrade,
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + digest,
    ]
    if subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + subprotocol.encode())
    return b"\r\n".join(lines) + REQUEST_HEAD_END


_HEALTH = re.compile(rb"(?:GET|HEAD) (/healthz|/readyz)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")


def health_asked(head: bytes) -> str:
    """The path, if that is a load balancer's question how this process is; else ""."""
    found = _HEALTH.match(head)
    return found[1].decode() if found else ""


def page_asked(head: bytes) -> str:
    """The path with its query, if that is a browser's plain GET; else ""."""
    found = _GET.match(head)
    if found is None or b"\r\nupgrade:" in head.lower():
        return ""
    return found[1].decode("latin-1")


def check_origin(origins: tuple[str, ...], origin: str | None) -> None:
    """Raises: HandshakeRefused: pages from there may not connect.  No origins are all, no origin is no page."""
    if origins and origin is not None and origin not in origins:
        raise HandshakeRefused(403, "this origin may not connect")


def answer(refused: HandshakeRefused) -> bytes:
    """The HTTP response that a refusal is."""
    return plain_answer(refused.status, refused.reason, refused.headers)


def plain_answer(status: int, text: str, more: Mapping[str, str] | None = None) -> bytes:
    """An HTTP response of plain text, after which the connection ends."""
    body = text.encode()
    headers = {
        "Connection": "close",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
    } | dict(more or {})
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + REQUEST_HEAD_END + body


def peer_behind(peer: str, forwarded_for: str, trusted: tuple[str, ...]) -> str:
    """The peer as the nearest proxy that is trusted saw it.

    Args:
        peer: `ADDRESS:PORT` of the connection.
        forwarded_for: X-Forwarded-For, each proxy having appended the address that it saw.
        trusted: addresses and networks of our own proxies.

    Returns:
        `ADDRESS:PORT` from the header, with the connection's port where the header has none; `peer` unchanged if it is
        no trusted proxy.
    """
    if not forwarded_for or not trusted:
        return peer
    found = peer
    host, _, own_port = peer.rpartition(":")
    address = _address_in(host)
    for claimed in reversed(forwarded_for.split(",")[-FORWARDED_HOPS_MAX:]):
        host, port = _host_and_port(claimed.strip())
        said = _address_in(host)
        if address is None or said is None or not _is_within(address, trusted):
            break
        address = said
        found = f"{address}:{port or own_port}"
    return found


_WITH_PORT: Final = re.compile(r"(?:\[([^\[\]]*)\]|([0-9.]+))(?::([0-9]{1,5}))?")
"""`[IPV6]`, `[IPV6]:PORT`, `IPV4`, `IPV4:PORT`."""


def _host_and_port(claimed: str) -> tuple[str, str]:
    found = _WITH_PORT.fullmatch(claimed)
    return (found[1] or found[2] or "", found[3] or "") if found else (claimed, "")


def _address_in(host: str) -> IPv4Address | IPv6Address | None:
    """The address that is written here; without its zone, which means something on the machine that wrote it only."""
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _is_within(address: IPv4Address | IPv6Address, networks: tuple[str, ...]) -> bool:
    return any(address in ip_network(network, strict=False) for network in networks)


def _tokens(headers: Mapping[bytes, bytes], name: bytes) -> list[bytes]:
    return [token.strip().lower() for token in headers.get(name, b"").split(b",")]


def is_nonce(key: bytes) -> bool:
    """Whether a Sec-WebSocket-Key is 16 bytes in base64 (RFC 6455, 4.1)."""
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False
