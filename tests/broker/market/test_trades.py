"""Goal: invariant 7, for trades merged and not, read quickly and slowly."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.market import Log

from broker.market.trade import TradeNames
from broker.market.trades import Tape, Trades


def trades(log: Log, every_ms: int = 100, merge_by: tuple[str, ...] = ("taker",), recent: int = 0) -> Trades:
    return Trades(log, 0, TradeNames(), every_ms, list(merge_by), recent)


@settings(max_examples=cases(100))
@given(st.integers(0, 2**32), st.booleans())
def test_entries_add_up_to_the_trades_whoever_reads(seed: int, merged: bool) -> None:
    rng = random.Random(seed)
    log = Log()
    calculator = trades(log, merge_by=("taker",) if merged else ())
    given_rows: list[dict[str, str]] = []
    read: list[dict[str, Any]] = []
    cursor, is_slow = 0, False
    now_ms = 1000
    for id in range(1, 150):
        row = {
            "symbol": "X", "id": str(id), "ts": str(1_700_000_000_000 + id), "taker": str(id // 5),
            "price": rng.choice(("1.5", "1.50", "2")), "size": f"{rng.randint(1, 99)}.50",
            "side": rng.choice(("buy", "sell")) if id % 4 == 0 else "buy",
        }  # fmt: skip
        given_rows.append(row)
        for _ in range(rng.choice((1, 1, 2))):
            calculator.row(dict(row), 1_700_000_000_000 + id)
        if rng.random() < 0.5:
            calculator.commit(now_ms)
        now_ms += rng.randint(0, 60)
        calculator.tick(now_ms)
        is_slow = rng.random() < 0.5
        for stream, text in log.messages:
            if not is_slow and cursor == stream.prev:
                read += json.loads(text)
                cursor = stream.seq
        log.messages.clear()
        if not is_slow and calculator.streams():
            (tape,) = calculator.streams()
            read += [entry for text in tape.since(cursor) for entry in json.loads(text)]
            cursor = tape.seq
    calculator.commit(now_ms)
    calculator.tick(now_ms + 1000)
    (tape,) = calculator.streams()
    read += [entry for text in tape.since(cursor) for entry in json.loads(text)]
    after = 0
    for entry in read:
        assert entry["first"] == after + 1
        after = entry["last"]
        of = given_rows[entry["first"] - 1 : entry["last"]]
        assert {row["side"] for row in of} == {entry["side"]}
        assert {row["price"] for row in of} == {entry["price"]}
        assert len({row["taker"] for row in of}) == 1
        assert Decimal(entry["size"]) == sum(Decimal(row["size"]) for row in of)
        assert merged or entry["first"] == entry["last"]
    assert after == len(given_rows)


def test_trades_without_ids_are_numbered_here() -> None:
    log = Log()
    calculator = Trades(log, 0, TradeNames(id="", time="", side=""), 0, [], 0)
    for price in ("1", "2"):
        calculator.row({"symbol": "X", "price": price, "size": "1"}, 5)
    calculator.commit(5)
    (entries,) = log.take()
    assert entries == [
        {"id": 1, "first": 1, "last": 1, "price": "1", "size": "1", "ts": 5},
        {"id": 2, "first": 2, "last": 2, "price": "2", "size": "1", "ts": 5},
    ]


def test_a_new_reader_gets_the_recent_entries_where_they_are_asked_for() -> None:
    log = Log()
    calculator = trades(log, every_ms=0, recent=2)
    for id in range(1, 5):
        calculator.row(
            {"symbol": "X", "id": str(id), "ts": str(id), "price": "1", "size": "1", "taker": id}, 5
        )
        calculator.commit(5)
    (tape,) = calculator.streams()
    assert isinstance(tape, Tape)
    assert [entry["id"] for entry in json.loads(tape.state()[0])] == [3, 4]
