"""Where a feed's publications go: rows of taps and gaps to the calculators, everything but the rows to the engine."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from attrs import evolve

from broker.config.feeds import FeedConfig, Source
from broker.config.market import TAP_TARGET, DepthConfig, MarketConfig, Tap
from broker.core.engine import Engine
from broker.core.positions import Positions
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.gateway.channels import topic_of
from broker.marketdata.market import Market
from broker.marketdata.outlet import MarketOutlet

TAP = Tap("s", (("depth", 0),))
ROW = b'{"symbol":"X","side":"bid","price":"1","size":"2"}'


class Heard(Receiver):
    """Takes everything."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(plain=False)
        self.messages: list[Publication] = []
        engine.subscribe(self, b"#", 2)
        engine.subscribe(self, b"$SYS/#", 2)

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.messages.append(publication)


def made(**more: Any) -> tuple[MarketOutlet, Market, Heard]:
    engine = Engine()
    config = MarketConfig(depth=(DepthConfig("s", shape="levels", every_s=0.0),), taps=(TAP,), **more)
    market = Market(config, engine, {})
    return MarketOutlet(engine, None, market, Positions("e")), market, Heard(engine)


def test_a_tap_s_rows_are_for_calculators_alone_and_are_told_at_the_end_of_their_transaction() -> None:
    outlet, market, heard = made()
    one = market.running["depth", 0]
    outlet.publish(topic_of(TAP_TARGET, TAP.key), ROW, 1, False)
    assert one.status.received == 1
    assert one.calculator.streams() == []
    outlet.flush()
    assert len(one.calculator.streams()) == 1
    outlet.flush()
    assert one.status.received == 1
    assert heard.messages == []


def test_other_messages_go_on_as_they_are() -> None:
    outlet, market, heard = made()
    outlet.place = b"7"
    assert outlet.place == b"7"
    outlet.publish(b"t", b"x", 2, True)
    [message] = heard.messages
    assert (message.topic, message.payload, message.qos, message.retain) == (b"t", b"x", 2, True)
    assert market.running["depth", 0].status.received == 0


@pytest.mark.parametrize(
    ("topic", "resets"),
    [
        (b"$SYS/feed/s/gap", 1),
        (b"$SYS/feed/other/gap", 0),
        (b"$SYS/feed/s/state", 0),
        (b"else/feed/s/gap", 0),
        (b"$SYS/feed/main/gap", 0),
    ],
)
def test_a_gap_of_a_source_is_its_calculators_and_everybody_s(topic: bytes, resets: int) -> None:
    outlet, market, heard = made()
    outlet.publish(topic, b"{}", 1, True)
    assert market.running["depth", 0].calculator.counts.resets == resets
    assert [message.topic for message in heard.messages] == [topic]


@pytest.mark.parametrize(("feed", "resets"), [(b"main", 1), (b"another", 0)])
def test_a_gap_of_the_database_s_feed_is_one_of_all_its_sources(feed: bytes, resets: int) -> None:
    outlet, market, _ = made(database=FeedConfig("main", "", "wal", (Source("s", ()),)))
    outlet.publish(b"$SYS/feed/%b/gap" % feed, b"{}", 1, True)
    assert market.running["depth", 0].calculator.counts.resets == resets


def test_a_gap_of_the_database_s_feed_is_none_of_sources_beside_it() -> None:
    database = FeedConfig("main", "", "wal", (Source("t", ()),))
    outlet, market, _ = made(database=database)
    outlet.publish(b"$SYS/feed/main/gap", b"{}", 1, True)
    assert market.running["depth", 0].calculator.counts.resets == 0
    market.adopt(evolve(market.config, database=evolve(database, sources=(Source("s", ()),))))
    outlet.publish(b"$SYS/feed/main/gap", b"{}", 1, True)
    assert market.running["depth", 0].calculator.counts.resets == 1


async def test_it_is_as_durable_and_as_strained_as_the_engine() -> None:
    outlet, _, _ = made()
    with trio.fail_after(60):
        await outlet.durable()
    assert (outlet.is_strained, outlet.awaits_readers(0.0)) == (False, False)
