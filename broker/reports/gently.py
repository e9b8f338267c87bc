"""Long lists, looked through and put in order a little at a time, with a turn for the others in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from heapq import merge
from itertools import islice
from typing import Any, Final, TypeVar

import trio

STEP: Final = 500
"""Entries looked at in one go."""

T = TypeVar("T")


async def gently(entries: Iterable[T]) -> AsyncIterator[T]:
    """The entries, with a turn for the others every so many."""
    for number, entry in enumerate(entries):
        if number % STEP == STEP - 1:
            await trio.lowlevel.checkpoint()
        yield entry


async def part_in_order(entries: list[T], key: Callable[[T], Any], offset: int, limit: int) -> list[T]:
    """`sorted(entries, key=key)[offset : offset + limit]`."""
    runs: list[list[T]] = []
    for start in range(0, len(entries), STEP):
        runs.append(sorted(entries[start : start + STEP], key=key))
        await trio.lowlevel.checkpoint()
    first = islice(merge(*runs, key=key), offset + limit)
    return [entry async for entry in gently(first)][offset:]
