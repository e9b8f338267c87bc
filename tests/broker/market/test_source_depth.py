"""Goal: a source that tells of its best levels only, and not of what leaves them, is followed to the digit.

Method: a venue as Kraken's: a random book, of which every message says what changed among the best ten of a side and
what came back to them, in numbers with all their zeros, and a checksum of its own kind over their digits.
"""

from __future__ import annotations

import random
from decimal import Decimal
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.market import BookClient, Log

from broker.market.depth import Depth
from broker.market.levels import DepthNames

SHOWN = 10
SIDES = ("bids", "asks")
Levels = list[tuple[str, str]]


class Venue:
    """A book with more levels than it tells of."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.levels: dict[str, dict[Decimal, str]] = {side: {} for side in SIDES}
        for _ in range(60):
            self.change()
        self.told = {side: dict(self.best(side)) for side in SIDES}

    def change(self) -> None:
        side = self.rng.choice(SIDES)
        steps = Decimal(self.rng.randint(1, 40))
        price = (Decimal("500.00000") - steps / 10) if side == "bids" else (Decimal("500.00000") + steps / 10)
        if self.rng.random() < 0.45:
            self.levels[side].pop(price, None)
        else:
            self.levels[side][price] = f"{self.rng.randint(1, 99)}.{self.rng.randint(0, 99):08d}"

    def best(self, side: str) -> Levels:
        prices = sorted(self.levels[side], reverse=side == "bids")[:SHOWN]
        return [(f"{price:.5f}", self.levels[side][price]) for price in prices]

    def message(self) -> dict[str, list[list[str]]]:
        """What changed since the last one; of what fell behind the tenth level there is no word."""
        found: dict[str, list[list[str]]] = {}
        for side in SIDES:
            now = dict(self.best(side))
            last = [Decimal(price) for price in now][-1:]
            gone = [
                price
                for price in self.told[side]
                if price not in now and (len(now) < SHOWN or (Decimal(price) > last[0]) == (side == "bids"))
            ]
            found[side] = [[price, "0.00000000"] for price in gone]
            found[side] += [
                [price, size] for price, size in now.items() if self.told[side].get(price) != size
            ]
            self.told[side] = now
        return found

    def checksum(self) -> int:
        return kraken_checksum(self.best("asks"), self.best("bids"))


def kraken_checksum(asks: Levels, bids: Levels) -> int:
    """CRC-32 of the digits of prices and sizes without points and leading zeros, asks first."""
    digits = [text.replace(".", "").lstrip("0") for level in asks + bids for text in level]
    return crc32("".join(digits).encode())


@pytest.mark.parametrize("every_ms", [0, 50])
@given(seed=st.integers(0, 2**32))
def test_a_book_of_the_best_levels_is_the_venues(seed: int, every_ms: int) -> None:
    rng = random.Random(seed)
    venue = Venue(rng)
    log = Log()
    depth = Depth(log, 0, DepthNames(), "diffs", every_ms, 1000, True, 1000, SHOWN)
    client = BookClient()
    row: dict[str, object] = {
        "symbol": "X",
        "type": "snapshot",
        **{side: [list(level) for level in venue.best(side)] for side in SIDES},
    }
    now_ms = 1_700_000_000_000
    for _ in range(60):
        depth.row(row, now_ms)
        depth.commit(now_ms)
        if rng.random() < 0.3:
            now_ms += 60
            depth.tick(now_ms)
            for _, text in log.messages:
                client.take(text)
            log.messages.clear()
            if client.seq:
                asks, bids = client.sorted("asks"), client.sorted("bids")
                assert kraken_checksum(asks[:SHOWN], bids[:SHOWN]) == venue.checksum()
                assert (asks, bids) == (venue.best("asks"), venue.best("bids"))
        for _ in range(rng.randint(1, 8)):
            venue.change()
        row = {"symbol": "X", "type": "update", **venue.message()}
