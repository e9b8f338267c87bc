"""Public market data in the forms in which exchanges publish it, word for word from their documents."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import trio
from support.market import BookClient
from support.markets import next_event, running_market

BINANCE = """
[source.book]
tcp = "127.0.0.1:0"
sequence = { first = "$.U", last = "$.u", by = "$.s" }

[source.trades]
tcp = "127.0.0.1:0"

[[market.depth]]
from = "book"
shape = "diffs"
symbol = "s"
bids = "b"
asks = "a"
time = "E"
every = "0s"

[[market.trades]]
from = "trades"
recent = 50
symbol = "s"
price = "p"
size = "q"
side = "m"
sides = { true = "sell", false = "buy" }
id = "t"
time = "T"
every = "0s"

[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
"""


def depth_update(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    row: dict[str, Any] = {"e": "depthUpdate", "E": 1672515782136, "s": "BNBBTC", "U": first, "u": last}
    return row | {"b": bids, "a": asks}


async def test_binance_depth_diffs_and_trades_are_taken_as_they_are(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"type": "snapshot", "s": "BNBBTC", "u": 160, "E": 1672515782000}
        | {"b": [["0.0024", "10"], ["0.0020", "1"]], "a": [["0.0026", "100"]]},
        depth_update(150, 160, [["0.0024", "99"]], []),  # known already
        depth_update(157, 163, [["0.0024", "7"]], [["0.0026", "0.00000000"], ["0.0027", "5"]]),
        depth_update(164, 164, [["0.0023", "3"]], []),
        depth_update(170, 171, [["0.0020", "0"]], []),  # 165 to 169 are missing
    ]
    trade: dict[str, Any] = {"e": "trade", "E": 1672515782136, "s": "BNBBTC", "t": 12345}
    trade |= {"p": "0.001", "q": "100", "T": 1672515782136, "m": True, "M": True}
    async with running_market(tmp_path, BINANCE) as market, trio.open_nursery() as nursery:
        book, trades = await market.engine("book"), await market.engine("trades")
        reader = await market.connect(nursery, "BNBBTC@depth")
        client = BookClient()
        for row in lines:
            await book.send_all(json.dumps(row).encode() + b"\n")
        with trio.fail_after(60):
            while client.sides["bids"] != {"0.0024": "7", "0.0023": "3"}:
                client.take(json.dumps(await next_event(reader)).encode())
        assert client.sides["asks"] == {"0.0027": "5"}
        status = market.broker.app.feeds["book"]
        assert (status.repeated, status.gaps, status.dropped) == (1, 1, {})
        of_trades = await market.connect(nursery, "BNBBTC@trades")
        for row in (trade, trade | {"t": 12346, "m": False}, trade | {"t": 12347, "m": "maybe"}):
            await trades.send_all(json.dumps(row).encode() + b"\n")
        told: list[Any] = []
        while len(told) < 2:
            told += await next_event(of_trades)
        assert [(one["id"], one["side"], one["ts"]) for one in told] == [
            (12345, "sell", 1672515782136),
            (12346, "buy", 1672515782136),
        ]
        assert market.broker.app.feeds["market.trades"].dropped == {"bad_side": 1}
        nursery.cancel_scope.cancel()


COINBASE = """
[source.book]
tcp = "127.0.0.1:0"
[source.matches]
tcp = "127.0.0.1:0"
sequence = { last = "$.sequence", previous = "$.none" }

[[market.depth]]
from = "book"
shape = "diffs"
symbol = "product_id"
every = "0s"

[[market.trades]]
from = "matches"
recent = 50
symbol = "product_id"
sides = { buy = "sell", sell = "buy" }     # theirs is the maker's
id = "trade_id"
time = "time"
every = "0s"

[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
[[websocket.route]]
from = "market.trades"
channel = "{symbol}@trades"
"""


async def test_coinbase_snapshots_changes_and_matches_are_taken_as_they_are(tmp_path: Path) -> None:
    book_lines: list[dict[str, Any]] = [
        {"type": "snapshot", "product_id": "BTC-USD"}
        | {"bids": [["10101.10", "0.45054140"]], "asks": [["10102.55", "0.57753524"]]},
        {"type": "l2update", "product_id": "BTC-USD", "time": "2019-08-14T20:42:27.265Z"}
        | {"changes": [["buy", "10101.80000000", "0.162567"], ["sell", "10102.55", "0.00000000"]]},
        {"type": "snapshot", "product_id": "BTC-USD"}  # after a reconnect: what isn't in it is gone
        | {"bids": [["10101.10", "0.2"]], "asks": [["10103.00", "1"]]},
    ]
    match: dict[str, Any] = {"type": "match", "trade_id": 10, "sequence": 50, "product_id": "BTC-USD"}
    match |= {"maker_order_id": "ac928c66-ca53-498f-9c13-a110027a60e8", "time": "2014-11-07T08:19:27.028459Z"}
    match |= {"size": "5.23512", "price": "400.23", "side": "sell"}
    async with running_market(tmp_path, COINBASE) as market, trio.open_nursery() as nursery:
        book, matches = await market.engine("book"), await market.engine("matches")
        reader = await market.connect(nursery, "BTC-USD@depth")
        client = BookClient()
        for row in book_lines:
            await book.send_all(json.dumps(row).encode() + b"\n")
        with trio.fail_after(60):
            while client.sides["asks"] != {"10103.00": "1"}:
                client.take(json.dumps(await next_event(reader)).encode())
        assert client.sides["bids"] == {"10101.10": "0.2"}
        of_trades = await market.connect(nursery, "BTC-USD@trades")
        await matches.send_all(json.dumps(match).encode() + b"\n")
        [told] = await next_event(of_trades)
        assert (told["side"], told["size"], told["ts"]) == ("buy", "5.23512", 1415348367028)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('sequence = { last = "$.u", first = "$.U", previous = "$.pu" }', "one of first and previous"),
        ('sequence = { first = "$.U" }', "last is missing"),
        ("sequence = 5", "a table is wanted"),
        ('sequence = { last = "u" }', "$ and keys"),
        ('sequence = { last = "$.u", of = "$.s" }', "unknown key of"),
    ],
)
def test_mistakes_in_a_sequence_name_their_line(tmp_path: Path, written: str, said: str) -> None:
    from broker.config.model import ConfigError
    from broker.config.toml.configuration import load

    path = tmp_path / "rowcast.toml"
    path.write_text(BINANCE.replace('sequence = { first = "$.U", last = "$.u", by = "$.s" }', written))
    with pytest.raises(ConfigError, match=f"rowcast.toml:4: .*{said.replace('$', '.')}"):
        load(path, {})


FETCHED = """
[source.book]
tcp = "127.0.0.1:0"
add = { number = { at = ["$.u", "$.lastUpdateId"] } }
sequence = { first = "$.U", last = "$.number", by = "$.s" }

[[market.depth]]
from = "book"
shape = "diffs"
symbol = "s"
bids = "b"
asks = "a"
whole_bids = "bids"
whole_asks = "asks"
every = "0s"

[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""


class Recording:
    """What somebody recorded of one symbol: changes, of which some are missing, and snapshots that came late."""

    def __init__(self, symbol: str, rng: random.Random) -> None:
        self.symbol = symbol
        self.rng = rng
        self.number = rng.randint(1, 10**12)
        self.sides: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        self.lines: list[dict[str, Any]] = []
        self.gaps = 0
        self.changes(rng.randint(0, 5))
        for part in range(rng.randint(1, 4)):
            self.fetched()
            self.changes(rng.randint(1, 9))
            if part == 0 or rng.random() < 0.5:
                self.changes(1)
                self.lines += rng.sample(
                    self.lines, min(2, len(self.lines))
                )  # come twice, snapshots among them
            self.changes(1)
            self.lines.pop()  # is missing
            self.changes(1)
            self.gaps += 1
        self.fetched()
        self.changes(1)

    def changes(self, count: int) -> None:
        for _ in range(count):
            update = depth_update(self.number + 1, self.number, [], []) | {"s": self.symbol}
            for _ in range(self.rng.randint(1, 5)):
                self.change(update)
            self.lines.append(update)

    def change(self, update: dict[str, Any]) -> None:
        side = self.rng.choice("ba")
        price = str((100 if side == "b" else 200) + self.rng.randint(0, 20))
        size = self.rng.choice(("0", "1.50", "2"))
        self.sides[side].pop(price, None)
        if size != "0":
            self.sides[side][price] = size
        self.number += 1
        update["u"] = self.number
        update[side] = [level for level in update[side] if level[0] != price] + [[price, size]]

    def fetched(self) -> None:
        """A snapshot as it is between two changes of one message, perhaps, and changes that came before it did."""
        update = depth_update(self.number + 1, self.number, [], []) | {"s": self.symbol}
        snapshot: dict[str, Any] = {}
        for _ in range(self.rng.randint(1, 3)):
            self.change(update)
            if not snapshot or self.rng.random() < 0.5:
                snapshot = {"s": self.symbol, "lastUpdateId": self.number}
                snapshot |= {"bids": list(map(list, self.sides["b"].items()))}
                snapshot |= {"asks": list(map(list, self.sides["a"].items()))}
        self.lines.append(update)
        self.changes(self.rng.randint(0, 6))
        self.lines.append(snapshot)


async def test_a_snapshot_that_was_fetched_meanwhile_takes_its_place(tmp_path: Path) -> None:
    """Binance's rule: what came before the snapshot did is applied to it, as far as it is newer."""
    recordings = [Recording(f"S{seed}", random.Random(seed)) for seed in range(30)]
    async with running_market(tmp_path, FETCHED) as market, trio.open_nursery() as nursery:
        book = await market.engine("book")
        for one in recordings:
            await book.send_all(b"".join(json.dumps(line).encode() + b"\n" for line in one.lines))
        for one in recordings:
            reader = await market.connect(nursery, f"{one.symbol}@depth")
            client = BookClient()
            with trio.fail_after(60):
                while client.sides != {"bids": one.sides["b"], "asks": one.sides["a"]}:
                    client.take(json.dumps(await next_event(reader)).encode())
        status = market.broker.app.feeds["book"]
        assert status.gaps == sum(one.gaps for one in recordings)
        assert not status.dropped
        nursery.cancel_scope.cancel()
