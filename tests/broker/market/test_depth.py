"""Goal: invariants 1 to 5 of market data.  Method: random rows in all three shapes, readers that join anywhere, lag,
and are given merged updates, and a model that is a dict of Decimals."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.budgets import cases
from support.market import BookClient, Log

from broker.market.book import Book
from broker.market.depth import Depth
from broker.market.levels import DepthNames
from broker.market.numbers import BadValue

Model = dict[str, dict[Decimal, Decimal]]


def depth(
    log: Log, shape: str = "levels", every_ms: int = 0, levels: int = 1000, crossed_for_ms: int = 1000
) -> Depth:
    return Depth(log, 0, DepthNames(), shape, every_ms, levels, True, crossed_for_ms)


class Reader:
    """Takes messages live while it is quick; when it was slow it is given what it missed, as a channel does."""

    def __init__(self, book: Book) -> None:
        self.client = BookClient()
        self.is_slow = False
        for text in book.state():
            self.client.take(text)
        assert self.client.seq == book.seq

    def offer(self, book: Book, text: bytes) -> None:
        if not self.is_slow and self.client.seq == book.prev:
            self.client.take(text)

    def catch_up(self, book: Book) -> None:
        self.is_slow = False
        if self.client.seq != book.seq:
            for text in book.since(self.client.seq):
                self.client.take(text)


def model_of(client: BookClient) -> Model:
    return {
        side: {Decimal(price): Decimal(size) for price, size in levels.items()}
        for side, levels in client.sides.items()
    }


def top(model: Model, levels: int) -> Model:
    return {
        side: dict(sorted(found.items(), key=lambda level: level[0], reverse=side == "bids")[:levels])
        for side, found in model.items()
    }


def spelled(rng: random.Random, value: Decimal) -> str:
    text = format(value.normalize(), "f")
    if rng.random() < 0.4:
        text += ("" if "." in text else ".") + "0" * rng.randint(1, 3)
    return text


def random_change(rng: random.Random, model: Model) -> tuple[str, str, str]:
    """A level of the model is set or removed: side, price and size as a source would write them."""
    side = rng.choice(("bids", "asks"))
    steps = Decimal(rng.randint(1, 60)) / rng.choice((1, 10, 100))
    price = 1000 - steps if side == "bids" else 1000 + steps
    size = Decimal(rng.choice((0, 0, 1, 2, 3))) / rng.choice((1, 8))
    model[side].pop(price, None)
    if size:
        model[side][price] = size
    return side[:3], spelled(rng, price), spelled(rng, size)


@settings(max_examples=cases(150))
@given(
    st.integers(0, 2**32),
    st.sampled_from((3, 10, 1000)),
    st.sampled_from(("levels", "diffs", "snapshot", "mixed")),
)
def test_every_reader_at_every_speed_has_the_sources_book(seed: int, levels: int, shape: str) -> None:
    rng = random.Random(seed)
    log = Log()
    calculator = depth(log, "diffs" if shape == "mixed" else shape, levels=levels)
    model: Model = {"bids": {}, "asks": {}}
    readers: list[Reader] = []
    now_ms = 1_000_000
    for _ in range(60):
        now_ms += rng.randint(0, 300)
        feed(calculator, rng, model, shape, now_ms)
        log.messages.clear()
        calculator.commit(now_ms)
        for stream, text in log.messages:
            assert isinstance(stream, Book)
            for reader in readers:
                reader.offer(stream, text)
        streams = calculator.streams()
        if not streams:
            continue
        book = streams[0]
        assert isinstance(book, Book)
        if rng.random() < 0.2:
            readers.append(Reader(book))
        for reader in readers:
            if rng.random() < 0.3:
                reader.is_slow = True
            elif reader.is_slow and rng.random() < 0.3:
                reader.catch_up(book)
    assert isinstance(book, Book)
    for reader in readers:
        reader.catch_up(book)
        assert model_of(reader.client) == top(model, levels)


def feed(calculator: Depth, rng: random.Random, model: Model, shape: str, now_ms: int) -> None:
    changes = [random_change(rng, model) for _ in range(rng.randint(0, 8))]
    if shape == "levels":
        for side, price, size in changes:
            calculator.row({"symbol": "X", "side": side, "price": price, "size": size}, now_ms)
    elif shape == "diffs" or (shape == "mixed" and rng.random() < 0.7):
        row: dict[str, Any] = {"symbol": "X", "bids": [], "asks": []}
        for side, price, size in changes:
            row[side + "s"].append([price, size])
        calculator.row(row, now_ms)
    else:
        whole = {
            side: [[spelled(rng, price), spelled(rng, size)] for price, size in found.items()]
            for side, found in model.items()
        }
        calculator.row({"symbol": "X", "type": "snapshot", **whole}, now_ms)


def test_the_message_is_the_documents() -> None:
    log = Log()
    calculator = depth(log)
    for side, price, size in (("bid", "100.10", "3"), ("ask", "100.20", "1")):
        calculator.row({"symbol": "X", "side": side, "price": price, "size": size}, 5)
    calculator.commit(5)
    (snapshot,) = log.take()
    assert snapshot == {
        "type": "snapshot", "seq": 1, "bids": [["100.10", "3"]], "asks": [["100.20", "1"]], "ts": 5,
        "checksum": snapshot["checksum"],
    }  # fmt: skip
    calculator.row({"symbol": "X", "side": "bid", "price": "100.1", "size": "0.00"}, 6)
    calculator.commit(6)
    (update,) = log.take()
    assert update["type"] == "update"
    assert (update["prev"], update["seq"], update["bids"], update["asks"]) == (1, 2, [["100.10", "0"]], [])


def test_a_symbol_is_published_at_most_once_an_interval_and_at_commits_only() -> None:
    log = Log()
    calculator = depth(log, every_ms=100)
    set_bid(calculator, "1", 1000)
    assert log.take() == []
    calculator.commit(1000)
    assert len(log.take()) == 1
    set_bid(calculator, "2", 1010)
    calculator.commit(1010)
    set_bid(calculator, "3", 1020)
    calculator.commit(1020)
    assert log.take() == []
    assert calculator.due_ms() == 1100
    set_bid(calculator, "4", 1100)  # a transaction is open when the interval ends
    calculator.tick(1100)
    assert log.take() == []
    calculator.commit(1101)
    assert [update["bids"] for update in log.take()] == [[["4", "1"], ["3", "1"], ["2", "1"]]]


def set_bid(calculator: Depth, price: str, now_ms: int, side: str = "buy") -> None:
    calculator.row({"symbol": "X", "side": side, "price": price, "size": "1"}, now_ms)


def test_a_crossed_book_is_held_back_until_it_uncrosses() -> None:
    log = Log()
    calculator = depth(log)
    set_bid(calculator, "10", 1)
    set_bid(calculator, "11", 1, "sell")
    calculator.commit(1)
    log.take()
    set_bid(calculator, "12", 2)
    calculator.commit(2)
    assert log.take() == []
    assert calculator.counts.crossed == 1
    calculator.row({"symbol": "X", "side": "ask", "price": "11.0", "size": "0"}, 3)
    calculator.commit(3)
    (update,) = log.take()
    assert (update["bids"], update["asks"]) == ([["12", "1"]], [["11", "0"]])


def test_a_book_that_stays_crossed_is_published_after_a_while() -> None:
    log = Log()
    calculator = depth(log, crossed_for_ms=500)
    set_bid(calculator, "12", 1)
    set_bid(calculator, "11", 1, "sell")
    calculator.commit(1)
    assert log.take() == []
    calculator.tick(calculator.due_ms())
    assert [message["type"] for message in log.take()] == ["snapshot"]


def test_after_a_gap_every_reader_gets_a_new_snapshot() -> None:
    log = Log()
    calculator = depth(log)
    set_bid(calculator, "10", 1)
    calculator.commit(1)
    calculator.reset(2)
    first, second = log.take()
    assert (first["seq"], second["seq"], second["type"]) == (1, 2, "snapshot")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"price": "1", "size": "1", "side": "buy"}, "no_symbol"),
        ({"symbol": "X", "size": "1", "side": "buy"}, "missing_price"),
        ({"symbol": "X", "price": "NaN", "size": "1", "side": "buy"}, "not_a_number"),
        ({"symbol": "X", "price": "1e9999999999999999999", "size": "1", "side": "buy"}, "number_too_long"),
        ({"symbol": "X", "price": "1", "size": "-1", "side": "buy"}, "negative_size"),
        ({"symbol": "X", "price": "1", "size": "1", "side": "left"}, "bad_side"),
    ],
)
def test_a_bad_row_changes_nothing(row: dict[str, object], reason: str) -> None:
    log = Log()
    calculator = depth(log)
    with pytest.raises(BadValue, match=reason):
        calculator.row(row, 1)
    calculator.commit(1)
    assert log.take() == []


@pytest.mark.parametrize(
    ("bids", "reason"),
    [
        ([["1", "1"], ["x", "1"]], "not_a_number"),
        ([["1", "1"], ["1", "2"]], "duplicate_level"),
        ([["1.5", "1"], ["1.50", "2"]], "duplicate_level"),
        ([["1"]], "bad_level"),
        ("text", "no_levels"),
        ([["1", "1"]] * 50_001, "book_too_large"),
    ],
)
def test_a_bad_snapshot_leaves_the_book_as_it_was(bids: object, reason: str) -> None:
    log = Log()
    calculator = depth(log, "snapshot")
    calculator.row({"symbol": "X", "bids": [["3", "1"]], "asks": []}, 1)
    calculator.commit(1)
    log.take()
    with pytest.raises(BadValue, match=reason):
        calculator.row({"symbol": "X", "bids": bids, "asks": []}, 2)
    calculator.row({"symbol": "X", "bids": [["3", "1"]], "asks": []}, 3)
    calculator.commit(3)
    assert log.take() == []


def test_the_same_rows_give_the_same_bytes() -> None:
    def run() -> list[bytes]:
        rng, log = random.Random(7), Log()
        calculator = depth(log, every_ms=50)
        model: Model = {"bids": {}, "asks": {}}
        for now_ms in range(1000, 5000, 10):
            feed(calculator, rng, model, "levels", now_ms)
            calculator.commit(now_ms)
            calculator.tick(now_ms)
        return [text for _, text in log.messages]

    assert run() == run()


def test_changes_may_be_in_one_list_or_of_one_side_and_say_their_side_by_any_word() -> None:
    log = Log()
    names = DepthNames(
        price="p", size="q", side="s", changes="changes", sides={"0": "buy", "1": "sell", "true": "buy"}
    )
    calculator = Depth(log, 0, names, "diffs", 0, 10, False, 1000)
    calculator.row({"symbol": "X", "changes": [["0", "1.0", "2"], ["1", "3.0", "4"]]}, 1)
    calculator.row({"symbol": "X", "changes": [{"s": True, "p": "1.5", "q": "1"}]}, 1)
    calculator.row({"symbol": "X", "asks": [["3.5", "9"]]}, 1)
    for bad in ([["2", "1", "1"]], [["0", "1"]], ["0"], None, 5):
        with pytest.raises(BadValue):
            calculator.row({"symbol": "X", "changes": bad}, 1)
    calculator.commit(1)
    client = BookClient()
    client.take(log.messages[-1][1])
    assert client.sides == {"bids": {"1.0": "2", "1.5": "1"}, "asks": {"3.0": "4", "3.5": "9"}}
