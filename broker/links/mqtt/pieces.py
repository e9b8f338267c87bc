"""Bytes that wait for the rest of their packet, in pieces as a peer cut them: a byte is not worth an object of its own.

A peer may send a packet of megabytes a byte at a time, in fragments of a WebSocket message or in segments.  Each piece
would cost some 140 bytes.
"""

from __future__ import annotations

from typing import Final

SMALL_BYTES: Final = 4_096
"""A shorter piece is joined to the one before it, unless that is longer than it; so a byte is copied twelve times at
most, and those that come in longer pieces not at all."""


def keep(pieces: list[bytes], data: bytes) -> None:
    """Add a piece; who waits needs `b"".join(pieces)` only, not the pieces that came."""
    while pieces and len(data) < SMALL_BYTES and len(pieces[-1]) <= len(data):
        data = pieces.pop() + data
    pieces.append(data)
