"""Goal: a restart gives the same candles and the same 24 hours, and the table is what SQL makes of the trades."""

from __future__ import annotations

import json
import random
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import trio
from support.markets import RunningMarket, line, next_event, running_market
from support.polling import until

from broker.marketdata.history import CREATE

SETTINGS = """
[database]
dsn = "env:DATABASE_URL"
[source.trades]
tcp = "127.0.0.1:0"
[[market.kline]]
from = "trades"
intervals = ["1m", "5m", "1h"]
history = "kline"
[[market.ticker]]
from = "trades"
every = "100ms"
[[websocket.route]]
from = "market.kline"
channel = "{symbol}@kline_{interval}"
[[websocket.route]]
from = "market.ticker"
channel = "{symbol}@ticker"
"""

BY_SQL = """
select symbol, date_bin(%(length)s, ts, 'epoch'), (array_agg(price order by ts, id))[1]::text, max(price)::text,
    min(price)::text, (array_agg(price order by ts desc, id desc))[1]::text, sum(size)::text,
    sum(price * size)::text, count(*)
from trades group by 1, 2 order by 1, 2"""
KEPT = """
select symbol, start, open::text, high::text, low::text, close::text, volume::text, turnover::text, trades
from kline where "interval" = %s and trades > 0 order by 1, 2"""


def some_trades(seed: int, count: int, span_s: int) -> list[dict[str, Any]]:
    """In the order of their times, up to now, some seconds of it out of order."""
    rng = random.Random(seed)
    now_ms = int(time.time() * 1000)
    times = sorted(now_ms - rng.randint(0, span_s * 1000) for _ in range(count))
    for i in range(0, count - 5, 7):
        times[i], times[i + 3] = times[i + 3], times[i]
    return [
        {
            "id": id,
            "symbol": rng.choice(("A", "B")),
            "price": str(Decimal(rng.randint(9000, 11000)).scaleb(-2)),
            "size": str(Decimal(rng.randint(1, 5000)).scaleb(-3)),
            "side": "buy",
            "ts": at_ms,
        }
        for id, at_ms in enumerate(times, 1)
    ]


async def counted(market: RunningMarket, count: int) -> None:
    status = market.broker.app.feeds["market.kline"]
    await until(lambda: status.received >= count)


async def state(market: RunningMarket, newest: dict[str, Any]) -> dict[str, Any]:
    """What all channels say when they, which are told some times a second, know the newest trade."""
    found: dict[str, Any] = {}
    async with trio.open_nursery() as nursery:
        for name in ("A@kline_1m", "A@kline_5m", "A@kline_1h", "A@ticker"):
            ws = await market.connect(nursery, name)
            found[name] = await next_event(ws)
            while not knows(found[name], newest):
                found[name] = await next_event(ws)
        nursery.cancel_scope.cancel()
    for field in ("from", "to", "open", "high", "low", "last", "volume", "quota", "trades", "last_size"):
        found[field] = found["A@ticker"][field]
    del found["A@ticker"], found["from"], found["to"]
    return found


def knows(event: dict[str, Any], newest: dict[str, Any]) -> bool:
    if "close" in event:
        return bool(event["close"] == newest["price"])
    return (event["last"], event["last_size"]) == (newest["price"], newest["size"])


async def test_a_restart_in_the_middle_changes_nothing_and_sql_agrees_to_the_digit(
    tmp_path: Path, database: str
) -> None:
    trades = some_trades(1, 3000, 6 * 3600)
    newest = max((one for one in trades if one["symbol"] == "A"), key=lambda one: (one["ts"], one["id"]))
    environ = {"DATABASE_URL": database}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(CREATE.format(table="kline").encode())
        connection.execute(
            "create table trades (id bigint, symbol text, price numeric, size numeric, ts timestamptz)"
        )
        with connection.cursor().copy("copy trades from stdin") as copy:
            for one in trades:
                at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(one['ts'] // 1000))}.{one['ts'] % 1000:03d}+00"
                copy.write_row((one["id"], one["symbol"], one["price"], one["size"], at))
        half = len(trades) // 2
        async with running_market(tmp_path, SETTINGS, environ) as market:
            engine = await market.engine("trades")
            await engine.send_all(b"".join(line(**one) for one in trades[:half]))
            await counted(market, half)
        async with running_market(tmp_path, SETTINGS, environ) as market:
            engine = await market.engine("trades")
            again = trades[half - 50 :]  # some that were counted before
            await engine.send_all(b"".join(line(**one) for one in again))
            await counted(market, len(again))
            before = await state(market, newest)
        for interval, length in (("1m", "1 minute"), ("5m", "5 minutes"), ("1h", "1 hour")):
            wanted = connection.execute(BY_SQL.encode(), {"length": length}).fetchall()
            kept = connection.execute(KEPT.encode(), [interval]).fetchall()
            assert [(a, b) for a, b in zip(kept, wanted, strict=True) if a != b] == []
        async with running_market(tmp_path, SETTINGS, environ) as market:
            after = await state(market, newest)
            assert _comparable(after) == _comparable(before)
            port = market.port
            bars = await _udf(port, f"symbol=A&resolution=60&from=0&to={int(time.time()) + 60}")
        row = connection.execute(
            "select count(*) from kline where symbol = 'A' and \"interval\" = '1h'"
        ).fetchone()
        assert row is not None
        assert len(bars["t"]) == row[0]


def _comparable(found: dict[str, Any]) -> dict[str, Any]:
    """Without the bars of a minute in which nobody trades, which follow the clock."""
    return {
        name: {key: value for key, value in one.items() if key in ("close",)}
        if isinstance(one, dict)
        else one
        for name, one in found.items()
    }


async def _udf(port: int, query: str) -> Any:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"GET /udf/history?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    async for piece in stream:
        data += piece
    return json.loads(data.partition(b"\r\n\r\n")[2])
