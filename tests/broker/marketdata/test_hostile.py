"""What peers send that is no row costs itself, is counted, and changes nothing of what comes behind it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import trio
from support.markets import RunningMarket, line, next_event, running_market

SETTINGS = """
[[listener]]
port = 0
[source.tcp]
tcp = "127.0.0.1:0"
[source.udp]
udp = "127.0.0.1:0"
[source.mqtt]
mqtt = "engine/+"
"""
CALCULATOR = """
[[market.depth]]
from = "{kind}"
shape = "levels"
every = "0s"
[[market.kline]]
from = "{kind}"
id = ""
time = ""
intervals = ["1m"]
[[websocket.route]]
from = "market.depth"
channel = "{{symbol}}@depth"
[[websocket.route]]
from = "market.kline"
channel = "{{symbol}}@kline"
"""
UNUSED = '[[mqtt.route]]\nfrom = "{kind}"\ntopics = "elsewhere/{{symbol}}"\n'

ROW = {"symbol": "X", "side": "bid", "price": "1", "size": "1"}
HOSTILE = [
    b"", b"{", b"}", b"null", b"1", b'"text"', b"\x00", b"\xff\xfe", b'{"symbol":"X\\u0000"}', b"[" * 5000, b"[]",
    b'{"symbol":"X","side":"bid","price":NaN,"size":1}', b'{"symbol":"X","side":"bid","price":Infinity,"size":1}',
    b'{"symbol":"X","side":"bid","price":1e9999999999999999999,"size":1}', b'{"symbol":"\xff","side":"bid"}',
    b'{"symbol":"X","side":"bid","price":1,"size":-1}', b'{"symbol":"X","side":"bid","price":"\xd9\xa1","size":1}',
    b'{"symbol":{"a":[1]},"side":"bid","price":1,"size":1}', b'{"symbol":"X","side":["bid"],"price":1,"size":1}',
    b'{"symbol":"X","side":"bid","price":{"a":1},"size":[1]}', b'{"symbol":"' + b"X" * 5000 + b'","price":1}',
    b'{"symbol":"X","side":"bid","price":"' + b"9" * 30_000 + b'","size":1}', b"not json", b"{}", b"[1,[2],null]",
    b'{"symbol":"\\ud800","side":"bid","price":1,"size":1}', b'{"symbol":"X","side":"bid","price":"","size":""}',
    b'{"symbol":"X","side":"bid","price":"1_0","size":"1"}', b'{"symbol":"X","side":"bid","price":" 1","size":"1"}',
    b'{"symbol":"X","side":"bid","price":"0x10","size":"1"}', b'{"symbol":"X","side":"bid","price":true,"size":1}',
]  # fmt: skip


async def send(market: RunningMarket, kind: str, messages: list[bytes]) -> None:
    if kind == "tcp":
        stream = await market.engine("tcp")
        await stream.send_all(b"\n".join(messages) + b"\n")
        await stream.send_all(b'{"half of a ')
        await stream.aclose()
    elif kind == "udp":
        port = await market.source_port("udp")
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            for message in messages:
                await sock.sendto(message, ("127.0.0.1", port))
    else:
        for message in messages:
            await market.broker.publish("engine/x", message)


@pytest.mark.parametrize("kind", ["tcp", "udp", "mqtt"])
async def test_what_is_no_row_costs_itself_by_every_source(tmp_path: Path, kind: str) -> None:
    rng = random.Random(kind)
    others = [other for other in ("tcp", "udp", "mqtt") if other != kind]
    settings = SETTINGS + CALCULATOR.format(kind=kind) + "".join(UNUSED.format(kind=one) for one in others)
    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, "X@depth")
        sizes = []
        for number in range(1, 4):
            messages = rng.sample(HOSTILE, len(HOSTILE))
            await send(market, kind, [*messages, json.dumps({**ROW, "size": str(number)}).encode()])
            sizes.append((await next_event(reader, "X@depth"))["bids"])
        assert sizes == [[["1", "1"]], [["1", "2"]], [["1", "3"]]]
        feeds = market.broker.app.feeds
        dropped = {**feeds[kind].dropped, **feeds["market.depth"].dropped}
        assert dropped["number_too_long"] >= 3
        assert dropped["negative_size"] == 3
        assert sum(feeds[kind].dropped.values()) >= 30
        nursery.cancel_scope.cancel()


async def test_numbers_without_order_and_numbers_that_are_none_are_counted(tmp_path: Path) -> None:
    settings = """
[[listener]]
port = 0
[source.book]
tcp = "127.0.0.1:0"
sequence = "$.u"
[[market.depth]]
from = "book"
shape = "levels"
every = "0s"
[[websocket.route]]
from = "market.depth"
channel = "{symbol}@depth"
"""
    async with running_market(tmp_path, settings) as market, trio.open_nursery() as nursery:
        reader = await market.connect(nursery, "X@depth")
        engine = await market.engine("book")
        numbers = [1, 2, 2, 5, -1, "x", None, 1.5, 10**30, 4, 6]
        await engine.send_all(
            b"".join(line(**{**ROW, "size": str(i + 1)}, u=number) for i, number in enumerate(numbers))
        )
        found = ""
        while found != "11":
            [(_, found)] = (await next_event(reader, "X@depth"))["bids"]
        status = market.broker.app.feeds["book"]
        assert status.repeated == 1
        assert status.dropped["no_sequence"] == 5
        assert status.gaps >= 1
        nursery.cancel_scope.cancel()
