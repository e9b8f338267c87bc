"""Goal: whoever joins at any moment and reads at any speed ends with the source's book (invariants 1 and 2).

Method: the calculator, the channel and the cursors that serve clients, without sockets between them.  Clients read all,
read with pauses, read at an interval as CantonDEX's do, join and leave at random; `BookClient` refuses any hole.
"""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from support.market import BookClient

from broker.core.parts import Part
from broker.links.websocket.cursors import Cursors
from broker.market.depth import Depth
from broker.market.levels import DepthNames
from broker.market.stream import Stream
from broker.marketdata.parts import StreamPart, as_it_is


class Engine:
    now = 0.0


class Gateway:
    """As much of a gateway as cursors ask for."""

    def __init__(self) -> None:
        self.engine = Engine()

    def join_pacing(self, client: Reader) -> None:
        pass

    def leave_pacing(self, client: Reader) -> None:
        pass


class Reader:
    def __init__(self, gateway: Gateway, part: StreamPart, every_s: float) -> None:
        self.gateway = gateway
        self.part = part
        self.every_s = every_s
        self.book = BookClient()
        self.cursors = Cursors(self)  # type: ignore[arg-type]
        self.is_quick = True
        self.take(self.cursors.join(part.topic, [part], every_s))

    def pace(self, now: float) -> None:
        self.take(self.cursors.due(now))

    def take(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.book.take(payload)

    def offer(self, payload: bytes) -> None:
        part: Part = self.part
        if self.cursors.takes(part, self.is_quick):
            self.book.take(payload)

    def read(self) -> None:
        """There is room again."""
        self.is_quick = True
        while self.cursors.is_behind():
            self.take(self.cursors.catch_up())


class World:
    """A source with one symbol, and its readers."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.levels = self.rng.choice((3, 20, 1000))
        self.gateway = Gateway()
        self.readers: list[Reader] = []
        self.joined = 0
        self.part: StreamPart | None = None
        self.now_ms = 1_000_000
        self.shape = self.rng.choice(("levels", "diffs", "snapshot"))
        self.depth = Depth(
            self.publish, 0, DepthNames(), self.shape, self.rng.choice((0, 100)), self.levels, True, 1000
        )
        self.model: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}}

    def publish(self, stream: Stream, text: bytes) -> None:
        if self.part is None:
            self.part = StreamPart(b"X@depth", 0, False, stream, as_it_is)
        self.part.seq, self.part.prev = stream.seq, stream.prev
        for reader in self.readers:
            reader.offer(text)

    def change(self) -> None:
        """A transaction of the source."""
        rng = self.rng
        row: dict[str, object] = {"symbol": "X", "bids": [], "asks": []}
        for _ in range(rng.randint(0, 5)):
            side = rng.choice(("bids", "asks"))
            steps = Decimal(rng.randint(1, 40)) / rng.choice((1, 10))
            price = 100 - steps if side == "bids" else 100 + steps
            size = rng.choice(("0", "0", "1", "2.50"))
            if self.shape == "levels":
                self.depth.row({"symbol": "X", "side": side, "price": str(price), "size": size}, self.now_ms)
            levels = row[side]
            assert isinstance(levels, list)
            levels.append([str(price), size])
            self.model[side].pop(price, None)
            if size != "0":
                self.model[side][price] = size
        if self.shape == "snapshot":
            row = {"symbol": "X"} | {
                side: [[str(price), size] for price, size in levels.items()]
                for side, levels in self.model.items()
            }
        if self.shape != "levels":
            self.depth.row(row, self.now_ms)
        self.depth.commit(self.now_ms)

    def step(self) -> None:
        rng = self.rng
        self.now_ms += rng.choice((1, 30, 200))
        self.gateway.engine.now = self.now_ms / 1000
        self.change()
        self.depth.tick(self.now_ms)
        if rng.random() < 0.02:
            self.depth.reset(self.now_ms)
        for reader in self.readers:
            if reader.every_s:
                reader.pace(self.gateway.engine.now)
            elif rng.random() < 0.2:
                reader.is_quick = False
            elif rng.random() < 0.3:
                reader.read()

    def run(self, clients: int) -> None:
        while self.joined < clients:
            self.step()
            if self.part is None:
                continue
            for _ in range(self.rng.choice((0, 0, 1, 3))):
                self.joined += 1
                self.readers.append(Reader(self.gateway, self.part, self.rng.choice((0, 0, 0.1, 1.0))))
            if self.readers and self.rng.random() < 0.3:
                reader = self.rng.choice(self.readers)
                self.end(reader)
                self.readers.remove(reader)
        for reader in self.readers:
            self.end(reader)

    def end(self, reader: Reader) -> None:
        """Let it read the rest: it has the book that was published last, and at the end of all, the source's."""
        self.now_ms += 100
        self.gateway.engine.now = self.now_ms / 1000
        self.depth.tick(self.now_ms)
        if reader.every_s:
            reader.pace(self.gateway.engine.now + 10)
        else:
            reader.read()
        for side, levels in self.model.items():
            wanted = sorted(levels, reverse=side == "bids")[: self.levels]
            found = {Decimal(price): size for price, size in reader.book.sides[side].items()}
            assert found == {price: levels[price] for price in wanted}


def joins(count: int, first_seed: int) -> int:
    """So many clients, of worlds with up to fifty each; how many joined."""
    joined = 0
    seed = first_seed
    while joined < count:
        world = World(seed)
        world.run(50)
        joined += world.joined
        seed += 1
    return joined


def test_readers_that_join_and_lag_anywhere_end_with_the_sources_book() -> None:
    assert joins(300, 0) >= 300


@pytest.mark.slow
def test_ten_thousand_readers_end_with_the_sources_book() -> None:
    assert joins(10_000, 1000) >= 10_000
