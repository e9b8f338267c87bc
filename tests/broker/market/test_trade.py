"""Goal: a trade is counted once, in whatever order trades come, with holes, repeated, and after a restart."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.market.numbers import parse
from broker.market.trade import RANGES_MAX, Seen, Trade


def trade(number: int) -> Trade:
    return Trade("X", str(number), number, parse("1"), parse("1"), "buy", 0)


@given(st.lists(st.integers(0, 60)), st.one_of(st.none(), st.integers(-1, 60)), st.integers(0, 20))
def test_each_number_is_new_once(numbers: list[int], until: int | None, place: int) -> None:
    seen = Seen()
    known: set[int] = set()
    for i, number in enumerate(numbers):
        if i == place and until is not None:
            seen.know_until(until)
            known.update(range(until + 1))
        assert seen.is_repeated(trade(number)) == (number in known)
        known.add(number)


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize("order", ["rising", "falling", "shuffled in blocks"])
def test_long_histories_are_taken_whole_in_either_direction(step: int, order: str) -> None:
    """Archives have the newest first, or are put together from several connections' parts."""
    numbers = list(range(1_000_000, 1_000_000 + 20_000 * step, step))
    rng = random.Random(step)
    if order == "falling":
        numbers.reverse()
    elif order == "shuffled in blocks":
        for begin in range(0, len(numbers), 100):
            block = numbers[begin : begin + 100]
            rng.shuffle(block)
            numbers[begin : begin + 100] = block
    seen = Seen()
    assert not any(seen.is_repeated(trade(number)) for number in numbers)
    assert all(seen.is_repeated(trade(number)) for number in numbers)


def test_more_holes_than_are_remembered_close_from_the_lowest() -> None:
    seen = Seen()
    numbers = range(0, 4 * RANGES_MAX, 2)
    for number in numbers:
        assert not seen.is_repeated(trade(number))
    assert all(seen.is_repeated(trade(number)) for number in numbers)
    assert seen.is_repeated(trade(1))
    assert not seen.is_repeated(trade(numbers[-1] - 1))


def test_ids_that_are_no_numbers_are_known_again() -> None:
    seen = Seen()

    def named(id: str) -> Trade:
        return Trade("X", id, -1, parse("1"), parse("1"), "buy", 0)

    assert [seen.is_repeated(named(id)) for id in ("a", "b", "a", "")] == [False, False, True, False]
