"""MQTT bytes in WebSocket frames, as a client may write them in many ways, and a broker's frames read.

Apart from Rowcast's own, as all of the player.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from player.transport import BINARY, CLOSE, WEBSOCKET_KEY, frame_head

CONTINUATION, PING = 0, 9
FINAL: Final = 0x80
MASK: Final = b"\x00\x5a\xa5\xff"
HANDSHAKE_S = 60.0
BYTES_MAX: Final = 200
"""Longer than this is not sent with a frame for each byte."""
REQUEST: Final = (
    "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
).encode()


class Frames:
    """One connection's frames; `style` says how what is sent is cut."""

    def __init__(self, style: str) -> None:
        self._style = style
        self._data = bytearray()
        self.has_to_close = False
        """The broker has said that it closes."""

    def shake_hands(self, connected: socket.socket) -> None:
        """Ask for WebSocket on a blocking socket; on one machine this takes no time."""
        connected.settimeout(HANDSHAKE_S)
        connected.sendall(REQUEST)
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = connected.recv(65536)
            if not data:
                raise ConnectionError(f"no websocket: {answer!r}")
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(f"no websocket: {head!r}")
        self._data += rest

    def wrapped(self, data: bytes) -> bytes:
        """What goes over the connection for these bytes."""
        if not data:
            return b""
        if self._style == "bytes" and len(data) <= BYTES_MAX:
            return b"".join(frame(BINARY, data[at : at + 1]) for at in range(len(data)))
        third = max(1, len(data) // 3)
        parts = [data[first:last] for first, last in pairwise((0, third, 2 * third, len(data)))]
        if self._style == "parts":
            return b"".join(frame(BINARY, part) for part in parts)
        if self._style in ("fragments", "pings"):
            between = frame(PING, b"still?") if self._style == "pings" else b""
            first, second, last = parts
            return (
                frame(BINARY, first, 0)
                + between
                + frame(CONTINUATION, second, 0)
                + between
                + frame(CONTINUATION, last)
            )
        return frame(BINARY, data)

    def taken(self, data: bytes) -> bytes:
        """The MQTT bytes in what has come."""
        self._data += data
        return b"".join(self._payloads())

    def _payloads(self) -> Iterator[bytes]:
        data = self._data
        while len(data) >= 2:
            size, at = data[1] & 127, 2
            if size >= 126:
                at = 4 if size == 126 else 10
                size = int.from_bytes(data[2:at], "big")
            if len(data) < at + size:
                return
            kind, payload = data[0] & 15, bytes(data[at : at + size])
            del data[: at + size]
            if kind == CLOSE:
                self.has_to_close = True
            elif kind in (BINARY, CONTINUATION):
                yield payload


def frame(kind: int, payload: bytes, final: int = FINAL) -> bytes:
    """A client's frame, masked."""
    size = len(payload)
    mask = int.from_bytes((MASK * (size // 4 + 1))[:size], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    return frame_head(final | kind, size) + MASK + masked
