"""Goal: a candle is that of its trades by their own times, whatever order they come in, and in two halves as in one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.market.candle import Candle
from broker.market.numbers import parse
from broker.market.trade import Trade

drawn = st.tuples(
    st.integers(0, 5), st.decimals("0.1", "9.99", places=2), st.decimals("0.1", "9.9", places=1)
)
Drawn = tuple[int, Decimal, Decimal]
"""Microseconds, price and size; ids are given by order of the list."""


def trade(id: int, drawn: Drawn) -> Trade:
    at_us, price, size = drawn
    return Trade("X", str(id), id, parse(str(price)), parse(str(size)), "buy", at_us)


def candle(trades: list[Trade]) -> Candle:
    made = Candle(0, 60_000, parse("1"))
    for one in trades:
        made.add(one)
    return made


def said(made: Candle) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made.text("1m"))
    return found


@given(st.lists(drawn, min_size=1, max_size=8).flatmap(lambda found: st.permutations(list(enumerate(found)))))
def test_it_is_that_of_its_trades_by_time_and_then_by_id(given: list[tuple[int, Drawn]]) -> None:
    made = candle([trade(id, found) for id, found in given])
    by_time = sorted(given, key=lambda one: (one[1][0], one[0]))
    prices = [found[1] for _, found in by_time]
    assert said(made) == {
        "interval": "1m",
        "start": 0,
        "end": 60_000,
        "open": str(prices[0]),
        "high": str(max(prices)),
        "low": str(min(prices)),
        "close": str(prices[-1]),
        "volume": str(sum(found[2] for _, found in given)),
        "turnover": str(sum((found[1] * found[2] for _, found in given), Decimal(0))),
        "trades": len(given),
        "closed": False,
        "rev": 0,
    }
    assert made.last_size == str(by_time[-1][1][2])
    assert made.last_id == max(id for id, _ in given)


@given(st.lists(drawn, max_size=4), st.lists(drawn, min_size=1, max_size=4))
def test_a_later_candle_merged_gives_what_its_trades_would(one: list[Drawn], other: list[Drawn]) -> None:
    earlier = [trade(number, found) for number, found in enumerate(one)]
    later = [
        trade(10 + number, (10 + at_us, price, size)) for number, (at_us, price, size) in enumerate(other)
    ]
    made = candle(earlier)
    made.merge(candle(later))
    whole = candle(earlier + later)
    for name in ("open_us", "open_id", "close_us", "close_id", "last_size", "last_id"):
        assert getattr(made, name) == getattr(whole, name), name
    assert said(made) == said(whole)
    straggler = trade(5, (9, Decimal("0.05"), Decimal(1)))
    made.add(straggler)
    whole.add(straggler)
    assert said(made) == said(whole)


def test_trades_without_numbers_close_in_the_order_in_which_they_come() -> None:
    made = Candle(0, 60_000, parse("1"))
    for price in ("3", "1", "2"):
        made.add(Trade("X", "", -1, parse(price), parse("1"), "", 7))
    assert (said(made)["open"], said(made)["close"], made.last_id) == ("3", "2", -1)


def test_it_says_that_it_is_closed_and_how_often_it_was_corrected() -> None:
    made = candle([])
    made.is_closed = True
    made.rev = 2
    assert (said(made)["closed"], said(made)["rev"]) == (True, 2)
