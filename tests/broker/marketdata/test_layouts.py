"""Public feeds whose rows are arrays, lines of CSV, single orders, or levels with a number for a name.

Each case is a configuration, lines in the layout of one venue's documents, and the book or the trades that they say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from support.market import BookClient
from support.markets import next_event, running_market

from broker.config.model import ConfigError
from broker.config.toml.configuration import load

DEPTH = '[[websocket.route]]\nfrom = "market.depth"\nchannel = "{symbol}@depth"\n'
TRADES = '[[websocket.route]]\nfrom = "market.trades"\nchannel = "{symbol}@trades"\n'


@attrs.frozen
class Case:
    symbol: str
    settings: str
    lines: list[Any]
    bids: dict[str, str] = attrs.field(factory=dict)
    asks: dict[str, str] = attrs.field(factory=dict)
    dropped: dict[str, int] = attrs.field(factory=dict)
    """By the source and the calculator together."""
    gaps: int = 0


def deribit(kind: str, number: int, bids: list[Any], asks: list[Any]) -> dict[str, Any]:
    data = {"type": kind, "timestamp": 1554373962454, "instrument_name": "BTC-PERPETUAL", "change_id": number}
    data |= {"bids": bids, "asks": asks} | ({} if kind == "snapshot" else {"prev_change_id": number - 5})
    params = {"channel": "book.BTC-PERPETUAL.100ms", "data": data}
    return {"jsonrpc": "2.0", "method": "subscription", "params": params}


def bitmex(action: str, *levels: dict[str, Any]) -> dict[str, Any]:
    return {"table": "orderBookL2", "action": action, "data": [{"symbol": "XBTUSD", **one} for one in levels]}


def bitstamp(event: str, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    data = {"timestamp": "1643643584", "microtimestamp": "1643643584684047", "bids": bids, "asks": asks}
    return {"data": data, "channel": "diff_order_book_btcusd", "event": event}


def coinbase(kind: str, **rest: Any) -> dict[str, Any]:
    return {"type": kind, "time": "2014-11-07T08:19:27.028459Z", "product_id": "BTC-USD", **rest}


BOOKS = {
    "bitfinex": Case(
        "BTCUSD",
        """[source.book]
tcp = "127.0.0.1:0"
columns = ["channel", "changes"]
add = { symbol = { at = "$[0]", words = { 10092 = "BTCUSD" } } }
[[market.depth]]
from = "book"
shape = "diffs"
level = ["price", "count", "size"]
removed_by = "count"
signed = true
lists_are_whole = true
every = "0s"
""",
        [
            {"event": "subscribed", "channel": "book", "chanId": 10092, "symbol": "tBTCUSD"},
            [10092, [[7254.7, 3, 3.3], [7254.6, 1, 0.5], [7255, 1, -1.25], [7255.5, 2, -2]]],
            [10092, "hb"],
            [10092, [7254.7, 0, 1]],
            [10092, [7255, 1, -1e-05]],
            [10092, [7256, 0, -1]],  # was never there
        ],
        {"7254.6": "0.5"},
        {"7255": "0.00001", "7255.5": "2"},
        {"no_levels": 2},
    ),
    "bitfinex orders": Case(
        "10092",
        """[source.book]
tcp = "127.0.0.1:0"
columns = ["symbol", "changes"]
[[market.depth]]
from = "book"
shape = "diffs"
level = ["id", "price", "size"]
id = "id"
removed_by = "price"
signed = true
lists_are_whole = true
every = "0s"
""",
        [
            [10092, [[1, 5, 99]]],
            [10092, [[34006738527, 8744.9, 0.25], [34006738528, 8744.9, 0.5], [34006738529, 8745, -1]]],
            [10092, [34006738530, 8745, -2]],
            [10092, [34006738527, 0, 1]],
            [10092, [99, 0, 1]],
        ],
        {"8744.9": "0.50"},
        {"8745": "3"},
    ),
    "deribit": Case(
        "BTC-PERPETUAL",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.params.data"
sequence = { last = "$.change_id", previous = "$.prev_change_id", by = "$.instrument_name" }
[[market.depth]]
from = "book"
shape = "diffs"
symbol = "instrument_name"
level = ["action", "price", "size"]
time = "timestamp"
every = "0s"
""",
        [
            deribit("snapshot", 100, [["new", 5042.34, 30.0], ["new", 5041.94, 20.0]], [["new", 5042.64, 40.0]]),
            deribit("change", 105, [["delete", 5041.94, 0.0], ["change", 5042.34, 1.5]], []),
            deribit("change", 115, [], [["new", 5043, 2]]),
        ],
        {"5042.34": "1.5"},
        {"5042.64": "40.0", "5043": "2"},
        gaps=1,
    ),
    "bitmex": Case(
        "XBTUSD",
        """[source.book]
tcp = "127.0.0.1:0"
add = { symbol = "$.data[0].symbol" }
[[market.depth]]
from = "book"
shape = "diffs"
changes = "data"
id = "id"
action = "action"
actions = { partial = "whole", insert = "set", update = "set", delete = "remove" }
every = "0s"
""",
        [
            bitmex("update", {"id": 5, "side": "Buy", "size": 1}),  # before the partial: to be ignored
            bitmex("partial", {"id": 17999992000, "side": "Sell", "size": 100, "price": 80},
                {"id": 17999993000, "side": "Sell", "size": 20, "price": 70},
                {"id": 17999996000, "side": "Buy", "size": 10, "price": 40}),
            bitmex("update", {"id": 17999996000, "side": "Buy", "size": 5}),
            bitmex("delete", {"id": 17999993000, "side": "Sell"}),
            bitmex("insert", {"id": 17999995500, "side": "Buy", "size": 7, "price": 45.5}),
            bitmex("delete", {"id": 1, "side": "Sell"}),
        ],
        {"40": "5", "45.5": "7"},
        {"80": "100"},
        {"unknown_id": 1},
    ),
    "kraken 1": Case(
        "XBT/USD",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$[1]"
add = { symbol = "$[-1]", b = "$[2].b" }
[[market.depth]]
from = "book"
shape = "diffs"
bids = "b"
asks = "a"
whole_bids = "bs"
whole_asks = "as"
level = ["price", "size"]
source_levels = 2
every = "0s"
""",
        [
            {"event": "heartbeat"},
            [0, {"as": [["5541.30000", "2.50700000", "1534614248.123678"], ["5541.80000", "0.33", "1534614098"]],
                 "bs": [["5541.20000", "1.52900000", "1534614248.765567"]]}, "book-2", "XBT/USD"],
            [0, {"a": [["5541.30000", "0.00000000", "1534614335.345903"],
                       ["5542.00000", "0.4", "1534614335.4", "r"]]},
                {"b": [["5541.10000", "7", "1534614335.5"]], "c": "974942666"}, "book-2", "XBT/USD"],
            [0, {"b": [["5541.15000", "8", "1534614336"]], "c": "1"}, "book-2", "XBT/USD"],
        ],
        {"5541.20000": "1.52900000", "5541.15000": "8"},
        {"5541.80000": "0.33", "5542.00000": "0.4"},
        {"no_row": 1},
    ),
    "bitstamp": Case(
        "btcusd",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.data"
add = { symbol = { at = "$.channel", match = "(?:diff_)?order_book_(.+)" } }
[[market.depth]]
from = "book"
shape = "diffs"
time = "microtimestamp"
every = "0s"
""",
        [
            {"event": "bts:subscription_succeeded", "channel": "diff_order_book_btcusd", "data": {}},
            bitstamp("data", [["38000.01", "0.5"], ["38000.00", "1"]], [["38001.00", "2.00000000"]]),
            bitstamp("data", [["38000.01", "0.00000000"]], [["38003", "0"]]),
        ],
        {"38000.00": "1"},
        {"38001.00": "2.00000000"},
        {"missing_time": 0, "bad_time": 1},
    ),
    "coinbase full": Case(
        "BTC-USD",
        """[source.book]
tcp = "127.0.0.1:0"
[source.book.add]
order = { at = ["$.order_id", "$.maker_order_id"] }
amount = { at = ["$.remaining_size", "$.new_size", "$.size"] }
[[market.depth]]
from = "book"
shape = "levels"
symbol = "product_id"
id = "order"
size = "amount"
actions = { received = "ignore", open = "set", change = "set", match = "reduce", done = "remove" }
every = "0s"
""",
        [
            coinbase("received", order_id="a", size="3", price="200.2", side="buy", order_type="limit"),
            coinbase("open", order_id="a", remaining_size="3.00", price="200.2", side="buy"),
            coinbase("open", order_id="b", remaining_size="1", price="200.20", side="buy"),
            coinbase("open", order_id="c", remaining_size="5.5", price="201", side="sell"),
            coinbase("match", maker_order_id="a", taker_order_id="z", size="0.5", price="200.2", side="buy"),
            coinbase("change", order_id="c", new_size="5.23512", old_size="5.5", price="201", side="sell"),
            coinbase("done", order_id="b", price="200.2", remaining_size="1", reason="canceled", side="buy"),
            coinbase("done", order_id="unknown", reason="filled", side="sell"),
            coinbase("activate", order_id="s"),
        ],
        {"200.2": "2.50"},
        {"201": "5.23512"},
        {"unknown_action": 1},
    ),
    "lobster": Case(
        "AMZN",
        """[source.book]
tcp = "127.0.0.1:0"
format = "csv"
columns = ["time", "event", "id", "size", "price", "side"]
add = { symbol = { value = "AMZN" } }
[[market.depth]]
from = "book"
shape = "levels"
id = "id"
action = "event"
actions = { 1 = "set", 2 = "reduce", 3 = "remove", 4 = "reduce", 5 = "ignore", 6 = "ignore", 7 = "ignore" }
sides = { 1 = "buy", -1 = "sell" }
every = "0s"
""",
        [
            "34200.017459617,5,0,1,2238200,-1",
            "34200.18960767,1,11885113,21,2238100,1",
            "34200.190226476,1,3911376,20,2239600,-1",
            "34200.190226999,1,3911377,5,2239600,-1",
            "34200.372779672,4,11885113,6,2238100,1",
            "34200.375671205,2,3911376,7,2239600,-1",
            "34200.383971366,3,3911377,5,2239600,-1",
            "34200.39,3,1,5,2239600,-1",
            "34200.395,6,-1,18,2239500,-1",
            "34200.4,1,2,\"9",
        ],
        {"2238100": "15"},
        {"2239600": "13"},
        {"not_csv": 1},
    ),
    "a level a line": Case(
        "BTC-PERPETUAL",
        """[source.book]
tcp = "127.0.0.1:0"
format = "csv"
columns = ["exchange", "symbol", "timestamp", "local_timestamp", "is_snapshot", "side", "price", "amount"]
[[market.depth]]
from = "book"
shape = "levels"
size = "amount"
time = "timestamp"
action = "is_snapshot"
actions = { true = "whole", false = "set" }
every = "0s"
""",
        [
            "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
            "deribit,BTC-PERPETUAL,1585699200245000,1585699200355684,true,bid,6400,10",
            "deribit,BTC-PERPETUAL,1585699201000000,1585699201000000,false,ask,6402,3",
            "deribit,BTC-PERPETUAL,1585699202245000,1585699202355684,true,ask,6421.5,18640",
            "deribit,BTC-PERPETUAL,1585699202245000,1585699202355684,true,bid,6399,23820",
            "deribit,BTC-PERPETUAL,1585699203245000,1585699203355684,false,ask,6422.5,38760",
            "deribit,BTC-PERPETUAL,1585699203245000,1585699203355684,false,bid,6398,0",
        ],
        {"6399": "23820"},
        {"6421.5": "18640", "6422.5": "38760"},
        {"unknown_action": 1},
    ),
}  # fmt: skip


def encoded(line: Any) -> bytes:
    return (line if isinstance(line, str) else json.dumps(line)).encode() + b"\n"


@pytest.mark.parametrize("venue", BOOKS)
async def test_books_are_taken_as_they_come(tmp_path: Path, venue: str) -> None:
    case = BOOKS[venue]
    async with running_market(tmp_path, case.settings + DEPTH) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, f"{case.symbol}@depth")
        engine = await market.engine("book")
        client = BookClient()
        for one in case.lines:
            await engine.send_all(encoded(one))
        with trio.fail_after(60):
            while client.sides != {"bids": case.bids, "asks": case.asks}:
                client.take(json.dumps(await next_event(reader)).encode())
        feeds = market.broker.app.feeds
        dropped = {**feeds["book"].dropped, **feeds["market.depth"].dropped}
        assert dropped == {reason: count for reason, count in case.dropped.items() if count}
        assert feeds["book"].gaps == case.gaps
        nursery.cancel_scope.cancel()


TAPES = {
    "bitfinex": Case(
        "BTCUSD",
        """[source.trades]
tcp = "127.0.0.1:0"
row = ["$[2]", "$[1]"]
columns = ["id", "ts", "size", "price"]
add = { symbol = { at = "$[0]", words = { 17470 = "BTCUSD" } } }
[[market.trades]]
from = "trades"
recent = 50
signed = true
every = "0s"
""",
        [
            {"event": "subscribed", "channel": "trades", "chanId": 17470},
            [17470, [[401597395, 1574694478808, 0.005, 7245.3], [401597394, 1574694478807, -0.25, 7245.2]]],
            [17470, "te", [401597396, 1574694478908, -0.1, 7245]],
            [17470, "tu", [401597396, 1574694478908, -0.1, 7245]],
            [17470, "hb"],
        ],
        {"401597394": "sell 0.25 7245.2", "401597395": "buy 0.005 7245.3", "401597396": "sell 0.1 7245"},
    ),
    "kraken 1": Case(
        "XBT/USD",
        """[source.trades]
tcp = "127.0.0.1:0"
row = "$[1]"
columns = ["price", "size", "ts", "side"]
add = { symbol = "$[-1]" }
[[market.trades]]
from = "trades"
recent = 50
id = ""
every = "0s"
""",
        [
            [0, [["5541.20000", "0.15850568", "1534614057.321597", "s", "l", ""],
                 ["6060.00000", "0.02455000", "1534614057.324998", "b", "l", ""]], "trade", "XBT/USD"],
        ],
        {"1": "sell 0.15850568 5541.20000", "2": "buy 0.02455000 6060.00000"},
    ),
    "bitstamp": Case(
        "btcusd",
        """[source.trades]
tcp = "127.0.0.1:0"
kind = "$.event"
row = "$.data"
add = { symbol = { at = "$.channel", match = "live_trades_(.+)" } }
[[market.trades]]
from = "trades"
recent = 50
kind = "trade"
size = "amount_str"
price = "price_str"
side = "type"
sides = { 0 = "buy", 1 = "sell" }
time = "microtimestamp"
every = "0s"
""",
        [
            {"event": "bts:subscription_succeeded", "channel": "live_trades_btcusd", "data": {}},
            {"data": {"id": 215, "timestamp": "1643643584", "amount": 0.1, "amount_str": "0.10000000",
                      "price": 38000.5, "price_str": "38000.50", "type": 1, "microtimestamp": "1643643584684047"},
             "channel": "live_trades_btcusd", "event": "trade"},
        ],
        {"215": "sell 0.10000000 38000.50"},
    ),
    "a file of trades": Case(
        "BTCUSDT",
        """[source.trades]
tcp = "127.0.0.1:0"
format = "csv"
columns = ["id", "price", "size", "", "", "ts", "side"]
add = { symbol = { value = "BTCUSDT" } }
[[market.trades]]
from = "trades"
recent = 50
sides = { True = "sell", False = "buy" }
every = "0s"
""",
        [
            "26129,0.01633102,4.70443515,27781,27781,1498793709153,True,True",
            "26130,0.01633103,1,27782,27783,1498793709154,False,True",
        ],
        {"26129": "sell 4.70443515 0.01633102", "26130": "buy 1 0.01633103"},
    ),
    "a trade whose taker nobody knows": Case(
        "btcusdt",
        """[source.trades]
tcp = "127.0.0.1:0"
format = "csv"
columns = ["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"]
[[market.trades]]
from = "trades"
recent = 50
size = "amount"
time = "timestamp"
every = "0s"
""",
        [
            "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
            "binance,btcusdt,1585699200245000,1585699200355684,21,buy,6421.5,0.000000000000000001",
            "binance,btcusdt,1585699200246000,1585699200355684,22,sell,6421.5,0",
            "binance,btcusdt,1585699200246000,1585699200355684,22,sell,6421.50,123456789012345678",
            "binance,btcusdt,1585699200247000,1585699200355684,23,unknown,-37.63,1e-3",
        ],
        {"21": "buy 0.000000000000000001 6421.5", "22": "sell 123456789012345678 6421.50", "23": "none 0.001 -37.63"},
        dropped={"bad_size": 1, "not_a_number": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("venue", TAPES)
async def test_trades_are_taken_as_they_come(tmp_path: Path, venue: str) -> None:
    case = TAPES[venue]
    async with running_market(tmp_path, case.settings + TRADES) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, f"{case.symbol}@trades")
        engine = await market.engine("trades")
        for one in case.lines:
            await engine.send_all(encoded(one))
        told: dict[str, str] = {}
        while len(told) < len(case.bids):
            for one in await next_event(reader):
                told[str(one["id"])] = f"{one.get('side', 'none')} {one['size']} {one['price']}"
        assert told == case.bids
        if case.dropped:
            assert market.broker.app.feeds["market.trades"].dropped == case.dropped
        nursery.cancel_scope.cancel()


async def test_rows_of_arrays_go_to_routes_as_objects(tmp_path: Path) -> None:
    settings = """[[listener]]
port = 0
[source.trades]
tcp = "127.0.0.1:0"
columns = ["symbol", "price", "", "taker"]
[[mqtt.route]]
from = "trades"
topics = "rows/{symbol}"
"""
    lines: tuple[Any, ...] = ([["X", 1], ["x"], 5], 5, "x", [], [["X", 1.50, 7, None, "é"], ["Y"]])
    text = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        rows = market.broker.subscribe("rows/#")
        engine = await market.engine("trades")
        nursery.start_soon(engine.send_all, text)
        with trio.fail_after(60):
            told = [json.loads((await anext(rows)).payload) for _ in range(2)]
        assert told == [{"symbol": "X", "price": "1.5", "taker": None}, {"symbol": "Y"}]
        assert market.broker.app.feeds["trades"].dropped == {"not_an_object": 1, "no_row": 2}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('row = "$[x]"', "places in arrays"),
        ('row = "$.a[01]"', "places in arrays"),
        ('row = "$[-0]"', "places in arrays"),
        ('add = { a = { at = "$.a", match = "(" } }', "no regular expression"),
        ('add = { a = { at = "$.a", match = "a" } }', "one group"),
        ('add = { a = { at = [] } }', "a path is wanted"),
        ('add = { a = { at = "$.a", value = "b" } }', "a path is wanted"),
        ('add = { a = { match = "(a)" } }', "a path is wanted"),
        ('format = "xml"', "json or csv|xml"),
        ('format = "csv"', "columns is missing"),
        ('format = "csv"\ncolumns = ["a"]\nrow = "$.a"', "without row or kind"),
    ],
)  # fmt: skip
def test_mistakes_in_how_rows_are_held_name_their_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"rowcast.toml:[34]: .*({said})"):
        load_text(tmp_path, f'[source.x]\ntcp = "127.0.0.1:0"\n{text}\n')


@pytest.mark.parametrize("text", ['columns = ["a"]', 'format = "csv"', 'row = ["$.a", "$.b"]'])
def test_rows_of_postgres_are_objects(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"rowcast.toml:3: .*only for tcp"):
        load_text(tmp_path, f'[source.x]\nlisten = "x"\n{text}\n')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('actions = { a = "b" }', "whole"),
        ('level = ["price"]', "level: size is missing"),
        ('level = ["a", "b"]', "level: price is missing"),
    ],
)  # fmt: skip
def test_mistakes_in_what_levels_are_name_their_line(tmp_path: Path, text: str, said: str) -> None:
    source = '[source.x]\ntcp = "127.0.0.1:0"\n[[market.depth]]\nfrom = "x"\n'
    with pytest.raises(ConfigError, match=rf"rowcast.toml:5: .*{said}"):
        load_text(tmp_path, source + text + "\n")


def load_text(folder: Path, text: str) -> None:
    path = folder / "rowcast.toml"
    path.write_text(text)
    load(path, {})
