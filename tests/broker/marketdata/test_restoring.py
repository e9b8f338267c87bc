"""What calculators know after a restart: candles of a table, then the rows of a query, each read once."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from attrs import evolve

from broker.config.feeds import FeedConfig, Route
from broker.config.market import KlineConfig, MarketConfig, Tap, TickerConfig, TradesConfig
from broker.core.engine import Engine
from broker.market.candle import Candle
from broker.market.numbers import parse
from broker.marketdata.market import Market
from broker.marketdata.restoring import restore

MINUTE_MS = 60_000
NOW_MS = 1_700_000_040_000
"""Where a minute begins."""


def candle(minute: int, price: str = "5", trades: int = 1, last_id: int = 1) -> Candle:
    """One of a table, which doesn't say when it ends."""
    start_ms = NOW_MS + minute * MINUTE_MS
    made = Candle(start_ms, 0, parse(price))
    made.trades, made.last_id, made.last_size = trades, last_id, "3"
    made.volume.add(1, 0)
    made.turnover.add(5, 0)
    made.open_us = made.close_us = start_ms * 1000
    return made


class Stored:
    """A table of candles; see `History`."""

    name = "kline"

    def __init__(self, *rows: tuple[str, str, Candle]) -> None:
        self.rows = rows
        self.asked: list[tuple[dict[str, int], int]] = []

    async def read(self, since_ms: dict[str, int], keep_ms: int) -> list[tuple[str, str, Candle, int]]:
        self.asked.append((since_ms, keep_ms))
        return [(*row, 0) for row in self.rows]


KLINE = KlineConfig("s", intervals=("1m", "1h"), keep_s=600.0, history="kline")
CONFIG = MarketConfig(
    kline=(KLINE,),
    taps=(Tap("s", (("kline", 0),)),),
    routes=(Route("market.kline", ("{interval}/{symbol}",)), Route("market.ticker", ("ticker/{symbol}",))),
)


def market_of(config: MarketConfig = CONFIG) -> Market:
    made = Market(config, Engine(), {})
    made.now_ms = lambda: NOW_MS + 30_000  # type: ignore[method-assign]
    return made


async def restored(config: MarketConfig, stored: Stored | None, database: FeedConfig | None = None) -> Market:
    market = market_of(config)
    histories: Any = {} if stored is None else {0: stored}
    await restore(market, histories, database)
    return market


def starts(market: Market, interval: str = "1m", symbol: str = "X") -> list[int]:
    """The minutes of a series' candles."""
    kline: Any = market.running["kline", 0].calculator
    for series in kline.entries[kline.index[symbol]].series:
        if series.interval.name == interval:
            return [(one.start_ms - NOW_MS) // MINUTE_MS for one in series.candles]
    raise KeyError(interval)


async def test_candles_end_where_their_intervals_do_and_are_there_for_who_subscribes() -> None:
    stored = Stored(("X", "1m", candle(-1)), ("X", "1m", candle(0)))
    market = await restored(CONFIG, stored)
    assert starts(market) == [-1, 0]
    kline: Any = market.running["kline", 0].calculator
    assert [one.end_ms - one.start_ms for one in kline.entries[0].series[0].candles] == [MINUTE_MS] * 2
    assert len(market.engine.parts.of(b"1m/X")) == 1


async def test_it_asks_for_what_is_kept_and_for_a_ticker_s_window() -> None:
    """Two intervals more than are kept, since the oldest may have begun before."""
    stored = Stored()
    await restored(CONFIG, stored)
    now_ms = NOW_MS + 30_000
    [(since_ms, keep_ms)] = stored.asked
    assert keep_ms == 600_000
    assert {name: now_ms - ms for name, ms in since_ms.items()} == {"1m": 720_000, "1h": 7_800_000}

    tickers = (TickerConfig("s", window_s=3600.0), TickerConfig("s", name="b", window_s=60.0))
    others = (TickerConfig("t", name="c"), TickerConfig("s", name="d", replay="SELECT"))
    await restored(evolve(CONFIG, ticker=(*tickers, *others)), stored)
    assert {name: now_ms - ms for name, ms in stored.asked[1][0].items()} == {
        "1m": 3_600_000,
        "1h": 7_800_000,
    }
    await restored(evolve(CONFIG, kline=(evolve(KLINE, intervals=("1M",)),)), stored)
    assert now_ms - stored.asked[2][0]["1M"] == 600_000 + 62 * 86_400_000


@pytest.mark.parametrize(
    ("minutes", "kept"),
    [
        ([-14, -13, -12, -1], [-13, -12, -1]),  # ten minutes and two more before the newest
        ([-100, -99], [-100, -99]),  # counted from the newest, not from now
        ([-100], [-100]),
        ([-90, -14, -12, 3], [-12, 3]),  # a clock that was ahead
    ],
)
async def test_of_a_series_what_is_kept_before_its_newest_is_known_again(
    minutes: list[int], kept: list[int]
) -> None:
    market = await restored(CONFIG, Stored(*[("X", "1m", candle(minute)) for minute in minutes]))
    assert [minute for minute in starts(market) if minute in minutes] == kept


async def test_a_ticker_goes_on_from_the_minutes_of_its_source_that_had_trades() -> None:
    tickers = (TickerConfig("s"), TickerConfig("t", name="t"), TickerConfig("s", name="r", replay="SELECT"))
    rows = (
        ("X", "1h", candle(0, "9")),
        ("X", "1m", candle(-2, "7")),
        ("X", "1m", candle(-1, "8", trades=0)),
        ("Y", "1m", candle(-1, "8", trades=0)),
    )
    market = await restored(evolve(CONFIG, ticker=tickers), Stored(*rows))
    known: list[Any] = [market.running["ticker", number].calculator for number in range(3)]
    assert [list(one.index) for one in known] == [["X"], [], []]
    assert known[0].quotes[0].window.last_price.text == "7"
    assert known[0].quotes[0].window.last_size.text == "3"


async def test_candles_are_read_once_for_each_calculator() -> None:
    stored = Stored(("X", "1m", candle(0)))
    market = market_of()
    for _ in range(2):
        await restore(market, {0: stored}, None)  # type: ignore[dict-item]
    assert len(stored.asked) == 1
    assert market.running["kline", 0].is_restored


async def test_without_a_table_nothing_is_asked() -> None:
    market = await restored(evolve(CONFIG, kline=(evolve(KLINE, history=""),)), None)
    assert market.running["kline", 0].is_restored
    assert not market.running["kline", 0].is_replayed


ROWS = """
CREATE TABLE t (id int, symbol text, price text, size text, side text, ts bigint);
INSERT INTO t SELECT i, 'X', '5.0', '1', CASE i WHEN 2 THEN 'none' ELSE 'buy' END, 1700000000000 + i
FROM generate_series(1, 5) i
"""
QUERY = "SELECT * FROM t ORDER BY id -- all {of} %s\n ; "


@pytest.fixture
def feed(database: str) -> FeedConfig:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ROWS)
    return FeedConfig("main", database)


async def test_a_query_s_rows_are_counted_once_and_what_is_none_costs_itself(feed: FeedConfig) -> None:
    config = MarketConfig(kline=(evolve(KLINE, history="", replay=QUERY),), taps=CONFIG.taps)
    market = market_of(config)
    for _ in range(2):
        await restore(market, {}, feed)
    one = market.running["kline", 0]
    assert (one.is_replayed, dict(one.status.dropped)) == (True, {"bad_side": 1})
    kline: Any = one.calculator
    assert [series.candles[-1].trades for series in kline.entries[0].series] == [4, 4]
    assert one.calculator.counts.repeated == 0


async def test_trades_are_known_again_without_being_told(feed: FeedConfig) -> None:
    config = MarketConfig(
        trades=(TradesConfig("s", replay=QUERY, recent=10),),
        taps=(Tap("s", (("trades", 0),)),),
        routes=(Route("market.trades", ("t/{symbol}",)),),
    )
    market = await restored(config, None, feed)
    assert market.running["trades", 0].status.published == 0
    [part] = market.engine.parts.of(b"t/X")
    shown = [entry for text in part.state() for entry in json.loads(text)]
    assert {entry["price"] for entry in shown} == {"5.0"}


async def test_a_query_that_fails_is_asked_again_the_next_time(feed: FeedConfig) -> None:
    config = MarketConfig(
        kline=(evolve(KLINE, history="", replay="SELECT * FROM nowhere"),), taps=CONFIG.taps
    )
    market = market_of(config)
    with pytest.raises(psycopg.errors.UndefinedTable):
        await restore(market, {}, feed)
    assert not market.running["kline", 0].is_replayed
    await restore(market, {}, None)
    assert not market.running["kline", 0].is_replayed, "without a database there is nothing to ask"
