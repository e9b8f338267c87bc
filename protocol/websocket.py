"""What a server writes to a WebSocket: a frame encoded once, sent to any number of peers.

A server's frames are not masked (RFC 6455 §5.1), so the same bytes serve every receiver; ours are never fragmented
and never compressed.  `websocket_reader.py` is the other direction.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

CLOSE_REASON_BYTES_MAX: Final = 123
"""A control frame holds 125 bytes (RFC 6455 §5.5), two of them the close code."""

NO_CODE: Final = 1005
"""Stands for the code of a close frame that has none (RFC 6455 §7.1.5); never sent."""

FINAL: Final = 0x80
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA
"""Of a frame's first byte: that it is a message's last, and the opcodes (RFC 6455 §5.2)."""


class CloseCode(IntEnum):
    """Why a server closes: RFC 6455 §7.4.1, and one of postgres-websockets' own, and one of ours."""

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
    ROWS_MISSING = 4000


def text_frame(payload: bytes) -> bytes:
    """One whole text message.  `payload` is UTF-8; who hands it in has made sure of that."""
    return _frame(FINAL | TEXT, payload)


def binary_frame(payload: bytes) -> bytes:
    """An unmasked, final binary frame, as a server sends it (RFC 6455, 5.2)."""
    return _frame(FINAL | BINARY, payload)


def binary_head(size: int) -> bytes:
    """What stands before a binary message of `size` bytes."""
    return _head(FINAL | BINARY, size)


def pong_frame(payload: bytes) -> bytes:
    """The answer to a ping, with its payload of at most 125 bytes."""
    return _frame(FINAL | PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """A close frame; a reason over 123 bytes of UTF-8 is cut at a character, and NO_CODE makes an empty frame."""
    if code == NO_CODE:
        return _frame(FINAL | CLOSE, b"")
    text = reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore")
    return _frame(FINAL | CLOSE, code.to_bytes(2, "big") + text.encode())


def _frame(first_byte: int, payload: bytes) -> bytes:
    return _head(first_byte, len(payload)) + payload


def _head(first_byte: int, size: int) -> bytes:
    if size <= 125:
        return bytes((first_byte, size))
    if size <= 0xFFFF:
        return bytes((first_byte, 126)) + size.to_bytes(2, "big")
    return bytes((first_byte, 127)) + size.to_bytes(8, "big")


PING_FRAME: Final = _frame(FINAL | PING, b"")
"""A ping without payload: the same bytes for every peer."""
