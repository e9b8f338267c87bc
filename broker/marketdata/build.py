"""Calculators as a configuration wants them.  Pure."""

from __future__ import annotations

from decimal import Decimal

from broker.config.market import (
    Common,
    DepthConfig,
    KlineConfig,
    MarkPriceConfig,
    OfTrades,
    TickerConfig,
    TradesConfig,
)
from broker.market.calculator import Calculator
from broker.market.depth import Depth
from broker.market.kline import Kline
from broker.market.levels import DepthNames
from broker.market.markprice import MarkNames, MarkPrice, MarkRules
from broker.market.stream import Publish
from broker.market.ticker import Ticker
from broker.market.times import Interval
from broker.market.trade import TradeNames
from broker.market.trades import Trades


def make_depth(config: DepthConfig, publish: Publish, first_seq: int) -> Calculator:
    """The calculator of `[[market.depth]]`, with its messages numbered from `first_seq`."""
    names = DepthNames(
        config.symbol,
        config.side,
        config.price,
        config.size,
        config.bids,
        config.asks,
        config.time,
        config.changes,
        config.sides,
        config.whole_bids,
        config.whole_asks,
        config.action,
        config.actions,
        config.id,
        list(config.level),
        config.removed_by,
        config.signed,
        config.lists_are_whole,
    )
    return Depth(
        publish,
        first_seq,
        names,
        config.shape,
        ms(config.every_s),
        config.levels,
        config.checksum,
        ms(config.crossed_for_s),
        config.source_levels,
    )


def make_trades(config: TradesConfig, publish: Publish, first_seq: int) -> Calculator:
    """The calculator of `[[market.trades]]`, with its messages numbered from `first_seq`."""
    return Trades(
        publish, first_seq, trade_names(config), ms(config.every_s), list(config.merge_by), config.recent
    )


def make_kline(config: KlineConfig, publish: Publish, first_seq: int) -> Calculator:
    """The calculator of `[[market.kline]]`, with its messages numbered from `first_seq`."""
    hours, minutes = config.day_starts.split(":")
    day_starts_ms = (int(hours) * 60 + int(minutes)) * 60_000
    return Kline(
        publish,
        first_seq,
        trade_names(config),
        [Interval(name, day_starts_ms) for name in config.intervals],
        ms(config.every_s),
        ms(config.late_s),
        ms(config.keep_s),
        config.fill == "previous_close",
        bool(config.history),
    )


def make_ticker(config: TickerConfig, publish: Publish, first_seq: int) -> Calculator:
    """The calculator of `[[market.ticker]]`, with its messages numbered from `first_seq`."""
    return Ticker(publish, first_seq, trade_names(config), ms(config.every_s), round(config.window_s / 60))


def make_markprice(config: MarkPriceConfig, publish: Publish, first_seq: int) -> Calculator:
    """The calculator of `[[market.markprice]]`, with its messages numbered from `first_seq`."""
    index, funding = config.index, config.funding
    names = MarkNames(
        config.symbol,
        config.mark,
        config.price,
        config.source,
        settle=config.settle,
        next_funding=config.next_funding,
    )
    rules = MarkRules(
        ms(config.every_s),
        ms(config.stale_after_s),
        [] if index is None else list(index.of),
        "median" if index is None else index.how,
        Decimal("1") if index is None else Decimal(index.outlier),
        0 if index is None else ms(index.settle_over_s),
        0 if funding is None else ms(funding.every_s),
        Decimal(1) if funding is None else Decimal(funding.clamp),
    )
    return MarkPrice(publish, first_seq, names, rules)


def adopt(calculator: Calculator, config: Common) -> None:
    """Settings that say nothing of a calculator's state, while it runs: see `broker.config.reload_market.IN_PLACE`."""
    every_ms = ms(getattr(config, "every_s", 0.0))
    if isinstance(calculator, MarkPrice):
        assert isinstance(config, MarkPriceConfig)
        calculator.rules.every_ms = every_ms
        calculator.rules.stale_after_ms = ms(config.stale_after_s)
        return
    assert isinstance(calculator, Depth | Trades | Kline | Ticker)
    calculator.every_ms = every_ms
    if isinstance(calculator, Depth):
        assert isinstance(config, DepthConfig)
        calculator.crossed_for_ms = ms(config.crossed_for_s)
    elif isinstance(calculator, Trades):
        assert isinstance(config, TradesConfig)
        calculator.merge_by = list(config.merge_by)


def trade_names(config: OfTrades) -> TradeNames:
    """Which members of a message hold what of a trade."""
    return TradeNames(
        config.symbol,
        config.price,
        config.size,
        config.side,
        config.id,
        config.time,
        config.sides,
        config.signed,
    )


def ms(seconds: float) -> int:
    """Seconds as whole milliseconds."""
    return round(seconds * 1000)
