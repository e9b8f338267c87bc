"""What nobody expected costs one item: every way in is given the same list of values, and a broker that fails."""

from __future__ import annotations

import contextlib
import logging
import time

import pytest
from support.peer import connected, subscribed

from broker.admin.publishing import BadPublish, MeshPublisher
from broker.config.dialects.canton import Canton
from broker.config.dialects.gateway import GatewayConfig
from broker.config.steps import finished
from broker.config.tokens import JwtConfig
from broker.core.barrier import barrier
from broker.core.counters import Counters
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.core.receiver import Receiver
from broker.feed.row_barrier import RowBarrier
from broker.feed.status import FeedStatus
from broker.gateway.gateway import Gateway
from broker.links.barrier import receive
from broker.outlet import EngineOutlet
from protocol.dialects.base import Subscribe
from protocol.dialects.canton_market import MarketConflation
from protocol.dialects.conflation import Conflation

HOSTILE = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"1e9999999999999999999",
    b"9" * 5000,
    b'"\\ud800"',
    b"NaN",
    b'{"type":"orderbook_update","changes":{"bids":[{"price":1e9999999999999999999}]}}',
    b'{"type":"orderbook_update","changes":{"bids":[{"price":NaN}],"asks":[{"price":[]}]}}',
    b'{"type":"orderbook_update","changes":{"bids":[{"price":"' + b"9" * 5000 + b'"}]}}',
    b'{"c":"canton:a\\u0000","d":"\\ud800"}',
    b'{"c":"canton:' + b"/" * 70_000 + b'","d":[]}',
]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.core.barrier._said", {})
    monkeypatch.setattr("broker.core.barrier.RERAISE", False)


def canton(engine: Engine) -> Gateway:
    config = GatewayConfig(canton=Canton(jwt=JwtConfig("secret" * 8)))
    return Gateway(config, engine, {})


def test_a_reason_is_counted_each_time_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    counters = Counters()
    with caplog.at_level(logging.ERROR):
        for second in range(90):
            now = 1000.0 + second
            with barrier(counters, "10.0.0.1:5"):
                int("secret")
    (reason,) = counters.unexpected
    assert counters.unexpected[reason] == counters.link_bugs == 90
    assert reason.startswith("ValueError at test_barrier.py:")
    first, second_line = [record.getMessage() for record in caplog.records]
    assert "10.0.0.1:5" in first
    assert "59 more" in second_line
    assert "secret" not in reason


def test_what_ends_a_task_passes() -> None:
    with pytest.raises(KeyboardInterrupt), barrier(Counters(), "x"):
        raise KeyboardInterrupt


def test_a_row_that_fails_is_dropped_and_a_connection_that_fails_is_not_its_fault() -> None:
    status = FeedStatus("f")
    rows = RowBarrier(status)
    for _ in range(3):
        with rows.of("table", b"public.t", 1.0):
            raise ArithmeticError
    assert status.dropped == {"unexpected": 3}
    with pytest.raises(OSError, match="gone"), rows.of("table", "public.t", 1.0):
        raise OSError("gone")


class Collector(Receiver):
    def __init__(self) -> None:
        super().__init__(plain=False)
        self.payloads: list[bytes] = []

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        self.payloads.append(publication.payload)


class Unmergeable(Conflation):
    def is_mergeable(self, key: str) -> bool:
        return True

    def merge(self, payloads: object) -> list[bytes]:
        raise ArithmeticError


async def test_an_interval_that_fails_costs_its_own_messages_and_nobody_elses() -> None:
    engine = Engine()
    gateway = canton(engine)
    reader = Collector()
    gateway.subscribe(reader, "canton", Subscribe("market_data/A", every_s=0.1), Unmergeable())
    gateway.subscribe(reader, "canton", Subscribe("market_data/B", every_s=0.1), Conflation())
    for number in range(2):
        for channel in ("market_data/A", "market_data/B"):
            gateway.publish("canton", channel, b"%d" % number)
    engine.now = 100.0
    await gateway.publish_aggregates()
    assert engine.counters.link_bugs == 1
    assert reader.payloads == [b"1"], "that of B"
    gateway.publish("canton", "market_data/A", b"alone")  # what failed is not tried again for ever
    engine.now = 200.0
    await gateway.publish_aggregates()
    assert reader.payloads == [b"1", b"alone"]
    assert engine.counters.link_bugs == 1


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
async def test_no_value_is_more_than_one_item(value: bytes) -> None:
    engine = Engine()
    gateway = canton(engine)
    reader = Collector()
    bystander = subscribed(engine, (b"fine", 0))
    for every_s in (0.0, 0.1):
        wanted = Subscribe("market_data/A", every_s=every_s)
        gateway.subscribe(reader, "canton", wanted, MarketConflation())
    for _ in range(3):
        gateway.publish("canton", "market_data/A", value)
    await gateway.publish_aggregates()
    with contextlib.suppress(BadPublish):
        publisher = MeshPublisher(gateway)
        publisher.publish(finished(publisher.read(value)))
    outlet = EngineOutlet(engine, None)
    outlet.publish(b"row", value, 1, True)
    for packet_type in range(16):
        receive(connected(engine, b"peer").link, bytes([packet_type << 4, min(len(value), 127)]) + value)
    outlet.publish(b"fine", b"still here", 0, False)
    engine.flush()
    assert len(bystander.read()) == 1
    assert engine.counters.link_bugs == 0, engine.counters.unexpected


class FailsOnce(Receiver):
    """A receiver with a bug that the first message meets."""

    def __init__(self) -> None:
        super().__init__(plain=False)
        self.has_failed = False

    def deliver(self, publication: Publication, granted: int, retained: bool) -> None:
        if not self.has_failed:
            self.has_failed = True
            raise ZeroDivisionError


def test_a_broker_that_fails_at_one_row_takes_the_next() -> None:
    engine = Engine()
    engine.subscribe(FailsOnce(), b"a", 0)
    reader = subscribed(engine, (b"#", 0))
    outlet = EngineOutlet(engine, None)
    outlet.publish(b"a", b"lost", 0, False)
    outlet.publish(b"a", b"here", 0, False)
    engine.flush()
    assert [packet.payload for packet in reader.read()] == [b"here"]  # type: ignore[union-attr]
    assert sum(engine.counters.unexpected.values()) == 1
