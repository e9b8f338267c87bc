"""Lists of pieces of bytes that are owed: which are the same, how many make a send, and what many small ones cost.

Hot: compiled, asked for each send.
"""

from __future__ import annotations

from typing import Final

LOOSE_MAX: Final = 2_048
"""So many pieces may wait for a slow peer before it is looked at whether they are small."""

SMALL_BYTES: Final = 32
"""A piece of so many bytes takes about 90; a longer one is worth keeping, since others may be owed the same."""


def are_the_same(some: list[bytes], others: list[bytes]) -> bool:
    """Whether these are the very same objects, in one order: what one message made for all of its receivers."""
    if len(some) != len(others):
        return False
    for at in range(len(some)):  # noqa: SIM110 - a generator would not be compiled to a loop
        if some[at] is not others[at]:
            return False
    return True


def count_within(pieces: list[bytes], size_max: int) -> int:
    """How many from the first on make up so many bytes; the last of them may go beyond."""
    size = 0
    count = 0
    for piece in pieces:
        size += len(piece)
        count += 1
        if size >= size_max:
            break
    return count


def settle(pieces: list[bytes], start: int) -> int:
    """Make one of all pieces from `start` on, if they are many, and small on average; where to start next time."""
    count = len(pieces) - start
    if count <= LOOSE_MAX:
        return start
    size = 0
    for at in range(start, len(pieces)):
        size += len(pieces[at])
    if size <= SMALL_BYTES * count:
        pieces[start:] = [b"".join(pieces[start:])]
    return len(pieces)
