"""Goal: a day of trades, played back, has candles and a ticker that equal what SQL makes of them, to the digit.

Trades come out of order by up to four seconds, twice, with equal times, and with texts of many digits.
"""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from support.market import Log

from broker.market.kline import Kline
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


def check(database: str, count: int) -> None:
    trades = some_trades(count)
    found = candles(trades)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "create table trades (id bigint, symbol text, price numeric, size numeric, ts timestamptz)"
        )
        with connection.cursor().copy("copy trades from stdin") as copy:
            for id, symbol, price, size, at_ms in trades:
                seconds, ms = divmod((at_ms - START_MS) % DAY_MS, 1000)
                clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{ms:03d}"
                copy.write_row((id, symbol, price, size, f"2023-11-15 {clock}+00"))
        for name, length in INTERVALS.items():
            wanted = connection.execute(BY_SQL.encode(), {"length": length}).fetchall()
            assert found[name] == wanted, name


def test_a_thin_day_equals_sql(database: str) -> None:
    check(database, 3000)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_day_equals_sql(database: str) -> None:
    check(database, 60_000)
