"""Goal: invariant 14: what a trade or a changed level costs does not grow with symbols, levels or readers.

Method: the same work in a small market and in one a few hundred times as large, each the best of several; what grew
with the size would be a hundred times as slow there, and the bound is far from both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from support.market import Log

from broker.market.calculator import Calculator
from broker.market.depth import Depth
from broker.market.kline import Kline
from broker.market.levels import DepthNames
from broker.market.stream import Stream
from broker.market.ticker import Ticker
from broker.market.times import Interval
from broker.market.trade import TradeNames
from broker.market.trades import Trades
from broker.marketdata.parts import StreamPart

ROUNDS = 7
OPERATIONS = 400
RATIO_MAX = 12
START_MS = 1_700_000_040_000

Make = Callable[[Log], Calculator]


def best_s(work: Callable[[int], None]) -> float:
    """Of one of the operations, without what else the machine does."""
    found = []
    for turn in range(ROUNDS):
        began = time.thread_time()
        for number in range(OPERATIONS):
            work(turn * OPERATIONS + number)
        found.append(time.thread_time() - began)
    return min(found)


def of_trades(make: Make, symbols: int) -> float:
    log = Log()
    calculator = make(log)

    def trade(symbol: int, id: int) -> None:
        row: dict[str, object] = {
            "symbol": f"S{symbol}",
            "id": str(id),
            "price": "5.5",
            "size": "2",
            "side": "buy",
        }
        calculator.row(row | {"ts": str(START_MS)}, START_MS)
        calculator.commit(START_MS)

    for symbol in range(symbols):
        trade(symbol, 1)
    log.messages.clear()

    def work(number: int) -> None:
        trade(number % symbols, number + 2)
        calculator.tick(START_MS)
        log.messages.clear()

    return best_s(work)


MAKERS: dict[str, Make] = {
    "trades": lambda log: Trades(log, 0, TradeNames(), 0, [], 0),
    "kline": lambda log: Kline(
        log, 0, TradeNames(), [Interval("1m", 0), Interval("1h", 0)], 0, 5000, 7_200_000, True, False
    ),
    "ticker": lambda log: Ticker(log, 0, TradeNames(), 0, 1440),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_trade_costs_the_same_among_thousands_of_symbols(name: str) -> None:
    small, large = of_trades(MAKERS[name], 10), of_trades(MAKERS[name], 5000)
    assert large < RATIO_MAX * small


def of_levels(symbols: int, levels: int) -> float:
    log = Log()
    calculator = Depth(log, 0, DepthNames(), "levels", 0, 1000, True, 0)

    def change(symbol: int, price: int, size: int) -> None:
        row: dict[str, object] = {
            "symbol": f"S{symbol}",
            "side": "buy",
            "price": str(price),
            "size": str(size),
        }
        calculator.row(row, 1000)

    for symbol in range(symbols):
        for price in range(1, levels + 1):
            change(symbol, price, 1)
        calculator.commit(1000)
    log.messages.clear()

    def work(number: int) -> None:
        change(number % symbols, levels - number % 10, 2 + number)
        calculator.commit(1000)
        log.messages.clear()

    return best_s(work)


def test_a_changed_level_costs_the_same_in_deep_books_and_among_thousands_of_symbols() -> None:
    small = of_levels(symbols=10, levels=12)
    assert of_levels(symbols=2, levels=9000) < RATIO_MAX * small
    assert of_levels(symbols=3000, levels=12) < RATIO_MAX * small


def test_what_readers_get_is_made_once_for_all_of_them() -> None:
    made: list[bytes] = []

    def render(text: bytes) -> bytes:
        made.append(text)
        return text

    parts: list[StreamPart] = []

    def publish(stream: Stream, text: bytes) -> None:
        if not parts:
            parts.append(StreamPart(b"X", 0, False, stream, render))
        parts[0].seq, parts[0].prev = stream.seq, stream.prev

    calculator = Depth(publish, 0, DepthNames(), "levels", 0, 1000, True, 0)
    for size in range(1, 12):
        calculator.row({"symbol": "X", "side": "buy", "price": "5", "size": str(size)}, 1000)
        calculator.commit(1000)
    (part,) = parts
    for _ in range(500):
        assert part.state()
        assert part.since(part.seq - 5)
    assert len(made) == 2
