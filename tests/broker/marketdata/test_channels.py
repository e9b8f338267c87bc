"""Calculated channels over real connections: state first, slow readers, gaps, hostile input, the page.

Goal: invariants 1, 2, 12 and 13.
"""

from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path

import jwt
import trio
from support.market import BookClient
from support.markets import SECRET, Faulty, line, next_event, running_market, slow_reader
from support.polling import until
from support.websockets import closed_with

DEPTH = """
[source.book]
tcp = "127.0.0.1:0"
[[market.depth]]
from = "book"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""


async def test_a_reader_that_joins_gets_the_book_first_and_goes_on_from_it(tmp_path: Path) -> None:
    async with running_market(tmp_path, DEPTH) as market, trio.open_nursery() as nursery:
        engine = await market.engine("book")
        early = await market.connect(nursery, "X@depth")
        await engine.send_all(line(symbol="X", side="bid", price="1.50", size=2))
        first = await next_event(early)
        assert (first["type"], first["bids"]) == ("snapshot", [["1.50", "2"]])
        late = await market.connect(nursery, "X@depth")
        assert await next_event(late) == first
        await engine.send_all(line(symbol="X", side="bid", price="1.5", size="3"))
        for reader in (early, late):
            update = await next_event(reader)
            assert (update["prev"], update["bids"]) == (first["seq"], [["1.50", "3"]])
        nursery.cancel_scope.cancel()


async def test_a_reader_that_stops_reading_ends_with_the_sources_book_and_never_sees_a_hole(
    tmp_path: Path,
) -> None:
    """Changes enough to fill every buffer, a reader that reads nothing meanwhile, and one that reads all."""
    rng = random.Random(3)
    async with running_market(tmp_path, DEPTH) as market, trio.open_nursery() as nursery:
        engine = await market.engine("book")
        quick = await market.connect(nursery, "X@depth")
        slow = await slow_reader(nursery, market, "X@depth")
        model: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}}
        read = {"quick": 0, "slow": 0}

        async def change(count: int) -> None:
            for _ in range(count):
                rows = b""
                for _ in range(50):
                    is_bid = rng.random() < 0.5
                    cents = rng.randint(1, 900)
                    price = Decimal(100_000 - cents if is_bid else 100_000 + cents) / 100
                    size = str(rng.randint(0, 3))
                    rows += line(symbol="X", side="bid" if is_bid else "ask", price=str(price), size=size)
                    side = model["bids" if is_bid else "asks"]
                    side.pop(price, None)
                    if size != "0":
                        side[price] = size
                await engine.send_all(rows)

        async def keep(name: str, ws: object, client: BookClient) -> None:
            while True:
                data = await next_event(ws)  # type: ignore[arg-type]
                client.take(json.dumps(data).encode())
                read[name] += 1

        clients = {"quick": BookClient(), "slow": BookClient()}
        nursery.start_soon(keep, "quick", quick, clients["quick"])
        await change(150)
        await engine.send_all(line(symbol="X", side="bid", price="1", size="7"))
        model["bids"][Decimal(1)] = "7"
        nursery.start_soon(keep, "slow", slow, clients["slow"])
        wanted = {
            "bids": sorted(model["bids"], reverse=True)[:1000],
            "asks": sorted(model["asks"])[:1000],
        }
        with trio.fail_after(150):
            for client in clients.values():
                while any(  # noqa: ASYNC110 - arrivals have no event
                    {Decimal(price): size for price, size in client.sides[side].items()}
                    != {price: model[side][price] for price in wanted[side]}
                    for side in wanted
                ):
                    await trio.sleep(0.01)
        assert read["slow"] < read["quick"]
        nursery.cancel_scope.cancel()


async def test_hostile_lines_cost_themselves_and_are_counted(tmp_path: Path) -> None:
    async with running_market(tmp_path, DEPTH) as market, trio.open_nursery() as nursery:
        engine = await market.engine("book")
        reader = await market.connect(nursery, "X@depth")
        await engine.send_all(
            b"not json\n[1,2]\n{}\n" + b'{"symbol":"X","side":"bid","price":NaN,"size":1}\n'
        )
        await engine.send_all(line(symbol="X", side="bid", price="1e9999999999999999999", size="1"))
        await engine.send_all(b"x" * 10_000_000 + b"\n" + b"[" * 100_000 + b"\n" + b"\xff\xfe\n\n\r\n")
        for piece in (b'{"symbol":"X","si', b'de":"bid","price":"2.0"', b',"size":1}\n'):
            await engine.send_all(piece)
        assert (await next_event(reader))["bids"] == [["2.0", "1"]]
        feeds = market.broker.app.feeds
        assert feeds["book"].dropped == {"not_json": 4, "not_an_object": 1, "line_too_long": 1} or (
            sum(feeds["book"].dropped.values()) == 6
        )
        assert feeds["market.depth"].dropped["number_too_long"] == 1
        assert feeds["market.depth"].dropped["no_symbol"] == 1
        nursery.cancel_scope.cancel()


TRADES = """
[source.trades]
tcp = "127.0.0.1:0"
sequence = "$.seq"
[[market.trades]]
from = "trades"
every = "0s"
[[market.kline]]
from = "trades"
intervals = ["1m", "1h"]
[[market.ticker]]
from = "trades"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
[[websocket.route]]
from = "market.kline"
channel = ["{symbol}@kline", "{symbol}@kline_{interval}"]
[[websocket.route]]
from = "market.ticker"
channel = "{symbol}@ticker"
[[mqtt.route]]
from = "market.kline"
topics = "kline/{symbol}/{interval}"
retain = true
[[mqtt.route]]
from = "trades"
topics = "raw/{symbol}"
"""


def trade(id: int, price: str = "5.0") -> bytes:
    return line(seq=id, symbol="X", id=id, price=price, size="1.5", side="buy", ts=1_700_000_000_000 + id)


MQTT = "[[listener]]\nport = 0\n"


async def test_one_source_feeds_every_calculator_and_ordinary_routes(tmp_path: Path) -> None:
    async with running_market(tmp_path, MQTT + TRADES) as market, trio.open_nursery() as nursery:
        engine = await market.engine("trades")
        reader = await market.connect(nursery, "X@trades", "X@kline", "X@ticker")
        raw = market.broker.subscribe("raw/X")
        nursery.start_soon(engine.send_all, trade(1))
        with trio.fail_after(60):
            assert json.loads((await anext(raw)).payload)["id"] == 1
        assert (await next_event(reader, "X@trades"))[0]["price"] == "5.0"
        late = await market.connect(nursery, "X@kline", "X@kline_1h", "X@ticker", "X@trades")
        seen = [await next_event(late) for _ in range(4)]
        assert [bar.get("interval") for bar in seen] == ["1m", "1h", "1h", None]
        assert {bar["close"] for bar in seen[:3]} == {"5.0"}
        kept = market.broker.subscribe("kline/#")
        with trio.fail_after(60):
            messages = [await anext(kept) for _ in range(2)]
        assert {(one.topic, one.retain) for one in messages} == {("kline/X/1m", True), ("kline/X/1h", True)}
        nursery.cancel_scope.cancel()


async def test_numbers_that_come_twice_are_left_out_and_missing_ones_are_a_gap(tmp_path: Path) -> None:
    async with running_market(tmp_path, MQTT + TRADES) as market, trio.open_nursery() as nursery:
        engine = await market.engine("trades")
        reader = await market.connect(nursery, "X@trades")
        await engine.send_all(trade(1) + trade(2) + trade(2) + trade(7))
        ids = [entry["id"] for _ in range(3) for entry in await next_event(reader)]
        assert ids == [1, 2, 7]
        status = market.broker.app.feeds["trades"]
        assert (status.repeated, status.gaps) == (1, 1)
        nursery.cancel_scope.cancel()


async def test_after_a_gap_books_are_told_anew_and_readers_of_private_rows_are_closed(tmp_path: Path) -> None:
    """Invariant 13, both halves from one source: 4000 means load again."""
    settings = """
[source.engine]
tcp = "127.0.0.1:0"
sequence = "$.seq"
kind = "$.kind"
row = "$.data"
add = { seq = "$.seq" }
[[market.depth]]
from = "engine"
kind = "level"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
[[websocket.route]]
from = "engine"
kind = "order"
channel = "{uid}@order"
"""

    def level(seq: int, size: str) -> bytes:
        return line(seq=seq, kind="level", data={"symbol": "X", "side": "bid", "price": "1", "size": size})

    def order(seq: int) -> bytes:
        return line(seq=seq, kind="order", data={"uid": "1001", "id": seq})

    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        engine = await market.engine("engine")
        public = await market.connect(nursery, "X@depth")
        private = await market.connect(nursery)
        token = jwt.encode({"uid": "1001"}, SECRET, algorithm="HS256")
        for request in ({"op": "auth", "token": token}, {"op": "subscribe", "channel": "@order"}):
            await private.send_message(json.dumps(request))
            assert json.loads(await private.get_message()) == {"result": True}
        await engine.send_all(level(1, "5") + order(2))
        first = await next_event(public)
        assert (await next_event(private, "@order"))["id"] == 2
        await engine.send_all(order(4))  # 3 is missing
        told = await next_event(public)
        assert (told["type"], told["bids"]) == ("snapshot", [["1", "5"]])
        assert told["seq"] > first["seq"]
        with trio.fail_after(100):
            assert await closed_with(private) == 4000
        await engine.send_all(level(5, "6"))
        assert (await next_event(public))["prev"] == told["seq"]
        nursery.cancel_scope.cancel()


async def test_a_calculators_bug_costs_its_own_messages_and_nothing_else(tmp_path: Path) -> None:
    async with running_market(tmp_path, MQTT + TRADES) as market, trio.open_nursery() as nursery:
        market.service.market.running["trades", 0].calculator = Faulty(lambda stream, text: None, 0)
        engine = await market.engine("trades")
        reader = await market.connect(nursery, "X@ticker", "X@kline_1m")
        for number in (1, 2, 5):  # there is a gap, too
            await engine.send_all(trade(number))
        while (await next_event(reader, "X@kline_1m"))["trades"] != 3:
            pass
        assert (await next_event(reader, "X@ticker"))["last"] == "5.0"
        assert market.broker.app.engine.counters.link_bugs > 0
        nursery.cancel_scope.cancel()


async def test_udp_and_mqtt_are_sources_too(tmp_path: Path) -> None:
    settings = """
[[listener]]
port = 0
[source.book]
udp = "127.0.0.1:0"
[source.fills]
mqtt = "engine/+/fills"
[[market.depth]]
from = "book"
shape = "diffs"
every = "0s"
[[market.trades]]
from = "fills"
symbol = "+1"
time = ""
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
"""
    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        port = await market.source_port("book")
        reader = await market.connect(nursery, "X@depth", "X@trades")
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            rows = [
                {"symbol": "X", "bids": [["1", "2"]], "asks": []},
                {"symbol": "X", "bids": [], "asks": [["3", "4"]]},
            ]
            await sock.sendto(json.dumps(rows).encode(), ("127.0.0.1", port))
        book = await next_event(reader, "X@depth")
        assert (book["bids"], book["asks"]) == ([["1", "2"]], [["3", "4"]])
        await market.broker.publish("engine/X/fills", b'{"price":"2.50","size":1,"side":"sell","id":4}')
        assert [entry["price"] for entry in await next_event(reader, "X@trades")] == ["2.50"]
        nursery.cancel_scope.cancel()


async def test_the_page_and_udf_are_served_beside_the_stream(tmp_path: Path) -> None:
    async with running_market(tmp_path, MQTT + TRADES) as market:
        engine = await market.engine("trades")
        await engine.send_all(trade(1, "5.10"))
        await until(lambda: bool(market.broker.app.feeds["market.kline"].published))
        assert b"stream-path" in await get(market.port, "/")
        assert b"createChart" in await get(market.port, "/lightweight-charts.js")
        config = json.loads(await get(market.port, "/udf/config"))
        assert config["supported_resolutions"] == ["1", "60"]
        symbol = json.loads(await get(market.port, "/udf/symbols?symbol=X"))
        assert (symbol["name"], symbol["pricescale"]) == ("X", 100)
        assert [
            one["symbol"] for one in json.loads(await get(market.port, "/udf/search?query=x&limit=5"))
        ] == ["X"]
        bars = await get(market.port, "/udf/history?symbol=X&resolution=60&from=0&to=2000000000")
        assert bars == b'{"s":"ok","t":[1699999200],"o":[5.10],"h":[5.10],"l":[5.10],"c":[5.10],"v":[1.5]}'
        assert (await get(market.port, "/udf/time")).isdigit()
        assert json.loads(await get(market.port, "/udf/history?symbol=Y&resolution=60"))["s"] == "error"
        assert b"426" in await get(market.port, "/elsewhere", head=True)


async def get(port: int, path: str, head: bool = False) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    with trio.fail_after(60):
        async for piece in stream:
            data += piece
    first, _, body = data.partition(b"\r\n\r\n")
    return first if head else body
