"""Levels that are made of orders: sums by price, against a list of orders that is added up anew each time."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest
from support.market import BookClient, Log

from broker.market.depth import Depth
from broker.market.levels import DepthNames
from broker.market.numbers import BadValue

WORDS = {
    "new": "set",
    "change": "set",
    "done": "remove",
    "match": "reduce",
    "snap": "whole",
    "noise": "ignore",
}


def new_depth(log: Log, shape: str = "levels") -> Depth:
    names = DepthNames(symbol="s", id="id", action="what", actions=WORDS, changes="orders")
    return Depth(log, 0, names, shape, 0, 1000, True, 0)


class Reader:
    """Takes what has been published since it last looked."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._taken = 0
        self._client = BookClient()

    def book(self) -> dict[str, dict[Fraction, Fraction]]:
        for _, text in self._log.messages[self._taken :]:
            self._client.take(text)
        self._taken = len(self._log.messages)
        return {
            side: {Fraction(price): Fraction(size) for price, size in levels.items()}
            for side, levels in self._client.sides.items()
        }


class Model:
    def __init__(self) -> None:
        self.orders: dict[str, tuple[str, Fraction, Fraction]] = {}

    def take(self, row: dict[str, Any]) -> None:
        id, what = row["id"], row["what"]
        if what == "done":
            self.orders.pop(id, None)
        elif what in ("new", "change"):
            side, price, _ = self.orders.get(id, ("", Fraction(0), None))
            size = Fraction(row["size"])
            self.orders[id] = (row.get("side", side), Fraction(row.get("price", price)), size)
            if not size:
                del self.orders[id]
        elif what == "match" and id in self.orders:
            side, price, size = self.orders[id]
            self.orders[id] = (side, price, size - Fraction(row["size"]))
            if self.orders[id][2] <= 0:
                del self.orders[id]

    def book(self) -> dict[str, dict[Fraction, Fraction]]:
        found: dict[str, dict[Fraction, Fraction]] = {"bids": {}, "asks": {}}
        for side, price, size in self.orders.values():
            levels = found["bids" if side == "buy" else "asks"]
            levels[price] = levels.get(price, Fraction(0)) + size
        return found


def drawn_row(rng: random.Random, model: Model) -> dict[str, Any]:
    id = str(rng.randint(1, 30))
    side = rng.choice(("buy", "sell"))
    price = str(rng.randint(90, 99) if side == "buy" else rng.randint(100, 109)) + rng.choice(
        ("", ".0", ".50")
    )
    size = rng.choice(("0", "1", "2.50", "0.00000001", "123456789012345678", "0.000000000000000001"))
    what = rng.choice(("new", "new", "change", "done", "match"))
    row: dict[str, Any] = {"s": "X", "id": id, "what": what}
    if what == "new" or (what == "change" and id not in model.orders):
        row |= {"what": "new", "side": side, "price": price}
    if what != "done":
        row["size"] = size
    return row


@pytest.mark.parametrize("seed", range(12))
def test_levels_are_the_sums_of_their_orders(seed: int) -> None:
    rng, log, model = random.Random(seed), Log(), Model()
    depth, reader = new_depth(log), Reader(log)
    for number in range(1, 120):
        for _ in range(rng.randint(1, 4)):
            row = drawn_row(rng, model)
            model.take(row)
            depth.row(row, number)
        depth.commit(number)
        assert reader.book() == model.book()


@pytest.mark.parametrize("seed", range(10))
def test_a_whole_book_of_orders_forgets_the_others(seed: int) -> None:
    rng, log, model = random.Random(seed), Log(), Model()
    depth, reader = new_depth(log, "diffs"), Reader(log)
    for number in range(1, 40):
        what = rng.choice(("new", "snap"))
        orders = []
        if what == "snap":
            model.orders.clear()
        for id in rng.sample(range(100), rng.randint(0, 8)):
            side = rng.choice(("buy", "sell"))
            price = str(rng.randint(90, 99) if side == "buy" else rng.randint(100, 109))
            orders.append(
                {"id": str(id), "side": side, "price": price, "size": str(rng.randint(1, 5)) + ".50"}
            )
            model.take(orders[-1] | {"what": "new"})
        depth.row({"s": "X", "what": what, "orders": orders}, number)
        depth.commit(number)
        assert reader.book() == model.book()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"what": "new", "id": "9", "size": "1"}, "unknown_id"),
        ({"what": "new", "id": "9", "size": "1", "price": "5"}, "unknown_id"),
        ({"what": "new", "id": "", "size": "1"}, "bad_id"),
        ({"what": "new", "size": "1"}, "bad_id"),
        ({"what": "new", "id": "9", "price": "5", "side": "buy"}, "missing_size"),
        ({"what": "new", "id": "9", "price": "5", "side": "up", "size": "1"}, "bad_side"),
        ({"what": "new", "id": "9", "price": "5e99", "side": "buy", "size": "1"}, "number_too_long"),
        ({"what": "change", "id": "1", "size": "-1"}, "negative_size"),
        ({"what": "other", "id": "1", "size": "1"}, "unknown_action"),
        ({"what": 5, "id": "1", "size": "1"}, "unknown_action"),
    ],
)  # fmt: skip
def test_a_bad_order_changes_nothing(row: dict[str, Any], reason: str) -> None:
    log = Log()
    depth = new_depth(log)
    depth.row({"s": "X", "what": "new", "id": "1", "side": "buy", "price": "7", "size": "3"}, 1)
    for good in ({"what": "done", "id": "77"}, {"what": "match", "id": "77", "size": "1"}, {"what": "noise"}):
        depth.row({"s": "X", **good}, 1)
    with pytest.raises(BadValue, match=reason):
        depth.row({"s": "X", **row}, 2)
    depth.commit(2)
    assert Reader(log).book() == {"bids": {Fraction(7): Fraction(3)}, "asks": {}}
