"""What the first bytes of a file of ours are."""

from __future__ import annotations

from typing import Final

from broker.storage.schema import APPLICATION_ID

_SURE: Final = {
    0: b"SQLite format 3\0",
    16: (4096).to_bytes(2, "big"),
    18: bytes([2, 2, 0, 64, 32, 32]),
    56: (1).to_bytes(4, "big"),
    64: (1).to_bytes(4, "big"),
    68: APPLICATION_ID.to_bytes(4, "big"),
    72: bytes(20),
}
"""What the header of a file of ours has, by position."""


def is_header_right(header: bytes) -> bool:
    """Whether a file's first 100 bytes are ours, apart from the format's number and what changes."""
    return all(header[at : at + len(wanted)] == wanted for at, wanted in _SURE.items())
