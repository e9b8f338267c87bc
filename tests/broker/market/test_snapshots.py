"""Whole books compared as texts: whatever order levels stand in, what is found leads from one to the other."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.market import BookClient, Log

from broker.market.depth import Depth
from broker.market.levels import DepthNames
from broker.market.numbers import BadValue
from broker.market.snapshots import differences
from broker.market.written import written_from

Levels = list[list[str]]


def drawn_side(rng: random.Random, old: Levels) -> Levels:
    """A side as it may follow another: levels changed, gone, added, in or out of order."""
    levels = sizes_of(old)
    for _ in range(rng.choice((0, 1, 3, 20, 200))):
        price = f"{rng.randint(90, 400)}.{rng.randint(0, 3)}"
        if rng.random() < 0.4:
            levels.pop(rng.choice(list(levels)) if levels else "", None)
        else:
            levels[price] = str(rng.randint(1, 9))
    found = [list(level) for level in levels.items()]
    order = rng.random()
    if order < 0.6:
        found.sort(key=lambda level: float(level[0]), reverse=rng.random() < 0.8)
    elif order < 0.7:
        rng.shuffle(found)
    return found


def sizes_of(levels: Levels) -> dict[str, str]:
    return {price: size for price, size in levels}  # noqa: C416 - pairs are lists


def told(levels: list[Any]) -> dict[str, str]:
    return {price.text: size.text for price, size in levels}


@pytest.mark.parametrize("seed", range(40))
def test_differences_lead_from_one_side_to_the_next(seed: int) -> None:
    rng = random.Random(seed)
    old: Levels = []
    for _ in range(15):
        new = drawn_side(rng, old)
        found = differences(written_from(old, "price", "size"), written_from(new, "price", "size"))
        made = sizes_of(old)
        for price in found.gone:
            del made[price.text]
        assert all(made[price.text] for price, _ in found.changed)
        made |= told(found.changed)
        made |= told(found.added)
        assert made == sizes_of(new)
        old = new


def test_little_is_found_where_little_has_changed() -> None:
    """The cost is that of what has changed, also behind a level that came or went."""
    old = [[f"{price}.50", "1"] for price in range(2000, 1000, -1)]
    new = [
        ["2001.50", "4"],
        *([price, "7" if i % 100 == 5 else size] for i, (price, size) in enumerate(old[:-2])),
    ]
    del new[500]
    found = differences(written_from(old, "p", "s"), written_from(new, "p", "s"))
    assert (len(found.gone), len(found.changed), len(found.added)) == (3, 10, 1)


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ([["1", "2"], ["1", "3"]], "duplicate_level"),
        ([["1", "2"], ["1.0", "3"]], "duplicate_level"),
        ([["9", "2"], ["5", "1"], ["9", "2"]], "duplicate_level"),
        ([["5", "1"], ["5.00", "1"]], "duplicate_level"),
        ([["1\n2\n3", "2"]], "not_a_number"),
        ([["1\n2\n]\n3", "2"]], "bad_level"),
        ([["1", None]], "bad_level"),
        ([["1"]], "bad_level"),
        (["1"], "bad_level"),
        ([5], "bad_level"),
        ([["x", "1"]], "not_a_number"),
        ([["1", "-1"]], "negative_size"),
        ([["1", "1" * 60]], "number_too_long"),
    ],
)  # fmt: skip
def test_a_bad_snapshot_changes_nothing(levels: list[Any], reason: str) -> None:
    log = Log()
    depth = Depth(log, 0, DepthNames(), "snapshot", 0, 100, True, 0)
    depth.set_book("X", [["5", "1"], ["4", "1"]], [["7", "1"]], 1)
    depth.commit(1)
    rows: list[tuple[list[Any], list[Any]]] = [(levels, [["8", "1"]]), ([["3", "1"]], levels)]
    for bids, asks in rows:
        with pytest.raises(BadValue, match=reason):
            depth.set_book("X", bids, asks, 2)
    depth.commit(2)
    depth.set_book("X", [["5", "1"], ["4", "2"]], [["7", "1"]], 3)
    depth.commit(3)
    client = BookClient()
    for _, text in log.messages:
        client.take(text)
    assert client.sides == {"bids": {"5": "1", "4": "2"}, "asks": {"7": "1"}}


@pytest.mark.parametrize("seed", range(20))
def test_books_follow_snapshots_and_changes_in_any_mixture(seed: int) -> None:
    """Snapshots with sizes of 0, arrays with more than two members, and objects; changes between them."""
    rng = random.Random(seed)
    log = Log()
    depth = Depth(log, 0, DepthNames(), "diffs", 0, 1000, True, 0)
    bids: Levels = []
    client = BookClient()
    for number in range(30):
        if rng.random() < 0.8:
            bids = drawn_side(rng, bids)
            rows: list[Any] = list(bids)
            form = rng.random()
            if form < 0.2:
                rows = [[*level, "0", "4"] for level in bids]
            elif form < 0.4:
                rows = [{"price": price, "size": size} for price, size in bids]
            elif form < 0.5:
                rows.insert(rng.randint(0, len(rows)), ["1.5", rng.choice(("0", "0.00"))])
            depth.set_book("X", rows, [["1000", "1"]], number)
        elif bids:
            price = rng.choice(bids)[0]
            size = rng.choice(("0", "77"))
            depth.change_book("X", [[price, size]], [], number)
            bids = [level for level in bids if level[0] != price] + ([[price, size]] if size != "0" else [])
        depth.commit(number)
        for _, text in log.messages:
            client.take(text)
        log.messages.clear()
        assert client.sides["bids"] == sizes_of(bids)
