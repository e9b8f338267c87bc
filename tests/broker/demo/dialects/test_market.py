"""What a client of the public channels sees of the market, and what of it can't be."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
import trio_websocket
from support.polling import until
from support.said_sql import Rows, SaidSql
from trio.testing import MockClock

from broker import Broker
from broker.demo.clients import HOST
from broker.demo.dialects.market import KINDS, SETTLED_TIMEOUT_S, Engine, MarketWatcher


def depth(
    seq: int, prev: int = 0, bids: tuple[Any, ...] = (), asks: tuple[Any, ...] = (), kind: str = "update"
) -> dict[str, Any]:
    return {"type": kind, "seq": seq, "prev": prev, "bids": bids, "asks": asks}


def trade(first: int, last: int, size: str = "1", price: str = "10") -> dict[str, Any]:
    return {"first": first, "last": last, "size": size, "price": price}


def bar(start: int, closed: bool = False, rev: int = 0) -> dict[str, Any]:
    return {"start": start, "closed": closed, "rev": rev}


def watched(kind: str, *messages: Any) -> MarketWatcher:
    watcher = MarketWatcher(["B"])
    for message in messages:
        watcher.take("B", kind, message)
    return watcher


@pytest.mark.parametrize(
    ("messages", "faults"),
    [
        ([depth(5, kind="snapshot"), depth(6, 5), depth(9, 6)], []),
        ([depth(5, kind="snapshot"), depth(7, 6)], ["B@depth: 6 does not follow 5"]),
        ([depth(6, 5)], ["B@depth: 5 does not follow None"]),
        ([depth(5, kind="snapshot"), depth(9, kind="snapshot"), depth(10, 9)], []),
        ([depth(1, 0, (("10", "1"),), (("11", "1"),), "snapshot")], []),
        ([depth(1, 0, (("11", "1"),), (("11", "1"),), "snapshot")], ["B@depth: a bid meets an ask"]),
        (
            [
                depth(1, 0, (("11", "1"), ("10", "1")), (("12", "1"),), "snapshot"),
                depth(2, 1, (("11", "0"),), (("11", "1"),)),
            ],
            [],
        ),
        ([depth(1, 0, (("11", "1"),), (), "snapshot"), depth(2, 0, (), (), "snapshot")], []),
    ],
)
def test_a_book_follows_its_changes(messages: list[Any], faults: list[str]) -> None:
    assert watched("depth", *messages).faults == faults


@pytest.mark.parametrize(
    ("messages", "faults"),
    [
        ([[trade(0, 2), trade(3, 3)], [trade(5, 9)]], 0),
        ([[trade(1, 2), trade(2, 3)]], 1),
        ([[trade(3, 3)], [trade(3, 3)]], 1),
        ([[trade(5, 4)]], 1),
    ],
)
def test_a_trade_comes_once(messages: list[Any], faults: int) -> None:
    assert len(watched("trades", *messages).faults) == faults


@pytest.mark.parametrize(
    ("bars", "faults"),
    [
        ([bar(0), bar(0, True), bar(60), bar(60, True)], 0),
        ([bar(0, True), bar(0, True)], 1),
        ([bar(0, True), bar(0, True, rev=1)], 0),
        ([bar(0, True, rev=1), bar(0, True)], 0),
    ],
)
def test_a_candle_is_closed_once_and_may_be_corrected(bars: list[Any], faults: int) -> None:
    assert len(watched("kline_1m", *bars).faults) == faults


def test_what_it_does_not_account_for_is_no_fault() -> None:
    assert watched("ticker", {}, {}).faults == []


CANDLE = ("1", "2", "0.5", "1.5", "3", "30", 2)
NAMES = ("open", "high", "low", "close", "volume", "turnover", "trades")


def database(**wrong: Any) -> SaidSql:
    """With the levels, trades and candles that `seen` saw, but for what is said otherwise."""
    levels = wrong.get(
        "levels", [("B", "bid", Decimal(9), Decimal(1)), ("B", "ask", Decimal(11), Decimal(2))]
    )
    trades = wrong.get("trades", [("B", Decimal(3), Decimal(30))])
    candles = wrong.get("candles", [("B", 60000, *CANDLE)])

    def answer(text: str, values: Any) -> Rows:
        found: Rows = levels if "exchange.levels" in text else candles if "date_bin" in text else trades
        return found

    return SaidSql(answer)


def seen() -> MarketWatcher:
    watcher = watched("depth", depth(1, 0, (("9.0", "1"),), (("11", "2.00"),), "snapshot"))
    watcher.take("B", "trades", [trade(1, 1, "1", "10"), trade(2, 3, "2", "10")])
    watcher.take("B", "kline_1m", {**bar(60000), **dict(zip(NAMES, CANDLE, strict=True))})
    return watcher


@pytest.mark.parametrize(
    ("wrong", "differences"),
    [
        ({}, []),
        ({"levels": [("B", "bid", Decimal(9), Decimal(1))]}, ["the book of B"]),
        ({"levels": [("C", "bid", Decimal(9), Decimal(1))]}, ["the book of C"]),
        ({"trades": [("B", Decimal(3), Decimal(31))]}, ["the trades of B"]),
        ({"trades": [("C", Decimal(1), Decimal(1))]}, ["the trades of C"]),
        ({"candles": [("B", 60000, *CANDLE[:-1], 3)]}, ["the candle of B at 60000"]),
        ({"candles": [("B", 120000, *CANDLE)]}, ["the candle of B at 120000"]),
    ],
)
async def test_what_it_saw_is_held_against_the_database(
    autojump_clock: MockClock, wrong: dict[str, Any], differences: list[str]
) -> None:
    watcher = seen()
    found = await watcher.audit(database(**wrong).connection)
    assert [one.partition(": ")[0] for one in found["differences"]] == differences
    assert watcher.is_exact(found) is (not differences)
    assert trio.current_time() == pytest.approx(SETTLED_TIMEOUT_S if differences else 0.0)


async def test_what_comes_a_little_later_is_waited_for(autojump_clock: MockClock) -> None:
    watcher = watched("trades", [trade(1, 1, "1", "10")])
    only_trades = database(levels=[], candles=[])

    async def later() -> None:
        await trio.sleep(3)
        watcher.take("B", "trades", [trade(2, 3, "2", "10")])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(later)
        found = await watcher.audit(only_trades.connection)
    assert found["differences"] == []
    assert trio.current_time() == pytest.approx(3, abs=0.2)


def test_a_fault_is_not_exact() -> None:
    watcher = MarketWatcher(["B"])
    assert watcher.is_exact({"faults": [], "differences": []})
    assert not watcher.is_exact({"faults": ["x"], "differences": []})
    assert not watcher.is_exact({"faults": [], "differences": ["x"]})


async def test_it_asks_for_every_channel_and_notes_what_is_refused() -> None:
    asked: list[Any] = []
    done = trio.Event()

    async def serve(request: trio_websocket.WebSocketRequest) -> None:
        websocket = await request.accept()
        while len(asked) < 2 * len(KINDS):
            asked.append(json.loads(await websocket.get_message()))
        said = [
            {"result": True},
            {"result": False, "channel": "C@depth"},
            {"event": "B@trades", "data": [trade(1, 1)]},
            {"event": "B@ticker", "data": {}},
        ]
        for one in said:
            await websocket.send_message(json.dumps(one))
        await done.wait()

    watcher = MarketWatcher(["B", "C"])
    async with trio.open_nursery() as nursery:
        server = await nursery.start(trio_websocket.serve_websocket, serve, HOST, 0, None)
        await nursery.start(watcher.run, f"ws://{HOST}:{server.port}/")
        await until(lambda: watcher.messages["ticker"] == 1)
        nursery.cancel_scope.cancel()
    assert {(one["op"], one["channel"]) for one in asked} == {
        ("subscribe", f"{symbol}@{kind}") for symbol in "BC" for kind in KINDS
    }
    assert watcher.messages == {**dict.fromkeys(KINDS, 0), "trades": 1, "ticker": 1}
    assert watcher.faults == ["refused: {'result': False, 'channel': 'C@depth'}"]


async def test_the_engine_says_each_trade_on_a_line_of_one_connection() -> None:
    listeners = await trio.open_tcp_listeners(0, host=HOST)
    ports: dict[str, list[int]] = {}
    broker = cast("Broker", SimpleNamespace(app=SimpleNamespace(market=SimpleNamespace(ports=ports))))
    engine = Engine(broker)
    got = b""
    came = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal got
        while got.count(b"\n") < 3:
            got += await stream.receive_some()
        came.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        async with trio.open_nursery() as telling:
            telling.start_soon(engine.tell, ['{"a" :\n 1}', '{"b":2}'])
            await trio.testing.wait_all_tasks_blocked()
            ports["trades"] = [listeners[0].socket.getsockname()[1]]
        await engine.tell(['{"c":3}'])
        await came.wait()
        nursery.cancel_scope.cancel()
    assert got == b'{"a" : 1}\n{"b":2}\n{"c":3}\n'
