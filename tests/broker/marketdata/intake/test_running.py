"""How one source's rows come: by the kind that it is, until it is another, or none any more."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from support.polling import until

from broker.config.feeds import FeedConfig, Route, Source
from broker.config.market import Intake, MarketConfig
from broker.core.engine import Engine
from broker.core.publication import Publication
from broker.feed.status import FeedStatus
from broker.marketdata.intake import polled
from broker.marketdata.intake.rows import IntakeRows
from broker.marketdata.intake.running import RunningIntake
from broker.marketdata.market import Market

FEED = FeedConfig("s", "", "tcp", (Source("s", ("s",)),), (Route("s", ("{id}",)),))
TCP = Intake("tcp", FEED, "127.0.0.1", 0)
UDP = Intake("udp", FEED, "127.0.0.1", 0)
MQTT = Intake("mqtt", FEED, filters=("in/#",))
QUERY = Intake("query", FEED, query="SELECT 1", key=("id",))


class Ports(list[int]):
    """Those that are open, and how many have been."""

    opened = 0

    def append(self, port: int) -> None:
        super().append(port)
        self.opened += 1


class Run:
    """A way, and the topics of the rows that came by it."""

    def __init__(self, intake: Intake) -> None:
        self.topics: list[bytes] = []
        self.place = b""
        self.ports = Ports()
        self.engine = Engine()
        self.market = Market(MarketConfig(), self.engine, {})
        self.status = FeedStatus("s")
        outlet: Any = self
        self.intake = RunningIntake(
            IntakeRows(intake, self.market, outlet, self.status), self.market, self.ports
        )

    def publish(self, topic: bytes, payload: bytes, qos: int, retain: bool, added: object = None) -> None:
        self.topics.append(topic)

    def flush(self) -> None: ...

    def mqtt(self, id: str, topic: bytes = b"in/x") -> None:
        with self.engine.turn:
            self.engine.publish(Publication(topic, b'{"id":"%b"}' % id.encode(), 1))

    async def tcp(self, id: str) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self.ports[0])
        await stream.send_all(b'{"id":"%b"}\n' % id.encode())
        await stream.aclose()
        await until(lambda: id.encode() in self.topics)

    async def udp(self, id: str) -> None:
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
            await sock.sendto(b'{"id":"%b"}' % id.encode(), ("127.0.0.1", self.ports[0]))
        await until(lambda: id.encode() in self.topics)

    def adopt(self, intake: Intake, *new_taps: str) -> None:
        with self.engine.turn:
            self.intake.adopt(intake, set(new_taps))


async def test_a_source_goes_from_one_way_to_another() -> None:
    run = Run(TCP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.intake.run)
        await until(lambda: bool(run.ports))
        await run.tcp("a")
        run.adopt(UDP)
        await until(lambda: run.ports.opened == 2)
        await run.udp("b")
        run.adopt(MQTT)
        await until(lambda: not run.ports)
        await until(lambda: run.status.state == "live")
        await trio.testing.wait_all_tasks_blocked()
        run.mqtt("c")
        run.adopt(TCP)
        await until(lambda: bool(run.ports))
        run.mqtt("d")
        await run.tcp("e")
        assert run.topics == [b"a", b"b", b"c", b"e"]
        nursery.cancel_scope.cancel()


async def test_what_is_no_other_place_keeps_its_port_and_takes_other_routes() -> None:
    run = Run(TCP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.intake.run)
        await until(lambda: bool(run.ports))
        before = list(run.ports)
        run.adopt(evolve(TCP, feed=evolve(FEED, routes=(Route("s", ("u/{id}",)),))))
        stream = await trio.open_tcp_stream("127.0.0.1", before[0])
        await stream.send_all(b'{"id":"a"}\n')
        await until(lambda: run.topics == [b"u/a"])
        assert run.ports == before
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("is_running", [True, False])
async def test_at_its_end_it_takes_nothing_more(is_running: bool) -> None:
    run = Run(MQTT)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            if is_running:
                nursery.start_soon(run.intake.run)
                await trio.testing.wait_all_tasks_blocked()
                run.mqtt("a")
            run.intake.end()
            if not is_running:
                nursery.start_soon(run.intake.run)
    run.mqtt("b")
    assert run.topics == [b"a"] * is_running


class Query:
    """A `PolledQuery` that is asked nothing; what it was told."""

    made: list[Query]

    def __init__(self, rows: IntakeRows, market: Market, status: FeedStatus) -> None:
        self.told: list[set[str]] = []
        self.adopted = 0
        self.is_asked = False
        self.made.append(self)

    def tell(self, keys: set[str]) -> None:
        self.told.append(keys)

    def adopt(self, config: FeedConfig) -> bool:
        self.adopted += 1
        return True

    async def attempt(self) -> None:
        self.is_asked = True
        await trio.sleep_forever()


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Query]:
    Query.made = []
    monkeypatch.setattr(polled, "PolledQuery", Query)
    return Query.made


async def test_a_query_goes_on_and_is_asked_anew_where_it_is_another(queries: list[Query]) -> None:
    run = Run(QUERY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.intake.run)
        await until(lambda: bool(queries) and queries[0].is_asked)
        [query] = queries
        run.adopt(evolve(QUERY, feed=evolve(FEED, routes=())), "new")
        assert (query.told, query.adopted) == ([{"new"}], 0)
        others = (
            evolve(QUERY, query="SELECT 2"),
            evolve(QUERY, query="SELECT 2", key=("a",)),
            evolve(QUERY, query="SELECT 2", key=("a",), every_s=9.0),
            evolve(QUERY, query="SELECT 2", key=("a",), every_s=9.0, feed=evolve(FEED, dsn="other")),
        )
        for count, other in enumerate(others, 1):
            run.adopt(other)
            assert query.adopted == count
        assert queries == [query]
        nursery.cancel_scope.cancel()


async def test_a_query_that_is_one_no_more_is_told_nothing(queries: list[Query]) -> None:
    run = Run(QUERY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run.intake.run)
        await until(lambda: bool(queries) and queries[0].is_asked)
        run.adopt(TCP)
        await until(lambda: bool(run.ports))
        run.adopt(TCP, "new")
        assert queries[0].told == []
        run.adopt(QUERY)
        await until(lambda: len(queries) == 2 and queries[1].is_asked)
        nursery.cancel_scope.cancel()
