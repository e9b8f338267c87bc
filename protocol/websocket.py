"""What a server writes to a WebSocket: a frame encoded once, sent to any number of peers.

Reading, unmasking and the closing handshake are trio-websocket's.  A server's frames are not masked
(RFC 6455 §5.1), so the same bytes serve every receiver; ours are never fragmented and never compressed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

CLOSE_REASON_BYTES_MAX: Final = 123
"""A control frame holds 125 bytes (RFC 6455 §5.5), two of them the close code."""

_FINAL: Final = 0x80
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9


class CloseCode(IntEnum):
    """Why a server closes: RFC 6455 §7.4.1, and one of postgres-websockets' own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    TRY_AGAIN_LATER = 1013
    TOKEN_EXPIRED = 3001


def text_frame(payload: bytes) -> bytes:
    """One whole text message.  `payload` is UTF-8; who hands it in has made sure of that."""
    return _frame(_FINAL | _TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    return _frame(_FINAL | _BINARY, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason over 123 bytes of UTF-8 is cut at a character."""
    text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
    return _frame(_FINAL | _CLOSE, code.to_bytes(2, "big") + text.encode())


def _frame(first_byte: int, payload: bytes) -> bytes:
    size = len(payload)
    if size <= 125:
        return bytes((first_byte, size)) + payload
    if size <= 0xFFFF:
        return bytes((first_byte, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first_byte, 127)) + size.to_bytes(8, "big") + payload


PING_FRAME: Final = _frame(_FINAL | _PING, b"")
"""A ping without payload: the same bytes for every peer."""
