"""Goal: invariant 11, and the arithmetic of index, settlement and funding."""

from __future__ import annotations

from decimal import Decimal

import pytest
from support.market import Log

from broker.market.markprice import MarkNames, MarkPrice, MarkRules
from broker.market.numbers import BadValue


def rules(
    parts: tuple[str, ...] = (), how: str = "median", settle_ms: int = 0, funding_ms: int = 0
) -> MarkRules:
    return MarkRules(
        1000, 10_000, list(parts), how, Decimal("0.05"), settle_ms, funding_ms, Decimal("0.0075")
    )


def mark_price(log: Log, rules: MarkRules) -> MarkPrice:
    return MarkPrice(log, 0, MarkNames(), rules)


def test_what_the_formula_gives_is_passed_on_and_nothing_else_is_said() -> None:
    log = Log()
    calculator = mark_price(log, rules())
    calculator.row({"symbol": "X", "mark": "100.10", "next_funding": "1700000000000"}, 1)
    calculator.commit(1000)
    assert log.take() == [
        {
            "mark": "100.10",
            "index": None,
            "settle": None,
            "funding": None,
            "next_funding": 1700000000000,
            "stale": False,
        }
    ]


def test_an_old_input_says_stale_without_any_row() -> None:
    log = Log()
    calculator = mark_price(log, rules())
    calculator.row({"symbol": "X", "mark": "1"}, 5000)
    calculator.commit(5000)
    now_ms = 5000
    said = []
    while now_ms < 17_000:
        now_ms = calculator.due_ms()
        calculator.tick(now_ms)
        said.append((now_ms, log.take()[0]["stale"]))
    assert said == [(at_ms, at_ms > 15_000) for at_ms in range(6000, 17_001, 1000)]


def test_the_index_leaves_out_what_is_far_off_and_what_is_old() -> None:
    log = Log()
    calculator = mark_price(log, rules(("a", "b", "c"), "mean"))
    for part, price in (("a", "100.0"), ("b", "101.0"), ("c", "150.0")):
        calculator.row({"symbol": "X", "source": part, "price": price}, 5000)
    calculator.commit(5000)
    assert log.take()[0]["index"] == "100.5"
    calculator.row({"symbol": "X", "source": "b", "price": "102.0"}, 16_000)
    calculator.commit(16_000)
    last = log.take()[-1]
    assert (last["index"], last["stale"]) == ("102.0", True)
    calculator.tick(40_000)
    assert log.take()[-1]["index"] is None


def test_the_settlement_price_is_a_mean_over_time() -> None:
    log = Log()
    calculator = mark_price(log, rules(("a",), settle_ms=4000))
    for now_ms, price in ((10_000, "100"), (12_000, "200"), (14_000, "200"), (16_000, "200")):
        calculator.row({"symbol": "X", "source": "a", "price": price}, now_ms)
        calculator.commit(now_ms)
    assert [message["settle"] for message in log.take()] == ["100", "100", "150", "200"]


def test_funding_is_the_mean_premium_clamped_and_begins_anew() -> None:
    log = Log()
    calculator = mark_price(log, rules(("a",), funding_ms=60_000))
    calculator.row({"symbol": "X", "a": "100", "mark": "100.1"}, 60_000)
    calculator.commit(60_000)
    calculator.row({"symbol": "X", "a": "100", "mark": "150"}, 61_000)
    calculator.commit(61_000)
    calculator.row({"symbol": "X", "a": "100", "mark": "150"}, 90_000)
    calculator.commit(90_000)
    first, _, clamped = log.take()
    assert (first["funding"], first["next_funding"]) == ("0.001000", 120_000)
    assert clamped["funding"] == "0.007500"
    calculator.row({"symbol": "X", "a": "100", "mark": "99.9"}, 120_000)
    calculator.commit(120_000)
    assert log.take()[-1]["funding"] == "-0.001000"


@pytest.mark.parametrize(
    "row", [{"symbol": "X"}, {"symbol": "X", "mark": "NaN"}, {"symbol": "X", "mark": None}]
)
def test_a_row_without_a_price_is_refused(row: dict[str, object]) -> None:
    with pytest.raises(BadValue):
        mark_price(Log(), rules()).row(row, 1)
