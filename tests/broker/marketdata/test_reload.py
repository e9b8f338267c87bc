"""Market data that is changed by SIGHUP while rows come: what stays goes on with its state, and no row is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import jwt
import psycopg
import pytest
import trio
from support.market import BookClient
from support.markets import LISTENERS, SECRET, RunningMarket, line, next_event, running_market
from support.polling import until
from support.websockets import closed_with

from broker.config.model import Config, ConfigError
from broker.config.reload import reloaded
from broker.config.toml.configuration import load

TRADES = """
[source.trades]
tcp = "127.0.0.1:0"
[[market.trades]]
from = "trades"
every = "0s"
[[market.kline]]
from = "trades"
name = "bars"
intervals = ["1m"]
every = "0s"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
[[websocket.route]]
from = "market.bars"
channel = "{symbol}@kline_1m"
"""
MORE = """
[source.more]
tcp = "127.0.0.1:0"
[[market.ticker]]
from = "trades"
every = "0s"
[[market.depth]]
from = "more"
every = "0s"
[[websocket.route]]
from = "market.ticker"
channel = "{symbol}@ticker"
[[websocket.route]]
from = "market.trades"
channel = "all@trades"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""


def settings(folder: Path, text: str, market: RunningMarket | None = None) -> Config:
    path = folder / "market.toml"
    path.write_text(LISTENERS + text)
    config = load(path, {})
    listeners = tuple(attrs.evolve(one, host="127.0.0.1") for one in config.listeners)
    return attrs.evolve(config, listeners=listeners)


def reload(market: RunningMarket, folder: Path, text: str) -> None:
    app = market.broker.app
    app.reload(reloaded(app.config, settings(folder, text)))


def trade(id: int) -> bytes:
    return line(symbol="X", id=id, price="5", size="1", side="buy", ts=1_700_000_000_000 + id)


async def ids_until(ws: Any, last: int) -> list[int]:
    found: list[int] = []
    while not found or found[-1] < last:
        found += [entry["id"] for entry in await next_event(ws)]
    return found


async def test_calculators_routes_and_sources_come_and_go_under_load(tmp_path: Path) -> None:
    async with running_market(tmp_path, TRADES) as market, trio.open_nursery() as nursery:
        engine = await market.engine("trades")
        reader = await market.connect(nursery, "X@trades")
        bars = await market.connect(nursery, "X@kline_1m")
        await engine.send_all(trade(1))
        assert (await next_event(bars))["trades"] == 1

        read = await ids_until(reader, 1)

        async def send() -> None:
            """No more at once than a channel remembers for those who are slow."""
            for first in range(2, 3001, 500):
                for id in range(first, min(first + 500, 3001)):
                    await engine.send_all(trade(id))
                read.extend(await ids_until(reader, min(first + 499, 3000)))

        other = TRADES.replace('every = "0s"', 'every = "1ms"', 1) + MORE
        async with trio.open_nursery() as sending:
            sending.start_soon(send)
            for text in [TRADES + MORE, MORE + TRADES, TRADES, other] * 3:
                reload(market, tmp_path, text)
                await trio.sleep(0.005)
        assert read == list(range(1, 3001))
        with trio.fail_after(60):
            while (await next_event(bars))["trades"] != 3000:
                pass
        joined = await market.connect(nursery, "X@ticker", "all@trades", "Y@depth")
        await engine.send_all(trade(3001))
        assert (await next_event(joined, "all@trades"))[0]["id"] == 3001
        more = await market.engine("more")
        await more.send_all(line(symbol="Y", bids=[["1", "2"]], asks=[]))
        assert (await next_event(joined, "Y@depth"))["bids"] == [["1", "2"]]
        assert "market.ticker" in market.broker.app.feeds
        reload(market, tmp_path, TRADES)
        assert not {"market.ticker", "market.depth", "more"} & set(market.broker.app.feeds)
        assert market.broker.app.engine.parts.matching(b"#") == [
            part for part in market.broker.app.engine.parts.matching(b"#") if b"ticker" not in part.topic
        ]
        await engine.send_all(trade(3002))
        assert await ids_until(reader, 3002) == [3001, 3002]
        nursery.cancel_scope.cancel()


def changed(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            changed('intervals = ["1m"]', 'intervals = ["5m"]'),
            r"\[\[market.kline\]\] market.bars: another intervals",
        ),
        (changed('"trades"\nname', '"trades"\nsize = "amount"\nname'), r"market.bars: another size"),
        (
            changed(
                "[[market.kline]]",
                '[[market.ticker]]\nfrom = "trades"\nreplay = "SELECT 1"\n[[market.kline]]',
            ),
            "replay",
        ),
        (
            lambda text: text + MORE.replace('"more"\nevery', '"more"\nshape = "diffs"\nevery', 1),
            "not told again",
        ),
    ],
)
def test_what_would_need_another_state_is_refused_by_name(
    tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    database = '[database]\ndsn = "host=a"\n'
    text = change(TRADES)
    if "replay" in text:
        text += '[[websocket.route]]\nfrom = "market.ticker"\nchannel = "{symbol}@t"\n'
    old, new = settings(tmp_path, TRADES + database), settings(tmp_path, text + database)
    with pytest.raises(ConfigError, match=said):
        reloaded(old, new)


QUERY = """
[source.levels]
query = "SELECT symbol, side, price, size FROM levels WHERE price < 1000"
key = ["symbol", "side", "price"]
every = "50ms"
dsn = "DSN"
[[websocket.route]]
from = "levels"
channel = "{side}@trades"
"""
BOOK = """
[[market.depth]]
from = "levels"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""


async def test_a_new_calculator_of_a_query_is_told_all_and_the_query_may_change(
    tmp_path: Path, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE levels (symbol text, side text, price numeric, size numeric)")
        connection.execute("INSERT INTO levels VALUES ('X','bid',1,5),('X','ask',2,6),('X','ask',2000,1)")
        text = QUERY.replace("DSN", database)
        async with running_market(tmp_path, text) as market, trio.open_nursery() as nursery:
            status = market.broker.app.feeds["levels"]
            await until(lambda: status.received == 2)
            reload(market, tmp_path, text + BOOK)
            reader = await market.connect(nursery, "X@depth")
            client = BookClient()
            client.take(json.dumps(await next_event(reader)).encode())
            assert client.sides == {"bids": {"1": "5"}, "asks": {"2": "6"}}
            assert status.published == 2
            reload(market, tmp_path, text.replace("< 1000", "> 0") + BOOK)
            client.take(json.dumps(await next_event(reader)).encode())
            assert client.sides["asks"] == {"2": "6", "2000": "1"}
            nursery.cancel_scope.cancel()


PRIVATE = """
[source.orders]
tcp = "127.0.0.1:0"
sequence = "$.seq"
[[websocket.route]]
from = "orders"
channel = "{uid}@order"
"""


async def test_a_gap_of_a_source_that_came_by_a_reload_closes_readers_of_private_rows(tmp_path: Path) -> None:
    async with running_market(tmp_path, TRADES) as market, trio.open_nursery() as nursery:
        reload(market, tmp_path, TRADES + PRIVATE)
        engine = await market.engine("orders")
        private = await market.connect(nursery)
        token = jwt.encode({"uid": "1001"}, SECRET, algorithm="HS256")
        for request in ({"op": "auth", "token": token}, {"op": "subscribe", "channel": "@order"}):
            await private.send_message(json.dumps(request))
            assert json.loads(await private.get_message()) == {"result": True}
        await engine.send_all(line(seq=1, uid="1001"))
        assert (await next_event(private, "@order"))["seq"] == 1
        await engine.send_all(line(seq=3, uid="1001"))
        with trio.fail_after(100):
            assert await closed_with(private) == 4000
        nursery.cancel_scope.cancel()
