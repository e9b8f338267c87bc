"""Long work in steps: a generator that yields where others may have a turn, and returns what came of it.

`finished` does all of it at once; `broker.links.in_turns` lets the others have their turns.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final, TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]

BLOCK_BYTES: Final = 16 * 1024
"""Of lines that are looked at in one step: about a hundred password hashes, some hundred access rules."""


def finished(steps: Steps[T]) -> T:
    """What comes of it, without a turn for anybody."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def blocks_of_lines(text: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """(number of the first, lines): all lines of the text, without their ends, a step's worth at a time."""
    number, start = 1, 0
    while start <= len(text):
        end = text.find(b"\n", start + BLOCK_BYTES)
        if end < 0:
            end = len(text)
        lines = text[start:end].split(b"\n")
        yield number, lines
        number += len(lines)
        start = end + 1
