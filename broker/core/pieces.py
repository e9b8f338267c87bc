"""Lists of pieces of bytes that are owed: which are the same, and how many make a send.

Hot: compiled, asked for each send.
"""

from __future__ import annotations


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
