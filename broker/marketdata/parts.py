"""A calculated stream on one topic: its messages as that topic's readers want them.  Pure."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from broker.core.parts import Part
from broker.market.stream import Stream
from protocol.dialects.exchange import event

Render = Callable[[bytes], bytes]
"""From a message's JSON to a payload."""


class StreamPart(Part):
    """One calculated stream, as a part of its topic.

    Args:
        stream: what is published.
        render: how.
    """

    def __init__(self, topic: bytes, qos: int, retain: bool, stream: Stream, render: Render) -> None:
        super().__init__(topic, qos, retain)
        self.stream = stream
        self.render = render
        self.seq = stream.seq
        self.prev = stream.prev
        self._state: tuple[int, list[bytes]] = (-1, [])
        self._since: tuple[int, int, list[bytes]] = (-1, -1, [])

    def become(self, other: StreamPart) -> None:
        """The same stream on the same topic is sent as another route says."""
        self.qos, self.retain, self.render = other.qos, other.retain, other.render
        self._state = (-1, [])
        self._since = (-1, -1, [])

    def state(self) -> list[bytes]:
        if self._state[0] != self.seq:
            self._state = (self.seq, [self.render(text) for text in self.stream.state()])
        return self._state[1]

    def since(self, seq: int) -> list[bytes]:
        # Many are slow by the same messages, when the network was.
        if self._since[:2] != (seq, self.seq):
            self._since = (seq, self.seq, [self.render(text) for text in self.stream.since(seq)])
        return self._since[2]


def as_it_is(text: bytes) -> bytes:
    """The text, unchanged: for a stream whose state is one message."""
    return text


def as_event(channel: str) -> Render:
    """`{"event":CHANNEL,"data":…}`"""
    empty = event(channel, b"")
    start = empty[:-1]

    def render(text: bytes) -> bytes:
        return start + text + b"}"

    return render


def as_envelope(channel: str) -> Render:
    """`{"channel":CHANNEL,"data":…}`, as Econia's clients want it."""
    start = b'{"channel":' + json.dumps(channel).encode() + b',"data":'

    def render(text: bytes) -> bytes:
        return start + text + b"}"

    return render


def as_canton_book(symbol: str) -> Render:
    """CantonDEX's `orderbook_update`; its numbers are JSON numbers, digit for digit."""
    name = json.dumps(symbol)

    def render(text: bytes) -> bytes:
        data = json.loads(text)
        sides = ",".join(
            f'"{side}":[{",".join(map(_canton_level, data[side]))}]' for side in ("bids", "asks")
        )
        order = (
            f'"snapshot":true,"seq":{data["seq"]}'
            if data["type"] == "snapshot"
            else (f'"prev":{data["prev"]},"seq":{data["seq"]}')
        )
        return (
            f'{{"type":"orderbook_update","symbol":{name},"timestamp":"{iso(data["ts"])}",'
            f'"changes":{{{sides}}},{order}}}'
        ).encode()

    return render


def _canton_level(level: list[str]) -> str:
    action = "delete" if level[1] == "0" else "update"
    return f'{{"price":{level[0]},"quantity":{level[1]},"action":"{action}"}}'


def as_canton_price(symbol: str) -> Render:
    """CantonDEX's `price_update`."""
    name = json.dumps(symbol)

    def render(text: bytes) -> bytes:
        data: dict[str, Any] = json.loads(text)
        numbers = (("bid", "bid"), ("ask", "ask"), ("mid", "mid"), ("last_price", "last"))
        fields = ",".join(f'"{shown}":{data[field] or "null"}' for shown, field in numbers)
        return f'{{"type":"price_update","symbol":{name},{fields},"timestamp":"{iso(data["ts"])}"}}'.encode()

    return render


def iso(at_ms: int) -> str:
    """As `2024-11-17T16:30:45Z`; milliseconds are shown where there are any."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).replace(tzinfo=None, microsecond=at_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds" if at_ms % 1000 else "seconds") + "Z"
