"""CantonDEX's market data, calculated: the document's two events over a real connection, at once and at an interval."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import jwt
import trio
import trio_websocket
from support.canton_examples import EXAMPLES
from support.markets import RunningMarket, line, running_market

SECRET = "0123456789012345678901234567890123456789"
LISTENERS = f"""
[[listener]]
port = 0
protocol = "websockets"
dialects = ["canton"]
[websocket.canton]
jwt = {{ secret = "{SECRET}", account = "account_id", roles = "roles" }}
"""
SETTINGS = """
[source.book]
tcp = "127.0.0.1:0"
[source.trades]
tcp = "127.0.0.1:0"
[[market.depth]]
from = "book"
shape = "diffs"
every = "0s"
time = "ts"
[[market.trades]]
from = "trades"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "market_data/{symbol}"
[[websocket.route]]
from = "market.price"
channel = "market_data/{symbol}"
[[listener]]
port = 0
[[mqtt.route]]
from = "market.trades"
topics = "trades/{symbol}"
"""
AT_MS = 1_731_861_045_000
"""2024-11-17T16:30:45Z"""


async def reader(
    market: RunningMarket, nursery: trio.Nursery, **more: object
) -> trio_websocket.WebSocketConnection:
    ws = await trio_websocket.connect_websocket(nursery, "127.0.0.1", market.port, "/v1/ws", use_ssl=False)
    token = jwt.encode({"account_id": "acc_1", "roles": []}, SECRET, algorithm="HS256")
    request = {"type": "subscribe", "channel": "market_data", "symbols": ["AAPL/USDC"], **more}
    for text in ({"type": "auth", "token": token}, request):
        await ws.send_message(json.dumps(text))
        assert json.loads(await ws.get_message())["status"] in ("authenticated", "subscribed")
    return ws


async def next_of(ws: trio_websocket.WebSocketConnection, kind: str) -> Any:
    with trio.fail_after(60):
        while True:
            message = json.loads(await ws.get_message(), parse_float=Decimal)
            if message["type"] == kind:
                return message


def book(bids: list[list[str]], asks: list[list[str]]) -> bytes:
    return line(symbol="AAPL/USDC", bids=bids, asks=asks, ts=AT_MS)


async def test_the_documents_events_are_calculated_word_for_word(tmp_path: Path) -> None:
    wanted_price = json.loads(EXAMPLES["Market Data Stream: Price Update Event"], parse_float=Decimal)
    wanted_book = json.loads(EXAMPLES["Market Data Stream: Order Book Update Event"], parse_float=Decimal)
    async with (
        running_market(tmp_path, SETTINGS, listeners=LISTENERS) as market,
        trio.open_nursery() as nursery,
    ):
        ws = await reader(market, nursery)
        books, trades = await market.engine("book"), await market.engine("trades")
        await books.send_all(book([["150.40", "10"]], []))
        first = await next_of(ws, "orderbook_update")
        assert first["snapshot"] is True
        await books.send_all(book([["150.45", "5000"], ["150.40", "0"]], [["150.50", "4500"]]))
        update = await next_of(ws, "orderbook_update")
        assert (update.pop("prev"), update.pop("seq")) == (first["seq"], first["seq"] + 1)
        assert update == wanted_book
        await next_of(ws, "price_update")
        await trades.send_all(line(symbol="AAPL/USDC", id=1, price="150.48", size="1", side="buy", ts=AT_MS))
        assert await next_of(ws, "price_update") == wanted_price
        late = await reader(market, nursery)
        state = [json.loads(await late.get_message(), parse_float=Decimal) for _ in range(2)]
        assert {one["type"] for one in state} == {"price_update", "orderbook_update"}
        assert wanted_price in state
        nursery.cancel_scope.cancel()


async def test_at_an_interval_it_is_the_merged_book_without_a_hole(tmp_path: Path) -> None:
    async with (
        running_market(tmp_path, SETTINGS, listeners=LISTENERS) as market,
        trio.open_nursery() as nursery,
    ):
        books = await market.engine("book")
        await books.send_all(book([["1", "1"]], []))
        ws = await reader(market, nursery, aggregation="200ms")
        every = await reader(market, nursery)
        model: dict[Decimal, Decimal] = {}
        messages, seq = 0, 0
        for number in range(2, 40):
            await books.send_all(book([[str(number), str(number)], [str(number - 1), "0"]], []))
        await books.send_all(book([["99", "1"]], []))
        all_of_it = 0
        while True:
            message = await next_of(every, "orderbook_update")
            all_of_it += 1
            if any(level["price"] == 99 for level in message["changes"]["bids"]):
                break
        while 99 not in model:
            message = await next_of(ws, "orderbook_update")
            messages += 1
            if message.get("snapshot"):
                model.clear()
            else:
                assert message["prev"] == seq
            seq = message["seq"]
            for level in message["changes"]["bids"]:
                if level["quantity"]:
                    model[level["price"]] = level["quantity"]
                else:
                    model.pop(level["price"], None)
        assert model == {Decimal(39): 39, Decimal(99): 1}
        assert messages <= all_of_it
        nursery.cancel_scope.cancel()
