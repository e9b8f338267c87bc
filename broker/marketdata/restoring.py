"""What calculators knew before a restart: from the history, and from the trades of a query."""

from __future__ import annotations

import logging
from typing import Final

from psycopg import sql

from broker.config.feeds import FeedConfig
from broker.feed.driver.connect import connected, within
from broker.feed.routing.rowtext import columns_of
from broker.market.candle import Candle
from broker.market.kline import Kline
from broker.market.numbers import BadValue, parse
from broker.market.ticker import Ticker
from broker.market.times import MINUTE_MS
from broker.market.trades import Trades
from broker.marketdata.history import History
from broker.marketdata.market import Market, Running

logger = logging.getLogger("broker.market")

REPLAY_TIMEOUT_S: Final = 600.0
ROWS_AT_ONCE: Final = 1000


async def restore(market: Market, histories: dict[int, History], database: FeedConfig | None) -> None:
    """Candles from their tables, then the trades that are not in them yet.

    Raises:
        psycopg.Error, OSError: something can't be read.
    """
    for (kind, index), one in market.running.items():
        calculator = one.calculator
        if kind == "kline" and isinstance(calculator, Kline) and not one.is_restored:
            if index in histories:
                await _restore_kline(market, calculator, histories[index], market.config.kline[index].from_)
            one.is_restored = True
    for (kind, index), one in market.running.items():
        table = getattr(market.config, kind)[index]
        if table.replay and database is not None and not one.is_replayed:
            await _replay(market, one, table.replay, database)
            one.is_replayed = True
    with market.engine.turn:
        market.caught_up()


async def _restore_kline(market: Market, kline: Kline, history: History, source: str) -> None:
    now_ms = market.now_ms()
    tickers = [
        market.running["ticker", index].calculator
        for index, config in enumerate(market.config.ticker)
        if config.from_ == source and not config.replay
    ]
    window_ms = max((one.minutes for one in tickers if isinstance(one, Ticker)), default=0) * MINUTE_MS
    since_ms = {}
    for interval in kline.intervals:
        keep_ms = kline.keep_ms + 2 * (interval.length_ms or 31 * 86_400_000)
        since_ms[interval.name] = now_ms - max(keep_ms, window_ms if interval.name == "1m" else 0)
    intervals = {interval.name: interval for interval in kline.intervals}
    series: dict[tuple[str, str], list[Candle]] = {}
    count = 0
    for symbol, name, candle, _ in await history.read(since_ms, kline.keep_ms):
        candle.end_ms = intervals[name].end_ms(candle.start_ms)
        series.setdefault((symbol, name), []).append(candle)
        count += 1
        if name == "1m" and candle.trades:
            for ticker in tickers:
                if isinstance(ticker, Ticker):
                    ticker.restore(symbol, candle, parse(candle.last_size), now_ms)
    for (symbol, name), candles in series.items():
        since = (
            min(now_ms, candles[-1].start_ms)
            - kline.keep_ms
            - 2 * (candles[-1].end_ms - candles[-1].start_ms)
        )
        for candle in [one for one in candles if one.end_ms > since] or candles[-1:]:
            kline.restore(symbol, name, candle, now_ms)
    kline.restored(now_ms)
    logger.info("%d candles read from %s", count, history.name)


async def _replay(market: Market, one: Running, query: str, database: FeedConfig) -> None:
    """Count the rows of a query as if they came live; trades that were counted before are known by their ids."""
    statement = (
        sql.SQL("SELECT row_to_json(q)::text FROM (") + sql.SQL(query.strip().rstrip(";")) + sql.SQL("\n) q")
    )
    count = 0
    async with connected(database) as connection:
        with within(REPLAY_TIMEOUT_S, "replay"):
            async for (text,) in connection.cursor().stream(statement, size=ROWS_AT_ONCE):
                now_ms = market.now_ms()
                try:
                    if isinstance(one.calculator, Trades):
                        one.calculator.restore(columns_of(text), now_ms)
                    else:
                        one.calculator.row(columns_of(text), now_ms)
                except BadValue as error:
                    one.status.drop(error.reason, "replay", market.engine.now)
                count += 1
                if count % ROWS_AT_ONCE == 0:
                    with market.engine.turn:
                        one.calculator.commit(market.now_ms())
    with market.engine.turn:
        one.calculator.commit(market.now_ms())
    logger.info("%s: %d rows replayed", one.status.name, count)
