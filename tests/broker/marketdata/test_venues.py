"""Messages of public feeds as they come: rows in arrays, with something around them that they need.

Each case is a configuration, lines in the layout of one venue, and the book or the trades that they say.
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

DEPTH_ROUTE = '[[websocket.route]]\nfrom = "market.depth"\nchannel = "{symbol}@depth"\n'
TRADES_ROUTE = '[[websocket.route]]\nfrom = "market.trades"\nchannel = "{symbol}@trades"\n'


@attrs.frozen
class BookCase:
    symbol: str
    settings: str
    lines: list[Any]
    bids: dict[str, str]
    asks: dict[str, str]
    repeated: int = 0
    gaps: int = 0


def bybit(kind: str, number: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": number, "seq": 7961638724 + number}
    return {
        "topic": "orderbook.50.BTCUSDT",
        "type": kind,
        "ts": 1672304484978,
        "data": data,
        "cts": 1672304484976,
    }


def okx(
    action: str, previous: int, number: int, bids: list[list[str]], asks: list[list[str]]
) -> dict[str, Any]:
    data = {"asks": asks, "bids": bids, "ts": "1597026383085", "checksum": -855196043}
    data |= {"prevSeqId": previous, "seqId": number}
    return {"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [data]}


def advanced(number: int, *events: tuple[str, list[tuple[str, str, str]]]) -> dict[str, Any]:
    at = "2023-02-09T20:32:50.714964855Z"
    told = [
        {"type": kind, "product_id": "BTC-USD", "updates": [
            {"side": side, "event_time": at, "price_level": price, "new_quantity": size}
            for side, price, size in updates
        ]} for kind, updates in events
    ]  # fmt: skip
    return {"channel": "l2_data", "client_id": "", "timestamp": at, "sequence_num": number, "events": told}


def kraken(kind: str, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "symbol": "MATIC/USD",
        "checksum": 2439117997,
        "timestamp": "2023-10-06T17:35:55.440295Z",
    }
    for name, levels in (("bids", bids), ("asks", asks)):
        data[name] = [{"price": price, "qty": size} for price, size in levels]
    return {"channel": "book", "type": kind, "data": [data]}


BOOKS = {
    "bybit": BookCase(
        "BTCUSDT",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.data"
add = { type = "$.type", ts = "$.ts" }
sequence = { last = "$.u", by = "$.s" }
[[market.depth]]
from = "book"
shape = "diffs"
symbol = "s"
bids = "b"
asks = "a"
time = "ts"
every = "0s"
""",
        [
            bybit("snapshot", 5, [["16493.50", "0.006"], ["16493.00", "0.100"]], [["16611.00", "0.029"]]),
            bybit("delta", 6, [["16493.00", "0"]], [["16612.50", "0.2"]]),
            bybit("delta", 6, [["16493.00", "9"]], []),
            {"op": "pong"},
        ],
        {"16493.50": "0.006"},
        {"16611.00": "0.029", "16612.50": "0.2"},
        repeated=1,
    ),
    "okx": BookCase(
        "BTC-USDT",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.data"
add = { type = "$.action", symbol = "$.arg.instId" }
sequence = { last = "$.seqId", previous = "$.prevSeqId", by = "$.symbol" }
[[market.depth]]
from = "book"
shape = "diffs"
every = "0s"
time = "ts"
""",
        [
            okx("snapshot", -1, 123456, [["8476.97", "256", "0", "12"]],
                [["8476.98", "415", "0", "13"], ["8477", "7", "0", "2"]]),
            okx("update", 123456, 123460, [["8475.55", "101", "0", "1"]], [["8477", "0", "0", "0"]]),
            okx("update", 123470, 123480, [["8475.54", "5", "0", "1"]], []),
        ],
        {"8476.97": "256", "8475.55": "101", "8475.54": "5"},
        {"8476.98": "415"},
        gaps=1,
    ),
    "coinbase": BookCase(
        "BTC-USD",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.events"
add = { number = "$.sequence_num", at = "$.timestamp" }
sequence = "$.number"
[[market.depth]]
from = "book"
shape = "diffs"
symbol = "product_id"
changes = "updates"
sides = { bid = "buy", offer = "sell" }
price = "price_level"
size = "new_quantity"
time = "at"
every = "0s"
""",
        [
            advanced(0, ("snapshot", [
                ("bid", "21921.73", "0.06317902"), ("bid", "21921.3", "0.02"), ("offer", "21921.74", "0.1"),
            ])),
            advanced(1, ("update", [("bid", "21921.3", "0")]), ("update", [("offer", "21922.00", "1.5")])),
        ],
        {"21921.73": "0.06317902"},
        {"21921.74": "0.1", "21922.00": "1.5"},
    ),
    "kraken": BookCase(
        "MATIC/USD",
        """[source.book]
tcp = "127.0.0.1:0"
row = "$.data"
add = { type = "$.type" }
[[market.depth]]
from = "book"
shape = "diffs"
size = "qty"
source_levels = 2
every = "0s"
""",
        [
            {"channel": "heartbeat"},
            kraken("snapshot", [(0.5666, 4831.75496356), (0.5665, 6658.22734739)],
                [(0.5668, 4410.79769741), (0.5669, 1.0)]),
            kraken("update", [(0.5667, 10.0)], []),  # 0.5665 is no more told of
            kraken("update", [(0.5667, 0.0), (0.5664, 3.5)], [(0.56681, 2e-05)]),
        ],
        {"0.5666": "4831.75496356", "0.5664": "3.5"},
        {"0.5668": "4410.79769741", "0.56681": "0.00002"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("venue", BOOKS)
async def test_books_are_taken_as_they_come(tmp_path: Path, venue: str) -> None:
    case = BOOKS[venue]
    async with (
        running_market(tmp_path, case.settings + DEPTH_ROUTE) as market,
        trio.open_nursery() as nursery,
    ):
        reader = await market.connect(nursery, f"{case.symbol}@depth")
        engine = await market.engine("book")
        client = BookClient()
        for row in case.lines:
            await engine.send_all(json.dumps(row).encode() + b"\n")
        with trio.fail_after(60):
            while client.sides != {"bids": case.bids, "asks": case.asks}:
                client.take(json.dumps(await next_event(reader)).encode())
        status = market.broker.app.feeds["book"]
        assert (status.repeated, status.gaps) == (case.repeated, case.gaps)
        nursery.cancel_scope.cancel()


async def test_several_trades_of_one_message_are_one_transaction(tmp_path: Path) -> None:
    settings = """[source.trades]
tcp = "127.0.0.1:0"
row = "$.data"
kind = "$.channel"
[[market.trades]]
from = "trades"
recent = 50
kind = "trade"
size = "qty"
id = "trade_id"
time = "timestamp"
every = "0s"
"""
    data = [
        {"symbol": "MATIC/USD", "side": side, "price": price, "qty": 40.0, "trade_id": id, "timestamp": at}
        for id, side, price, at in (
            (1, "sell", 0.5117, "2023-09-25T07:49:37.708706Z"), (2, "buy", 0.5118, "2023-09-25T07:49:38Z"),
        )
    ]  # fmt: skip
    async with running_market(tmp_path, settings + TRADES_ROUTE) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, "MATIC/USD@trades")
        engine = await market.engine("trades")
        for row in (
            {"channel": "ticker", "data": data},
            {"channel": "trade", "data": []},
            {"channel": "trade", "data": [1]},
            {"channel": "trade", "data": 5},
            {"channel": None, "data": data},
            {"channel": "trade", "type": "update", "data": data},
        ):
            await engine.send_all(json.dumps(row).encode() + b"\n")
        told = await next_event(reader)
        assert [(one["id"], one["price"], one["size"], one["ts"]) for one in told] == [
            (1, "0.5117", "40.0", 1695628177708),
            (2, "0.5118", "40.0", 1695628178000),
        ]
        status = market.broker.app.feeds["trades"]
        assert status.dropped == {"not_an_object": 2, "no_kind": 1}
        assert status.received == 2 + 3 + 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[source.x]\nlisten = "x"\nadd = { a = "$.a" }\n', "add: only for tcp, udp and mqtt"),
        ('[source.x]\nquery = "SELECT 1 AS a"\nkey = "a"\nadd = { a = "$.a" }\n', "add: only for"),
        ('[source.x]\ntcp = "127.0.0.1:0"\nadd = { a = "a" }\n', "and keys with a point"),
        ('[source.x]\ntcp = "127.0.0.1:0"\nadd = "$.a"\n', "add"),
        ('[source.x]\ntcp = "127.0.0.1:0"\n[[market.depth]]\nfrom = "x"\nsource_levels = -1\n', "source_levels: "),
    ],
)  # fmt: skip
def test_mistakes_name_their_line(tmp_path: Path, text: str, said: str) -> None:
    from broker.config.model import ConfigError
    from broker.config.toml.configuration import load

    path = tmp_path / "rowcast.toml"
    path.write_text('[database]\ndsn = "host=x"\n' + text)
    with pytest.raises(ConfigError, match=rf"rowcast.toml:[3-7]: .*{said}"):
        load(path, {})
