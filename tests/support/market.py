"""Readers of calculated channels, as somebody else would write them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any
from zlib import crc32

from broker.market.stream import Stream


class BookClient:
    """The 20-line client of `examples/clients`, which also checks what it is told."""

    def __init__(self) -> None:
        self.seq = 0
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def take(self, text: bytes) -> None:
        data: dict[str, Any] = json.loads(text)
        if data["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
            assert all(size != "0" for side in self.sides for _, size in data[side])
        else:
            assert data["prev"] == self.seq, "a hole"
        for side, levels in self.sides.items():
            for price, size in data[side]:
                if size == "0":
                    # Of several messages in one, a level may have come and gone.
                    assert price in levels or data["prev"] < data["seq"] - 1, (
                        "a removal of what was never sent"
                    )
                    levels.pop(price, None)
                else:
                    levels[price] = size
        self.seq = data["seq"]
        bids, asks = self.sorted("bids"), self.sorted("asks")
        assert len({Decimal(price) for price in self.sides["bids"]}) == len(bids)
        if bids and asks:
            assert Decimal(bids[0][0]) < Decimal(asks[0][0])
        if "checksum" in data:
            assert data["checksum"] == checksum(bids, asks)

    def sorted(self, side: str) -> list[tuple[str, str]]:
        levels = self.sides[side].items()
        return sorted(levels, key=lambda level: Decimal(level[0]), reverse=side == "bids")


def checksum(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> int:
    parts = []
    for i in range(25):
        for side in (bids, asks):
            parts += [":".join(level) for level in side[i : i + 1]]
    return crc32(":".join(parts).encode())


class Log:
    """Takes what a calculator publishes."""

    def __init__(self) -> None:
        self.messages: list[tuple[Stream, bytes]] = []

    def __call__(self, stream: Stream, text: bytes) -> None:
        self.messages.append((stream, text))

    def take(self) -> list[Any]:
        """What was published since the last time, decoded."""
        messages, self.messages = self.messages, []
        return [json.loads(text) for _, text in messages]
