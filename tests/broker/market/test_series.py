"""Candles of one interval: when they close, what corrections say, and what a pause leaves behind."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.market.candle import Candle
from broker.market.numbers import parse
from broker.market.series import FILLED_MAX, Series
from broker.market.times import Interval
from broker.market.trade import Trade

MINUTE = 60_000
LATE_MS, KEEP_MS = 5000, 10 * MINUTE


def opened(fills: bool = True) -> Series:
    return Series({"symbol": "X"}, 0, Interval("1m", 0), LATE_MS, KEEP_MS, fills)


def add(made: Series, at_ms: int, price: str = "1") -> bool:
    return made.add(Trade("X", "", -1, parse(price), parse("1"), "", at_ms * 1000), at_ms)


def told(made: Series) -> list[tuple[int, str, bool, int]]:
    """Start in minutes, close, whether it is closed, and revision of each message that is due."""
    bars: list[Any] = [json.loads(made.message(candle)) for candle in made.take_dirty()]
    return [(bar["start"] // MINUTE, bar["close"], bar["closed"], bar["rev"]) for bar in bars]


def test_a_later_trade_closes_what_was_open_and_fills_the_pause() -> None:
    made = opened()
    add(made, 0, "5")
    assert told(made) == [(0, "5", False, 0)]
    add(made, 3 * MINUTE, "7")
    assert made.has_news
    assert told(made) == [(0, "5", True, 0), (1, "5", True, 0), (2, "5", True, 0), (3, "7", False, 0)]
    assert not made.has_news


def test_without_filling_a_pause_has_no_candles() -> None:
    made = opened(fills=False)
    add(made, 0, "5")
    add(made, 3 * MINUTE, "7")
    assert told(made) == [(0, "5", True, 0), (3, "7", False, 0)]


def test_of_a_very_long_pause_the_latest_intervals_are_filled() -> None:
    made = opened()
    add(made, 0)
    add(made, 100_000 * MINUTE)
    starts = [start for start, *_ in told(made)]
    assert starts == [0, *range(100_000 - FILLED_MAX, 100_001)]


@pytest.mark.parametrize(
    ("fills", "after"), [(True, [(0, "5", True, 0), (1, "5", False, 0)]), (False, [(0, "5", True, 0)])]
)
def test_a_candle_waits_for_late_trades_and_then_closes_by_the_clock(
    fills: bool, after: list[tuple[int, str, bool, int]]
) -> None:
    made = opened(fills)
    add(made, 0, "5")
    told(made)
    made.tick(MINUTE + LATE_MS - 1)
    assert told(made) == []
    made.tick(MINUTE + LATE_MS)
    assert told(made) == after
    made.tick(MINUTE + LATE_MS + 1)
    assert told(made) == []


def test_a_late_trade_corrects_a_closed_candle_and_the_empty_ones_behind_it() -> None:
    made = opened()
    for minute, price in ((0, "5"), (3, "7")):
        add(made, minute * MINUTE, price)
    told(made)
    assert add(made, 1000, "6")
    assert told(made) == [(0, "6", True, 1), (1, "6", True, 1), (2, "6", True, 1)]
    add(made, 1001, "8")
    add(made, 1002, "9")
    assert told(made)[0] == (0, "9", True, 2), "several changes before a message are one"


def test_a_correction_that_leaves_the_close_leaves_the_empty_ones() -> None:
    made = opened()
    add(made, 1000, "5")
    add(made, 3 * MINUTE, "7")
    told(made)
    add(made, 500, "9")
    assert told(made) == [(0, "5", True, 1)]


def test_a_trade_in_a_hole_makes_a_candle_that_is_a_correction() -> None:
    made = opened(fills=False)
    add(made, 0)
    add(made, 5 * MINUTE)
    told(made)
    assert add(made, 3 * MINUTE, "4")
    assert told(made) == [(3, "4", True, 1)]
    assert [candle.start_ms // MINUTE for candle in made.candles] == [0, 3, 5]


def test_a_trade_before_the_first_makes_candles_up_to_it() -> None:
    made = opened()
    add(made, 3 * MINUTE, "7")
    told(made)
    assert add(made, 1 * MINUTE, "4")
    assert told(made) == [(1, "4", True, 1), (2, "4", True, 1)]


def test_what_is_kept_no_more_is_not_corrected() -> None:
    made = opened(fills=False)
    add(made, 0)
    for minute in range(20, 25):
        add(made, minute * MINUTE)
        told(made)
        for candle in made.candles:
            candle.is_unsaved = False
    assert made.candles[0].start_ms >= 10 * MINUTE
    assert not add(made, 0)
    assert not add(made, 9 * MINUTE)
    assert add(made, 19 * MINUTE)


def test_what_has_not_been_told_or_saved_is_kept() -> None:
    made = opened(fills=False)
    add(made, 0)
    for minute in range(20, 25):
        add(made, minute * MINUTE)
    assert made.candles[0].start_ms == 0


def test_who_was_away_gets_what_changed_since_and_who_is_new_the_newest() -> None:
    made = opened()
    assert made.state() == []
    for minute in range(3):
        add(made, minute * MINUTE, str(minute + 1))
        told(made)
    seq = made.seq
    add(made, 0, "9")
    told(made)
    assert [json.loads(text)["start"] for text in made.since(seq)] == [0]
    assert made.since(made.seq) == []
    [newest] = made.state()
    assert json.loads(newest)["start"] == 2 * MINUTE


def test_what_is_restored_goes_on() -> None:
    made = opened()
    for start in (0, 1):
        candle = Candle(start * MINUTE, (start + 1) * MINUTE, parse("5"))
        candle.is_closed, candle.rev = start == 0, start
        made.restore(candle)
    assert made.floor_ms == 0
    assert told(made) == []
    made.tell_newest()
    made.tell_newest()
    assert told(made) == [(1, "5", False, 1)]
    add(made, MINUTE, "6")
    open_candle = made.open_candle()
    assert open_candle is not None
    assert open_candle.trades == 1
