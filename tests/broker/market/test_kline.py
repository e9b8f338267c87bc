"""Goal: invariants 6, 8 and 9.  Method: random trades in and out of order, a clock that jumps, and a model that sorts
all trades at the end."""

from __future__ import annotations

import itertools
import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.market import Log

from broker.market.kline import Kline
from broker.market.numbers import BadValue
from broker.market.series import Series
from broker.market.times import INTERVALS_MS, Interval
from broker.market.trade import TradeNames

START_MS = 1_700_000_000_000 - 1_700_000_000_000 % 3_600_000


def kline(
    log: Log, intervals: tuple[str, ...] = ("1m", "1h"), fills: bool = True, every_ms: int = 250
) -> Kline:
    made = [Interval(name, 0) for name in intervals]
    return Kline(log, 0, TradeNames(), made, every_ms, 5000, 7_200_000, fills, True)


Trade = tuple[int, int, Decimal, Decimal]
"""Id, milliseconds, price, size."""


def row(trade: Trade) -> dict[str, object]:
    id, at_ms, price, size = trade
    return {
        "symbol": "X",
        "id": str(id),
        "ts": str(at_ms),
        "price": str(price),
        "size": str(size),
        "side": "buy",
    }


def play(seed: int, log: Log, calculator: Kline, lateness_ms: int) -> tuple[list[Trade], int]:
    """Trades for some twenty minutes, each up to `lateness_ms` late; returns them, and the time."""
    rng = random.Random(seed)
    trades: list[Trade] = []
    now_ms = START_MS
    for id in range(1, 200):
        now_ms += rng.choice((0, 1, 500, 10_000, 90_000)) * rng.randint(0, 2)
        calculator.tick(now_ms)
        at_ms = now_ms - rng.randint(0, lateness_ms)
        price = Decimal(rng.randint(9000, 11000)) / 100
        trade = (id, at_ms, price.quantize(Decimal("0.01")), Decimal(rng.randint(1, 5000)).scaleb(-3))
        trades.append(trade)
        calculator.row(row(trade), now_ms)
        if rng.random() < 0.1:
            calculator.row(row(trade), now_ms)  # it comes twice
        if rng.random() < 0.7:
            calculator.commit(now_ms)
    calculator.commit(now_ms)
    now_ms += 3 * 3_600_000
    for _ in range(200):
        calculator.tick(now_ms)
    return trades, now_ms


def expected(trades: list[Trade], interval: Interval) -> dict[int, dict[str, Any]]:
    found: dict[int, list[Trade]] = {}
    for trade in sorted(trades, key=lambda trade: (trade[1], trade[0])):
        found.setdefault(interval.start_ms(trade[1]), []).append(trade)
    return {
        start: {
            "open": str(of[0][2]),
            "high": str(max(trade[2] for trade in of)),
            "low": str(min(trade[2] for trade in of)),
            "close": str(of[-1][2]),
            "volume": str(sum(trade[3] for trade in of)),
            "turnover": str(sum((trade[2] * trade[3] for trade in of), Decimal(0))),
            "trades": len(of),
        }
        for start, of in found.items()
    }


@settings(max_examples=cases(60))
@given(st.integers(0, 2**32), st.sampled_from((0, 2000, 600_000)), st.booleans())
def test_candles_are_those_of_the_trades_own_times(seed: int, lateness_ms: int, fills: bool) -> None:
    log = Log()
    calculator = kline(log, fills=fills)
    trades, _ = play(seed, log, calculator, lateness_ms)
    for interval in calculator.intervals:
        told: dict[int, dict[str, Any]] = {}
        closed: list[int] = []
        newest = 0
        for stream, text in log.messages:
            assert isinstance(stream, Series)
            bar = json.loads(text)
            if bar["interval"] != interval.name:
                continue
            low, high = Decimal(bar["low"]), Decimal(bar["high"])
            assert low <= Decimal(bar["open"]) <= high
            assert low <= Decimal(bar["close"]) <= high
            assert bar["start"] >= newest or bar["rev"] > 0, "an older bar that is no correction"
            newest = max(newest, bar["start"])
            if bar["closed"] and not bar["rev"]:
                closed.append(bar["start"])
            before = told.get(bar["start"])
            if before is not None and before["closed"]:
                assert bar["rev"] == before["rev"] + 1
                assert bar["closed"]
            told[bar["start"]] = bar
        assert len(closed) == len(set(closed)), "closed twice"
        wanted = expected(trades, interval)
        assert wanted.keys() == {start for start, bar in told.items() if bar["trades"]}
        for start, values in wanted.items():
            assert {name: told[start][name] for name in values} == values
            assert told[start]["closed"]
        if fills:
            starts = sorted(told)
            first = next(start for start in starts if told[start]["trades"])
            after = [start for start in starts if start >= first]
            assert after == list(range(first, after[-1] + 1, interval.length_ms))
            for before_start, start in itertools.pairwise(after):
                if not told[start]["trades"]:
                    assert told[start]["open"] == told[start]["close"] == told[before_start]["close"]


@given(st.integers(0, 2**32))
@settings(max_examples=cases(20))
def test_sixty_minutes_are_an_hour(seed: int) -> None:
    log = Log()
    calculator = kline(log)
    play(seed, log, calculator, 0)
    bars: dict[str, dict[int, dict[str, Any]]] = {"1m": {}, "1h": {}}
    for _, text in log.messages:
        bar = json.loads(text)
        bars[bar["interval"]][bar["start"]] = bar
    for start, hour in bars["1h"].items():
        minutes = [
            bar for at, bar in sorted(bars["1m"].items()) if start <= at < hour["end"] and bar["trades"]
        ]
        if not hour["trades"]:
            assert not minutes
            continue
        assert hour["open"] == minutes[0]["open"]
        assert hour["close"] == minutes[-1]["close"]
        assert Decimal(hour["high"]) == max(Decimal(bar["high"]) for bar in minutes)
        for name in ("volume", "turnover"):
            assert Decimal(hour[name]) == sum(Decimal(bar[name]) for bar in minutes)


def test_a_candle_is_closed_when_its_time_is_over_and_nobody_trades() -> None:
    log = Log()
    calculator = kline(log, ("1m",), fills=False)
    calculator.row(row((1, START_MS + 1000, Decimal("5"), Decimal("1"))), START_MS + 1000)
    calculator.commit(START_MS + 1000)
    assert [bar["closed"] for bar in log.take()] == [False]
    assert calculator.due_ms() == START_MS + 65_000
    calculator.tick(START_MS + 64_999)
    assert log.take() == []
    calculator.tick(START_MS + 65_000)
    assert [(bar["closed"], bar["rev"]) for bar in log.take()] == [(True, 0)]
    calculator.row(row((2, START_MS + 59_000, Decimal("6"), Decimal("1"))), START_MS + 66_000)
    calculator.commit(START_MS + 66_000)
    assert [(bar["close"], bar["closed"], bar["rev"]) for bar in log.take()] == [("6", True, 1)]


def test_old_trades_that_are_played_back_are_not_closed_by_todays_clock() -> None:
    log = Log()
    calculator = kline(log, ("1m",))
    now_ms = START_MS + 400 * 86_400_000
    for id in range(10):
        calculator.row(row((id, START_MS + id * 10_000, Decimal("5"), Decimal("1"))), now_ms + id)
        calculator.commit(now_ms + id)
        calculator.tick(now_ms + id)
    assert {(bar["start"], bar["rev"]) for bar in log.take()} == {(START_MS, 0), (START_MS + 60_000, 0)}


def test_a_slow_reader_gets_every_candle_it_missed_in_order() -> None:
    log = Log()
    calculator = kline(log, ("1m",))
    calculator.row(row((1, START_MS, Decimal("5"), Decimal("1"))), START_MS)
    calculator.commit(START_MS)
    (series,) = calculator.streams()
    seen = series.seq
    for minute in (1, 2):
        now_ms = START_MS + minute * 60_000
        calculator.row(row((minute + 1, now_ms, Decimal("6"), Decimal("1"))), now_ms)
        calculator.commit(now_ms)
    bars = [json.loads(text) for text in series.since(seen)]
    assert [(bar["start"], bar["closed"]) for bar in bars] == [
        (START_MS, True), (START_MS + 60_000, True), (START_MS + 120_000, False),
    ]  # fmt: skip


@pytest.mark.parametrize("name", INTERVALS_MS)
@given(at_ms=st.integers(0, 4_000_000_000_000), day_starts_ms=st.sampled_from((0, 28_800_000)))
def test_every_moment_is_in_one_interval(name: str, at_ms: int, day_starts_ms: int) -> None:
    interval = Interval(name, day_starts_ms)
    start = interval.start_ms(at_ms)
    end = interval.end_ms(start)
    assert start <= at_ms < end
    assert interval.start_ms(start) == start
    assert interval.start_ms(end) == end
    assert interval.start_ms(end - 1) == start


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": "NaN"}, "not_a_number"),
        ({"price": None}, "missing_price"),
        ({"size": "0"}, "bad_size"),
        ({"size": "-1"}, "bad_size"),
        ({"ts": "yesterday"}, "bad_time"),
        ({"ts": "9999999999999"}, "in_the_future"),
        ({"id": []}, "bad_id"),
        ({"side": "up"}, "bad_side"),
    ],
)
def test_a_bad_trade_costs_only_itself(change: dict[str, object], reason: str) -> None:
    calculator = kline(Log())
    with pytest.raises(BadValue, match=reason):
        calculator.row(row((1, START_MS, Decimal(1), Decimal(1))) | change, START_MS)
    assert calculator.streams() == []


def test_what_is_restored_is_told_at_once_and_not_saved_again() -> None:
    before = kline(Log(), every_ms=0)
    for id, at_ms in ((1, START_MS), (2, START_MS + 60_000)):
        before.row(row((id, at_ms, Decimal(100 + id), Decimal(1))), at_ms)
        before.commit(at_ms)
    kept = before.unsaved()
    log = Log()
    after = kline(log)
    for symbol, interval, candle in kept:
        candle.is_unsaved = False
        after.restore(symbol, interval, candle, START_MS + 61_000)
    after.restored(START_MS + 61_000)
    after.tick(START_MS + 61_000)
    assert sorted((one["interval"], one["close"]) for one in log.take()) == [("1h", "102"), ("1m", "102")]
    assert not [one for one in after.unsaved() if not one[2].is_closed]


@settings(max_examples=cases(25), deadline=None)
@given(st.integers(0, 2**32))
def test_when_candles_are_told_changes_nothing_of_what_they_say(seed: int) -> None:
    """Between messages, trades are gathered once for all intervals; with a message a trade, nothing is."""
    rng = random.Random(seed)
    rows = []
    at_ms = START_MS
    for number in range(80):
        at_ms += rng.choice((0, 0, 5, 900, 20_000, 150_000))
        rows.append(
            {
                "symbol": rng.choice("XY"), "id": str(number - rng.randint(0, 3) * rng.randint(0, 1)),
                "price": f"{rng.randint(95, 105)}.{rng.choice(('5', '50', '25'))}", "size": rng.choice(("1", "0.50")),
                "side": "buy", "ts": str(at_ms - rng.choice((0, 0, 0, 3, 70_000))),
            }
        )  # fmt: skip

    def told(every_ms: int, per_commit: int) -> dict[tuple[str, str, int], Any]:
        log = Log()
        kline = Kline(
            log, 0, TradeNames(), [Interval(name, 0) for name in ("1m", "5m", "1h")], every_ms, 5000,
            7_200_000, True, False,
        )  # fmt: skip
        found: dict[tuple[str, str, int], Any] = {}
        now_ms = 0
        for number, row in enumerate(rows):
            now_ms = max(now_ms, int(row["ts"]))
            kline.row(dict(row), now_ms)
            if number % per_commit == per_commit - 1:
                kline.commit(now_ms)
        kline.commit(now_ms)
        kline.tick(now_ms + 3000)
        for stream, text in log.messages:
            bar = json.loads(text)
            found[stream.names["symbol"], bar["interval"], bar["start"]] = bar
        return {
            key: {name: value for name, value in bar.items() if name not in ("rev", "closed")}
            for key, bar in found.items()
        }

    assert told(0, 1) == told(3000, 80) == told(250, 7)


def test_what_could_not_be_told_yet_is_saved_at_the_end() -> None:
    calculator = kline(Log(), every_ms=60_000)
    for id in (1, 2):
        calculator.row(row((id, START_MS + id, Decimal(100 + id), Decimal(1))), START_MS + id)
        calculator.commit(START_MS + id)
    calculator.unsaved()
    assert sorted((name, candle.close.text) for _, name, candle in calculator.untold()) == [
        ("1h", "102"),
        ("1m", "102"),
    ]
