"""A channel at an interval: the first message at once, then what the interval brought, and silence costs nothing."""

from __future__ import annotations

import json

import pytest

from broker.core import barrier as barriers
from broker.core.counters import Counters
from broker.core.parts import Part
from broker.core.publication import Publication
from broker.gateway.aggregates import AGGREGATE_BYTES_MAX, Aggregate
from protocol.dialects.canton_market import MarketConflation
from protocol.dialects.conflation import Conflation


def aggregate(conflation: Conflation | None = None) -> tuple[Aggregate, list[Publication], Counters]:
    published: list[Publication] = []
    counters = Counters()
    made = Aggregate(b"out", b"in", 10.0, conflation or Conflation(), published.append, counters)
    return made, published, counters


def due(made: Aggregate, now: float) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    made.publish_due(now, lambda publication: found.append((publication.topic, publication.payload)))
    return found


def offer(made: Aggregate, *payloads: bytes) -> None:
    for payload in payloads:
        made.deliver(Publication(b"in", payload), 0, False)


def test_the_first_message_begins_the_interval_and_goes_out_at_once() -> None:
    made, _, _ = aggregate()
    assert due(made, 100.0) == []
    offer(made, b"1")
    assert due(made, 100.0) == [(b"out", b"1")]
    offer(made, b"2", b"3")
    assert due(made, 109.9) == []
    assert due(made, 110.0) == [(b"out", b"3")]


def test_an_interval_without_messages_is_not_waited_for() -> None:
    made, _, _ = aggregate()
    offer(made, b"1")
    due(made, 100.0)
    assert due(made, 110.0) == []
    offer(made, b"2")
    assert due(made, 110.5) == [(b"out", b"2")]
    assert made.due_at == 120.5


def test_what_has_a_state_is_passed_on_for_each_reader_to_ask() -> None:
    made, published, _ = aggregate()
    news = Publication(b"in", b"x")
    part = Part(b"in", 0, False)
    news.part = part
    made.deliver(news, 0, False)
    [passed] = published
    assert (passed.topic, passed.payload, passed.part) == (b"out", b"x", part)
    assert due(made, 100.0) == []


class Fails(Conflation):
    def key(self, channel: str, payload: bytes) -> str:
        if payload == b"bad":
            raise KeyError("unexpected")
        return channel


def test_what_nobody_expected_costs_what_was_collected_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(barriers, "RERAISE", False)
    made, _, counters = aggregate(Fails())
    offer(made, b"1", b"bad")
    assert counters.link_bugs == 1
    assert due(made, 100.0) == []
    offer(made, b"2")
    assert due(made, 100.0) == [(b"out", b"2")]


def test_what_has_no_room_ends_the_interval_early_and_nothing_is_left_out() -> None:
    """Changes of a book that were left out made the book wrong of whoever read it at this interval."""
    made, published, _ = aggregate(MarketConflation())
    update = b'{"type":"orderbook_update","changes":{"bids":[{"price":%d,"quantity":1}]},"pad":"%b"}'
    large = AGGREGATE_BYTES_MAX // 3
    payloads = [update % (price, b"x" * large) for price in range(4)] + [b"x" * (AGGREGATE_BYTES_MAX + 1)]
    offer(made, *payloads)
    prices = []
    for publication in published[:-1]:
        prices += [level["price"] for level in json.loads(publication.payload)["changes"]["bids"]]
    assert prices == [0, 1, 2, 3]
    assert published[-1].payload == payloads[-1]
    offer(made, payloads[0])
    assert due(made, 1000.0) == [(b"out", payloads[0])]


def test_of_large_messages_only_the_newest_comes_and_at_the_end_of_the_interval() -> None:
    made, published, _ = aggregate()
    payloads = [b"%d" % number * (AGGREGATE_BYTES_MAX * 3 // 4) for number in range(3)]
    offer(made, *payloads)
    assert published == []
    assert due(made, 1000.0) == [(b"out", payloads[-1])]
