"""Lists of any length are looked through and put in order with turns for the others in between."""

from __future__ import annotations

import random

import pytest
import trio

from broker.reports.gently import STEP, gently, part_in_order

A_FEW = 3 * STEP
"""Whose turn comes first in a round of the loop is chance."""


class Turns:
    """Counts how often others had their turn."""

    def __init__(self) -> None:
        self.count = 0

    async def run(self) -> None:
        while True:
            await trio.lowlevel.checkpoint()
            self.count += 1


@pytest.mark.parametrize(("offset", "limit"), [(0, 10), (700, 100), (2_990, 100), (5_000, 10), (0, 0)])
async def test_a_part_in_order_is_that_of_the_sorted_list(offset: int, limit: int) -> None:
    entries = [(random.Random(number).randrange(50), number) for number in range(3_000)]
    wanted = sorted(entries, key=lambda entry: entry[0])[offset : offset + limit]
    assert await part_in_order(entries, lambda entry: entry[0], offset, limit) == wanted


async def test_others_have_their_turn_while_a_list_is_put_in_order() -> None:
    turns = Turns()
    compared: list[int] = []

    def key(entry: int) -> int:
        compared.append(turns.count)
        return -entry

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        await part_in_order(list(range(20 * STEP)), key, 0, 20 * STEP)
        nursery.cancel_scope.cancel()
    in_one_go = [compared.count(turn) for turn in range(turns.count + 1)]
    assert max(in_one_go) <= A_FEW


async def test_others_have_their_turn_while_a_list_is_looked_through() -> None:
    turns = Turns()
    seen: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turns.run)
        async for _ in gently(range(10 * STEP)):
            seen.append(turns.count)
        nursery.cancel_scope.cancel()
    assert max(seen.count(turn) for turn in set(seen)) <= A_FEW
