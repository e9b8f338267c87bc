"""Goal: invariant 10.  Method: random trades, and at random times a model that looks at all of them."""

from __future__ import annotations

import json
import random
from decimal import Decimal

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.market import Log

from broker.market.ticker import Ticker
from broker.market.trade import TradeNames

START_MS = 1_700_000_000_000


@settings(max_examples=cases(80))
@given(st.integers(0, 2**32), st.sampled_from((3, 60)), st.sampled_from((0, 100_000)))
@example(269297, 3, 100_000)  # the market's time went back, behind what had left the window
def test_the_window_is_exact_to_its_minute(seed: int, minutes: int, lateness_ms: int) -> None:
    rng = random.Random(seed)
    log = Log()
    ticker = Ticker(log, 0, TradeNames(), 1000, minutes)
    trades: list[tuple[int, int, Decimal, Decimal]] = []
    now_ms = START_MS
    for id in range(200):
        now_ms += rng.choice((10, 1000, 30_000))
        if rng.random() < 0.7:
            at_ms = now_ms - rng.randint(0, lateness_ms)
            price, size = Decimal(rng.randint(90, 110)), Decimal(rng.randint(1, 999)).scaleb(-2)
            trades.append((at_ms, id, price, size))
            ticker.row(
                {"symbol": "X", "id": str(id), "ts": str(at_ms), "price": str(price), "size": str(size)},
                now_ms,
            )
            ticker.commit(now_ms)
        ticker.tick(now_ms)
    now_ms += 1000
    ticker.tick(now_ms)
    for _, text in log.messages[-1:]:
        said = json.loads(text)
        assert said["from"] % 60_000 == 0
        assert said["from"] == said["to"] - said["to"] % 60_000 - (minutes - 1) * 60_000
        published = [trade for trade in sorted(trades) if trade[0] <= now_ms]
        inside = [trade for trade in published if trade[0] >= said["from"]]
        assert Decimal(said["volume"]) == sum(trade[3] for trade in inside)
        assert Decimal(said["quota"]) == sum(trade[2] * trade[3] for trade in inside)
        assert said["last"] == str(published[-1][2])
        if inside:
            assert said["open"] == str(inside[0][2])
            assert said["high"] == str(max(trade[2] for trade in inside))
            assert said["low"] == str(min(trade[2] for trade in inside))
            assert Decimal(said["change"]) == published[-1][2] - inside[0][2]


def test_it_slides_while_nobody_trades() -> None:
    log = Log()
    ticker = Ticker(log, 0, TradeNames(), 1000, 1440)
    ticker.row({"symbol": "X", "id": "1", "ts": str(START_MS), "price": "7.0", "size": "2"}, START_MS)
    ticker.commit(START_MS)
    (first,) = log.take()
    assert (first["volume"], first["quota"], first["change_percent"]) == ("2", "14.0", "0.00")
    assert ticker.due_ms() == START_MS + 1000
    ticker.tick(START_MS + 86_400_000)
    (later,) = log.take()
    assert (later["open"], later["last"], later["volume"], later["quota"]) == ("7.0", "7.0", "0", "0")


def test_where_old_trades_are_played_back_it_is_the_time_of_the_newest() -> None:
    log = Log()
    ticker = Ticker(log, 0, TradeNames(), 1000, 60)
    now_ms = START_MS + 2 * 86_400_000
    for id, at_ms in (("1", START_MS), ("2", START_MS + 5_000), ("3", START_MS + 1_000)):
        ticker.row({"symbol": "X", "id": id, "ts": str(at_ms), "price": "7.0", "size": "2"}, now_ms)
    ticker.commit(now_ms)
    (said,) = log.take()
    assert (said["to"], said["volume"]) == (START_MS + 5_000, "6")
