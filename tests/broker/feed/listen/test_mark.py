"""The order of keys is Postgres's, whatever the columns' types."""

from __future__ import annotations

import pytest

from broker.config.feeds import Recovery
from broker.feed.listen.mark import Mark

NUMERIC, TEXT, TIMESTAMPTZ = 1700, 25, 1184


def mark(*types: int) -> Mark:
    return Mark(Recovery("t", tuple("abc"[: len(types)]), ()), types)


def test_a_key_compares_as_a_whole_and_numbers_as_numbers() -> None:
    both = mark(NUMERIC, NUMERIC)
    for a, b in (("9", "5"), ("10", "1"), ("10", "0"), ("9", "7")):
        assert both.advance({"a": a, "b": b})
    assert both.key == (10, 1)
    assert both.rows_after()[1] == ("10", "1")


def test_39_digits_and_fractions_compare_exactly() -> None:
    wide = mark(NUMERIC)
    wide.advance({"a": "340282366920938463463374607431768211455"})
    wide.advance({"a": "340282366920938463463374607431768211454.9"})
    assert wide.rows_after()[1] == ("340282366920938463463374607431768211455",)


def test_times_compare_as_instants_whatever_their_offset() -> None:
    times = mark(TIMESTAMPTZ)
    times.advance({"a": "2024-02-13T15:53:50.5+00:00"})
    times.advance({"a": "2024-02-13T10:53:50.49-05:00"})
    assert times.rows_after()[1] == ("2024-02-13T15:53:50.5+00:00",)
    assert times.key_of({"a": "2024-02-13T10:53:50.5-05:00"}) == times.key


@pytest.mark.parametrize("columns", [{}, {"a": None}, {"a": "x"}, {"a": ["1"]}])
def test_a_row_without_a_usable_key_does_not_move_the_mark(columns: dict[str, object]) -> None:
    numbers = mark(NUMERIC)
    numbers.advance({"a": "5"})
    assert not numbers.advance(columns)
    assert numbers.key_of(columns) is None
    assert numbers.key == (5,)
