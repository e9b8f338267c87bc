"""Calculators as a configuration wants them: milliseconds, minutes, and what may change while they run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from support.market import Log

from broker.config.market import (
    DepthConfig,
    FundingConfig,
    IndexConfig,
    KlineConfig,
    MarkPriceConfig,
    TickerConfig,
    TradesConfig,
)
from broker.market.depth import Depth
from broker.market.kline import Kline
from broker.market.markprice import MarkPrice
from broker.market.ticker import Ticker
from broker.market.trades import Trades
from broker.marketdata import build


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, 0), (0.25, 250), (0.0004, 0), (0.0006, 1), (7200.0, 7_200_000)]
)
def test_seconds_are_whole_milliseconds(seconds: float, expected: int) -> None:
    assert build.ms(seconds) == expected


def test_candles_begin_when_the_configuration_s_day_does() -> None:
    config = KlineConfig("s", intervals=("1m", "1d"), day_starts="17:30", fill="none", history="candles")
    made = build.make_kline(config, Log(), 5)
    assert isinstance(made, Kline)
    assert [interval.offset_ms for interval in made.intervals] == [63_000_000, 63_000_000]
    assert (made.every_ms, made.late_ms, made.keep_ms, made.first_seq) == (250, 5000, 7_200_000, 5)


def test_a_ticker_s_window_is_in_minutes() -> None:
    made = build.make_ticker(TickerConfig("s", window_s=3600.0), Log(), 0)
    assert isinstance(made, Ticker)
    assert made.minutes == 60


@pytest.mark.parametrize(
    ("config", "of", "how", "outlier", "settle_ms", "funding_ms", "clamp"),
    [
        (MarkPriceConfig("s"), [], "median", Decimal(1), 0, 0, Decimal(1)),
        (
            MarkPriceConfig(
                "s", index=IndexConfig(("a", "b"), "mean", "0.1"), funding=FundingConfig(60.0, "0.5")
            ),
            ["a", "b"],
            "mean",
            Decimal("0.1"),
            3_600_000,
            60_000,
            Decimal("0.5"),
        ),
    ],
)
def test_an_index_and_funding_may_be_left_out(
    config: MarkPriceConfig,
    of: list[str],
    how: str,
    outlier: Decimal,
    settle_ms: int,
    funding_ms: int,
    clamp: Decimal,
) -> None:
    made = build.make_markprice(config, Log(), 0)
    assert isinstance(made, MarkPrice)
    rules: Any = made.rules
    assert (rules.every_ms, rules.stale_after_ms) == (1000, 10_000)
    assert list(vars_of(rules)[2:]) == [of, how, outlier, settle_ms, funding_ms, clamp]


def vars_of(rules: Any) -> tuple[Any, ...]:
    return (
        rules.every_ms, rules.stale_after_ms, rules.parts, rules.how, rules.outlier, rules.settle_ms,
        rules.funding_ms, rules.clamp,
    )  # fmt: skip


def test_what_has_no_state_is_adopted_while_they_run() -> None:
    depth = build.make_depth(DepthConfig("s"), Log(), 0)
    build.adopt(depth, DepthConfig("s", every_s=2.0, crossed_for_s=3.0))
    assert isinstance(depth, Depth)
    assert (depth.every_ms, depth.crossed_for_ms) == (2000, 3000)
    trades = build.make_trades(TradesConfig("s"), Log(), 0)
    build.adopt(trades, TradesConfig("s", every_s=2.0, merge_by=("side",)))
    assert isinstance(trades, Trades)
    assert (trades.every_ms, trades.merge_by) == (2000, ["side"])
    for made, config in (
        (build.make_kline(KlineConfig("s"), Log(), 0), KlineConfig("s", every_s=2.0)),
        (build.make_ticker(TickerConfig("s"), Log(), 0), TickerConfig("s", every_s=2.0)),
    ):
        build.adopt(made, config)
        assert isinstance(made, Kline | Ticker)
        assert made.every_ms == 2000
    mark = build.make_markprice(MarkPriceConfig("s"), Log(), 0)
    build.adopt(mark, MarkPriceConfig("s", every_s=2.0, stale_after_s=3.0))
    assert isinstance(mark, MarkPrice)
    assert (mark.rules.every_ms, mark.rules.stale_after_ms) == (2000, 3000)


def test_columns_are_called_as_the_configuration_says() -> None:
    names = build.trade_names(
        TradesConfig("s", symbol="a", price="b", size="c", side="d", id="e", time="f", signed=True)
    )
    assert (names.symbol, names.price, names.size, names.side, names.id, names.time, names.is_signed) == (
        "a", "b", "c", "d", "e", "f", True,
    )  # fmt: skip
