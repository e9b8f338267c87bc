"""The day that slides by the minute, against a list of all its trades."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from broker.market.numbers import Sum, parse, text_of
from broker.market.times import MINUTE_MS
from broker.market.trade import Trade
from broker.market.window import RollingWindow

MINUTE_US = MINUTE_MS * 1000


def trade(number: int, at_us: int, price: str, size: str = "1") -> Trade:
    return Trade("x", str(number), number, parse(price), parse(size), "buy", at_us)


def value(total: Sum) -> Decimal:
    return Decimal(text_of(total.units, total.scale))


def in_window(window: RollingWindow, trades: list[Trade]) -> list[Trade]:
    return [one for one in trades if one.at_us // MINUTE_US >= window.first]


@pytest.mark.parametrize("seed", range(8))
def test_it_has_what_a_list_of_the_trades_has_however_late_they_come(seed: int) -> None:
    draw = random.Random(seed)
    window = RollingWindow(5)
    trades: list[Trade] = []
    now_us = 1_000 * MINUTE_US
    for number in range(300):
        now_us += draw.randrange(MINUTE_US // 2)
        if draw.random() < 0.3:
            window.slide(now_us // 1000)
        made = trade(
            number,
            now_us - draw.choice([0, 0, MINUTE_US, 7 * MINUTE_US]),
            f"{draw.randrange(1, 99)}.5",
            "0.1",
        )
        is_new = made.at_us // MINUTE_US >= window.first
        assert window.add(made) is is_new
        if is_new:
            trades.append(made)
        kept = in_window(window, trades)
        assert window.trades == len(kept)
        assert value(window.volume) == sum(Decimal(one.size.text) for one in kept)
        assert value(window.turnover) == sum(Decimal(one.price.text) * Decimal(one.size.text) for one in kept)
        if kept:
            prices = [Decimal(one.price.text) for one in kept]
            assert Decimal(window.highs[0].high.text) == max(prices)
            assert Decimal(window.lows[0].low.text) == min(prices)


def test_the_last_price_is_that_of_the_newest_trade_not_of_the_last_to_come() -> None:
    window = RollingWindow(5)
    window.add(trade(2, 50 * MINUTE_US, "20"))
    window.add(trade(1, 49 * MINUTE_US, "10"))
    assert window.last_price is not None
    assert window.last_price.text == "20"
    window.add(trade(3, 50 * MINUTE_US, "30"))
    assert window.last_price.text == "30"


def test_an_empty_window_has_nothing() -> None:
    window = RollingWindow(2)
    window.add(trade(1, 50 * MINUTE_US, "20"))
    window.slide(52 * MINUTE_MS)
    assert (window.trades, window.volume.units, list(window.highs), list(window.lows)) == (0, 0, [], [])
