"""One symbol's book: what messages say of it, and that a price keeps its text for whoever was told of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from support.market import BookClient

from broker.market.book import GONE, NO_FLOOR, Book, Side
from broker.market.levels import Level
from broker.market.numbers import BadValue, parse


def book(depth: int = 10, checksum: bool = False) -> Book:
    return Book({"symbol": "X"}, 0, depth, checksum)


def stage(made: Book, side: str, price: str, size: str) -> None:
    made.stage(side == "bids", parse(price), parse(size))


def applied(made: Book, *changes: tuple[str, str, str]) -> dict[str, Any]:
    for side, price, size in changes:
        stage(made, side, price, size)
    text = made.apply(7)
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def test_the_first_message_is_all_and_the_next_what_changed() -> None:
    made = book()
    first = applied(made, ("bids", "1.0", "2"), ("asks", "3", "4"), ("asks", "2.5", "1"))
    assert first == {
        "type": "snapshot",
        "seq": 1,
        "bids": [["1.0", "2"]],
        "asks": [["2.5", "1"], ["3", "4"]],
        "ts": 7,
    }
    assert applied(made) == {}
    second = applied(made, ("bids", "1.00", "5"), ("asks", "3.0", "0"), ("bids", "0.5", "0"))
    assert second == {
        "type": "update",
        "prev": 1,
        "seq": 2,
        "bids": [["1.0", "5"]],
        "asks": [["3", "0"]],
        "ts": 7,
    }


def test_a_finer_price_makes_no_other_level_of_one_that_is_there() -> None:
    made = book()
    applied(made, ("bids", "1", "2"), ("asks", "3", "1"))
    applied(made, ("bids", "1.25", "1"))
    assert applied(made, ("bids", "1.00", "9"))["bids"] == [["1", "9"]]
    assert applied(made, ("asks", "3.000", "0"))["asks"] == [["3", "0"]]


def test_only_the_published_depth_is_told_of() -> None:
    made = book(depth=2)
    applied(made, ("bids", "5", "1"), ("bids", "4", "1"), ("bids", "3", "1"))
    assert applied(made, ("bids", "3", "9")) == {}
    assert applied(made, ("bids", "6", "1"))["bids"] == [["6", "1"], ["4", "0"]]
    assert applied(made, ("bids", "5", "0"))["bids"] == [["5", "0"], ["4", "1"]]
    assert applied(made, ("bids", "6", "0"), ("bids", "2", "1"))["bids"] == [["6", "0"], ["3", "9"]]


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [("1", "2", False), ("2", "2.0", True), ("2.01", "2", True), ("", "2", False), ("2", "", False)],
)
def test_a_bid_is_below_every_ask(bid: str, ask: str, expected: bool) -> None:
    made = book()
    for side, price in (("bids", bid), ("asks", ask)):
        if price:
            stage(made, side, price, "1")
    assert made.is_crossed() == expected
    assert made.has_staged() == bool(bid or ask)


def test_what_is_staged_counts_before_it_is_applied() -> None:
    made = book()
    applied(made, ("bids", "1", "1"), ("bids", "2", "1"))
    assert made.bids.best_staged() == 2
    stage(made, "bids", "2", "0")
    assert made.bids.best_staged() == 1
    assert (made.bids.is_live(2), made.bids.is_live(1)) == (False, True)
    stage(made, "bids", "1", "0")
    assert made.bids.best_staged() == NO_FLOOR
    stage(made, "bids", "3", "1")
    assert made.bids.best_staged() == 3


def levels(*pairs: tuple[str, str]) -> list[Level]:
    return [(parse(price), parse(size)) for price, size in pairs]


def test_a_whole_book_takes_away_what_it_has_not() -> None:
    made = book()
    applied(made, ("bids", "1", "1"), ("bids", "2", "1"), ("asks", "3", "1"))
    stage(made, "bids", "1.5", "1")
    made.stage_whole(levels(("2.0", "4")), levels(("3", "1"), ("4", "1")))
    update = json.loads(made.apply(8))
    assert update["bids"] == [["2", "4"], ["1", "0"]]
    assert update["asks"] == [["4", "1"]]


def test_a_price_that_is_there_twice_is_refused_in_any_spelling() -> None:
    made = book()
    made.check_distinct(levels(("1", "1"), ("1.5", "1")))
    with pytest.raises(BadValue, match=r"^duplicate_level$"):
        made.check_distinct(levels(("1", "1"), ("1.50", "1"), ("1.5", "2")))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_levels_behind_the_best_so_many_go(count: int) -> None:
    side = Side(1, 10)
    for key in (1, 2, 3):
        side.stage(key, str(key), "1")
    side.apply()
    side.stage(2, "2", "")
    side.stage(4, "4", "1")
    side.stage_best_only(count)
    side.apply()
    assert side.keys == [1, 3, 4][max(3 - count, 0) :]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("depth", [3, 1000])
def test_whoever_was_away_for_any_time_gets_to_the_book_as_it_is(seed: int, depth: int) -> None:
    rng = random.Random(seed)
    made = book(depth, checksum=True)
    made.remembered_max = 20
    clients: list[BookClient] = []
    for _ in range(120):
        for _ in range(rng.randint(0, 3)):
            side = rng.choice(("bids", "asks"))
            steps = rng.randint(1, 30)
            price = f"{100 - steps if side == 'bids' else 100 + steps}" + rng.choice(("", ".0", ".00"))
            stage(made, side, price, rng.choice(("0", "1", "2.5")))
        made.apply(1)
        if made.seq and rng.random() < 0.2:
            clients.append(BookClient())
        for client in clients:
            if rng.random() < 0.2 and client.seq != made.seq:
                for text in made.since(client.seq) if client.seq else made.state():
                    client.take(text)
    for client in clients:
        if client.seq != made.seq:
            for text in made.since(client.seq) if client.seq else made.state():
                client.take(text)
        for name, of in (("bids", made.bids), ("asks", made.asks)):
            top = [tuple(json.loads(level)) for level in of.top(depth)]
            assert client.sorted(name) == top
    assert made.remembered <= made.remembered_max


def test_who_has_a_message_that_is_forgotten_or_unknown_gets_all() -> None:
    made = book()
    made.remembered_max = 1
    for size in ("1", "2", "3", "4"):
        applied(made, ("bids", "1", size))
    assert json.loads(made.since(1)[0])["type"] == "snapshot"
    assert json.loads(made.since(made.seq + 1)[0])["type"] == "snapshot"
    assert json.loads(made.since(made.seq - 1)[0])["type"] == "update"


def test_after_forgetting_the_state_is_told_anew() -> None:
    made = book()
    applied(made, ("bids", "1", "1"))
    made.is_fresh = True
    stage(made, "bids", "1", "0")
    assert json.loads(made.apply(1)) == {"type": "snapshot", "seq": 2, "bids": [], "asks": [], "ts": 1}
    assert made.bids.gone == {}
    assert made.bids.levels.get(1, GONE) == GONE
