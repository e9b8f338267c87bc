"""Goal: a day of trades, played back, has candles and a ticker that equal what SQL makes of them, to the digit.

Trades come out of order by up to four seconds, twice, with equal times, and with texts of many digits.
"""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
import pytest
from support.market import Log

from broker.market.kline import Kline
from broker.market.stream import Stream
from broker.market.ticker import Ticker
from broker.market.times import Interval
from broker.market.trade import TradeNames

DAY_MS = 86_400_000
START_MS = 1_700_006_400_000
"""2023-11-15, midnight."""
INTERVALS = {
    "1m": "1 minute",
    "5m": "5 minutes",
    "15m": "15 minutes",
    "1h": "1 hour",
    "4h": "4 hours",
    "1d": "1 day",
}

BY_SQL = """
with placed as (
    select *, date_bin(%(length)s, ts, 'epoch') as start from trades
), ordered as (
    select *,
        first_value(price) over early as open,
        last_value(price) over (early rows between unbounded preceding and unbounded following) as close
    from placed window early as (partition by symbol, start order by ts, id)
)
select symbol, (extract(epoch from start) * 1000)::bigint, min(open)::text, max(price)::text, min(price)::text,
    min(close)::text, sum(size)::text, sum(price * size)::text, count(*)
from ordered group by symbol, start order by symbol, start"""


WINDOW_BY_SQL = """
with inside as (
    select * from trades where symbol = %(symbol)s and n <= %(arrived)s and ts >= to_timestamp(%(from)s / 1000.0)
), newest as (
    select price, size from trades where symbol = %(symbol)s and n <= %(arrived)s order by ts desc, id desc limit 1
), made as (
    select coalesce((array_agg(price order by ts, id))[1], (select price from newest)) as open, max(price) as high,
        min(price) as low, sum(size) as volume, sum(price * size) as quota, count(*) as trades from inside
)
select open::text, high::text, low::text, price::text, size::text, volume::text, quota::text, (price - open)::text,
    round((price - open) / open * 100, 2)::text, trades from made, newest"""


def some_trades(count: int) -> list[tuple[int, str, str, str, int]]:
    """Id, symbol, price, size and time, in the order in which they come."""
    rng = random.Random(24)
    ticks = {"BTCUSDT": 3_512_345_678, "ETHUSDT": 200_012_345, "DOGEUSDT": 7_512_345}
    found = []
    for id in range(1, count + 1):
        symbol = rng.choice(list(ticks))
        ticks[symbol] += rng.randint(-40_000, 40_000) if symbol == "BTCUSDT" else rng.randint(-2000, 2000)
        price = str(Decimal(ticks[symbol]).scaleb(-5))
        size = str(Decimal(rng.randint(1, 10**9)).scaleb(-8))
        at_ms = START_MS + (id - 1) * DAY_MS // count
        found.append((id, symbol, price, size, at_ms - at_ms % rng.choice((1, 1, 1000))))
    found.sort(key=lambda trade: trade[4] + rng.choice((0, 0, 0, 4000)))
    return [trade for trade in found if START_MS <= trade[4] < START_MS + DAY_MS]


def candles(trades: list[tuple[int, str, str, str, int]]) -> dict[str, list[Any]]:
    log = Log()
    made = [Interval(name, 0) for name in INTERVALS]
    kline = Kline(log, 0, TradeNames(), made, 250, 5000, 7_200_000, True, False)
    now_ms = START_MS
    for number, (id, symbol, price, size, at_ms) in enumerate(trades):
        now_ms = max(now_ms, at_ms)
        row: dict[str, object] = {
            "symbol": symbol,
            "id": str(id),
            "price": price,
            "size": size,
            "ts": str(at_ms),
        }
        kline.row(row, now_ms)
        if number % 500 == 0:
            kline.row(row, now_ms)  # again
        if number % 3 == 0:
            kline.commit(now_ms)
            kline.tick(now_ms)
    kline.commit(now_ms)
    kline.tick(START_MS + DAY_MS + 90_000)
    newest: dict[tuple[str, str, int], Any] = {}
    closed: dict[tuple[str, str, int], int] = {}
    for stream, text in log.messages:
        bar = json.loads(text)
        key = (bar["interval"], stream.names["symbol"], bar["start"])
        newest[key] = bar
        closed[key] = closed.get(key, 0) + (bar["closed"] and bar["rev"] == 0)
    assert all(
        count == 1 for key, count in closed.items() if newest[key]["closed"] and not newest[key]["rev"]
    )
    found: dict[str, list[Any]] = {name: [] for name in INTERVALS}
    for (interval, symbol, start), bar in sorted(newest.items()):
        if bar["trades"]:
            values = [bar[name] for name in ("open", "high", "low", "close", "volume", "turnover", "trades")]
            found[interval].append((symbol, start, *values))
    return found


class Window(NamedTuple):
    symbol: str
    arrived: int
    says: dict[str, Any]


def windows(trades: list[tuple[int, str, str, str, int]], minutes: int) -> list[Window]:
    """What a ticker says all day, and how many trades had come by then."""
    found: list[Window] = []
    arrived = 0

    def publish(stream: Stream, text: bytes) -> None:
        found.append(Window(stream.names["symbol"], arrived, json.loads(text)))

    ticker = Ticker(publish, 0, TradeNames(side=""), 1000, minutes)
    now_ms = START_MS
    for id, symbol, price, size, at_ms in trades:
        now_ms = max(now_ms, at_ms)
        ticker.tick(now_ms)
        row: dict[str, object] = {"symbol": symbol, "id": str(id), "price": price, "size": size}
        ticker.row(row | {"ts": str(at_ms)}, now_ms)
        arrived += 1
        ticker.commit(now_ms)
    ticker.tick(now_ms + 600_000)
    return found


def check(database: str, count: int) -> None:
    trades = some_trades(count)
    found = candles(trades)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "create table trades (n bigint, id bigint, symbol text, price numeric, size numeric, ts timestamptz)"
        )
        with connection.cursor().copy("copy trades from stdin") as copy:
            for number, (id, symbol, price, size, at_ms) in enumerate(trades, 1):
                seconds, ms = divmod((at_ms - START_MS) % DAY_MS, 1000)
                clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
                copy.write_row((number, id, symbol, price, size, f"2023-11-15 {clock}+00"))
        for name, length in INTERVALS.items():
            wanted = connection.execute(BY_SQL.encode(), {"length": length}).fetchall()
            assert found[name] == wanted, name
        for minutes in (60, 1440):
            said = windows(trades, minutes)
            for window in [*random.Random(5).sample(said, 200), said[-1]]:
                check_window(connection, window)


def check_window(connection: psycopg.Connection[Any], window: Window) -> None:
    says = window.says
    wanted = connection.execute(
        WINDOW_BY_SQL.encode(), {"symbol": window.symbol, "arrived": window.arrived, "from": says["from"]}
    ).fetchone()
    names = (
        "open",
        "high",
        "low",
        "last",
        "last_size",
        "volume",
        "quota",
        "change",
        "change_percent",
        "trades",
    )
    assert tuple(says[name] for name in names) == wanted


def test_a_thin_day_equals_sql(database: str) -> None:
    check(database, 3000)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_day_equals_sql(database: str) -> None:
    check(database, 60_000)
