"""How fast market data is calculated, and how much memory books take: python -m benchmarks.market [--quick]

One process, one core; each figure is the best of five runs of CPU time.  Beside it stands the least that could be done
with a dict of floats, which keeps no order, no texts, no depth and no history, and the books of cryptofeed and ccxt
where they are installed.  With --memory only memory is measured.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.books import BOOKS, SetLevel
from broker.market.depth import Depth
from broker.market.kline import Kline
from broker.market.levels import DepthNames
from broker.market.stream import Stream
from broker.market.ticker import Ticker
from broker.market.times import Interval
from broker.market.trade import TradeNames
from broker.market.trades import Trades
from broker.marketdata.unread import readers_of, row_columns

RUNS = 5
START_MS = 1_700_000_000_000
TRADES_PER_MS = 300
BATCH = 100
INTERVALS = ("1m", "5m", "15m", "1h", "4h", "1d", "1w")


def ignore(stream: Stream, text: bytes) -> None:
    pass


def new_depth(shape: str, every_ms: int) -> Depth:
    return Depth(ignore, 0, DepthNames(), shape, every_ms, 1000, True, 1000)


def best(work: Callable[[], int]) -> float:
    """Operations per second of CPU, the best of some runs."""
    found = 0.0
    for _ in range(RUNS):
        began = time.process_time()
        count = work()
        found = max(found, count / (time.process_time() - began))
    return found


def rate(
    batches: list[str],
    new: Callable[[], Callable[[Any], None]],
    per_batch: int,
    read: Callable[[str], Any] = json.loads,
) -> float:
    """Things per second of CPU, the best of some runs.  Each batch is read just before, which is not counted.

    Args:
        batches: JSON.
        new: begins a run; gives what handles a batch.
        read: makes of a batch what is handled.
    """
    found = 0.0
    for _ in range(RUNS):
        spent = 0.0
        handle = new()
        for batch in batches:
            rows = read(batch)
            began = time.process_time()
            handle(rows)
            spent += time.process_time() - began
        found = max(found, len(batches) * per_batch / spent)
    return found


def _as_it_is(text: str) -> str:
    return text


def level_rows(count: int) -> list[tuple[str, str, str]]:
    rng = random.Random(1)
    rows = []
    for _ in range(count):
        is_bid = rng.random() < 0.5
        steps = rng.randint(1, 2000)
        cents = 4_200_000 - steps if is_bid else 4_200_000 + steps
        rows.append(
            ("bid" if is_bid else "ask", f"{cents // 100}.{cents % 100:02d}", f"{rng.randint(0, 9)}.5")
        )
    return rows


def levels(count: int) -> float:
    """Level changes, published 100 times a second of the data's time."""
    rows = level_rows(count)

    def work() -> int:
        depth = new_depth("levels", 100)
        now_ms = START_MS
        for number, (side, price, size) in enumerate(rows):
            depth.set_level("X", side, price, size, now_ms)
            if number % 20 == 19:
                now_ms += 1
                depth.commit(now_ms)
                depth.tick(now_ms)
        return count

    return best(work)


def levels_of(new: Callable[[], SetLevel], count: int) -> float | str:
    """The same level changes into another book; nothing is published.  A word if it isn't there."""
    rows = level_rows(count)
    try:
        new()
    except ImportError as error:
        return f"not measured: {error}"

    def work() -> int:
        set_level = new()
        for side, price, size in rows:
            set_level(side, price, size)
        return count

    return round(best(work))


def trade_rows(count: int) -> list[dict[str, object]]:
    """Each symbol's price goes up and down by its ticks, as prices do."""
    rng = random.Random(2)
    ticks = [rng.randint(4_000_000, 4_400_000) for _ in range(100)]

    def price(symbol: int) -> str:
        ticks[symbol] += rng.randint(-5, 5)
        return f"{ticks[symbol] // 100}.{ticks[symbol] % 100:02d}"

    return [
        {
            "symbol": f"S{number % 100}",
            "id": str(number),
            "price": price(number % 100),
            "size": f"0.{rng.randint(100, 999)}",
            "side": rng.choice(("buy", "sell")),
            "ts": str(START_MS + number // TRADES_PER_MS),
            "taker": str(number // 3),
        }
        for number in range(count)
    ]


def trades(kind: str, count: int) -> float:
    """Trades of 100 symbols, 20 a transaction, as many in a second of their time as is wanted in one of ours.

    What goes out at intervals goes out as often, then, as it would at that load.
    """
    rows = trade_rows(count)
    batches = [json.dumps(rows[i : i + BATCH]) for i in range(0, count, BATCH)]
    del rows

    def new() -> Callable[[list[Any]], None]:
        names = TradeNames()
        if kind == "kline":
            intervals = [Interval(name, 0) for name in INTERVALS]
            calculator: Kline | Trades | Ticker = Kline(
                ignore, 0, names, intervals, 250, 5000, 7_200_000, True, False
            )
        elif kind == "trades":
            calculator = Trades(ignore, 0, names, 100, ["taker"], 0)
        else:
            calculator = Ticker(ignore, 0, names, 1000, 1440)
        done = 0

        def handle(rows: list[Any]) -> None:
            nonlocal done
            for row in rows:
                now_ms = START_MS + done // TRADES_PER_MS
                calculator.row(row, now_ms)
                done += 1
                if done % 20 == 0:
                    calculator.commit(now_ms)
                    calculator.tick(now_ms)

        return handle

    return rate(batches, new, BATCH)


def snapshots(moves: bool) -> list[str]:
    """Rows of books of 500 levels a side, of which each next one has twenty changed.

    With `moves` the best price goes up and down, so that levels come and go, too.
    """
    rng = random.Random(3)
    first = 0
    sizes = [{step: f"{rng.randint(1, 9)}.5" for step in range(1200)} for _ in (-1, 1)]
    found = []
    for _ in range(200):
        if moves:
            first = max(0, min(600, first + rng.randint(-2, 2)))
        sides = []
        for sign, side in zip((-1, 1), sizes, strict=True):
            shown = range(first, first + 500)
            for step in rng.sample(shown, 10):
                side[step] = f"{rng.randint(1, 9)}.5"
            sides.append([[f"{42_000 + sign * (step + 1)}.50", side[step]] for step in shown])
        row = {"symbol": "X", "bids": sides[0], "asks": sides[1]}
        found.append(json.dumps(row, separators=(",", ":")))
    return found


def text_diff_us(moves: bool) -> float:
    """Microseconds from the text of one book of 1000 levels to what has changed in the next, its reading included."""

    def new() -> Callable[[str], None]:
        depth = new_depth("snapshot", 1_000_000)
        readers = readers_of([depth])

        def handle(text: str) -> None:
            depth.row(row_columns(text, readers), START_MS)

        handle(first)
        return handle

    first, *others = snapshots(moves)
    return 1e6 / rate(others, new, 1, _as_it_is)


def diff_us(moves: bool) -> float:
    """The same from lists, which have been read before."""

    def new() -> Callable[[Any], None]:
        depth = new_depth("snapshot", 1_000_000)

        def handle(row: Any) -> None:
            depth.set_book("X", row["bids"], row["asks"], START_MS)

        handle(json.loads(first))
        return handle

    first, *others = snapshots(moves)
    return 1e6 / rate(others, new, 1)


def memory_mb(symbols: int) -> float:
    """Megabytes that so many books of 1000 levels take."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    depth = new_depth("levels", 0)
    for symbol in range(symbols):
        for step in range(500):
            depth.set_level(f"S{symbol}", "bid", f"{4000 - step}.{symbol % 90 + 10}", f"{step}.25", START_MS)
            depth.set_level(
                f"S{symbol}", "ask", f"{4001 + step}.{symbol % 90 + 10}", f"{step + 1}.25", START_MS
            )
        depth.commit(START_MS)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument(
        "--memory", action="store_true", help="only memory, of a process that has done nothing else"
    )
    options = parser.parse_args()
    count = 20_000 if options.quick else 200_000
    found: dict[str, object] = {
        "python": sys.version.split()[0],
        "compiled": str(sys.modules["broker.market.book"].__file__).endswith(".so"),
    }
    if options.memory:
        found["memory_mb_1000_symbols_of_1000_levels"] = round(memory_mb(100 if options.quick else 1000))
    else:
        found["level_changes_per_s"] = round(levels(count))
        for name, new in BOOKS.items():
            found[f"level_changes_per_s_{name}"] = levels_of(new, count)
        for kind in ("trades", "kline", "ticker"):
            found[f"{kind}_trades_per_s"] = round(trades(kind, count))
        found["diff_of_1000_levels_us"] = round(text_diff_us(False), 1)
        found["diff_of_1000_levels_that_move_us"] = round(text_diff_us(True), 1)
        found["diff_of_1000_levels_in_lists_us"] = round(diff_us(False), 1)
        found["diff_of_1000_levels_in_lists_that_move_us"] = round(diff_us(True), 1)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
